"""Calls that a stranger's program may hold: refused before a kernel runs, or run without harm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from podlt.errors import InvalidProofError, PodltError
from podlt.exact.operations import ROWS
from podlt.program.operations import STOCK
from podlt.program.validate import validate

from .hostile_calls import BOUND, Guarded, calls, program_of, result_types, run

ROOT = Path(__file__).parents[2]
Change = Callable[[torch.Tensor], Any]


def shorter(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1)[: x.numel() - 1]


def taller(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x, x], -1)


def no_pixels(x: torch.Tensor) -> torch.Tensor:
    return x[..., :0]


WRONG: list[tuple[str, int, Callable[[Any], Any]]] = [
    ("convolution.default", 2, shorter),
    ("convolution.default", 4, lambda padding: []),
    ("convolution.default", 3, lambda stride: [0, 0]),
    ("convolution.default", 8, lambda groups: 0),
    ("convolution_backward.default", 0, taller),
    ("convolution_backward.default", 3, lambda sizes: [1]),
    ("convolution_backward.default", 5, lambda padding: []),
    ("convolution_backward.default", 10, lambda mask: [True]),
    ("native_group_norm.default", 1, shorter),
    ("native_group_norm.default", 2, shorter),
    ("native_group_norm.default", 5, lambda length: 2 * length),
    ("native_group_norm.default", 6, lambda groups: 4),
    ("native_group_norm_backward.default", 0, taller),
    ("native_group_norm_backward.default", 2, shorter),
    ("native_group_norm_backward.default", 4, shorter),
    ("native_batch_norm_backward.default", 0, taller),
    ("native_batch_norm_backward.default", 5, shorter),
    ("native_batch_norm_backward.default", 1, no_pixels),
    ("_adaptive_avg_pool2d_backward.default", 0, lambda grad: torch.cat([grad, grad], 1)),
    ("_adaptive_avg_pool2d_backward.default", 1, no_pixels),
    ("_adaptive_avg_pool2d.default", 1, lambda size: [1, 2**31]),
    ("max_pool2d_with_indices.default", 1, lambda kernel: [2**40, 2**40]),
    ("avg_pool2d.default", 1, lambda kernel: [2**40, 2**40]),
    ("avg_pool2d_backward.default", 3, lambda stride: [2**40, 2**40]),
]


@pytest.mark.parametrize(("name", "position", "change"), WRONG)
def test_a_wrong_shape_or_attribute_is_refused_where_the_right_one_is_taken(
    name: str, position: int, change: Callable[[Any], Any]
) -> None:
    arguments, options = next(given for given in calls(name) if given[0][position] is not None)
    kinds = result_types(name, arguments, options)
    for arithmetic in ("stock", "exact/2"):
        validate(program_of(name, arguments, options, kinds, arithmetic), max_bytes=BOUND, examples=3)
        wrong = [change(a) if i == position else a for i, a in enumerate(arguments)]
        with pytest.raises(InvalidProofError, match=f"program: node 1 .{name}"):
            validate(program_of(name, wrong, options, kinds, arithmetic), max_bytes=BOUND, examples=3)


@pytest.mark.parametrize("arithmetic", ["stock", "exact/2"])
@pytest.mark.parametrize("name", ["nll_loss_backward.default", "nll_loss2d_backward.default"])
@pytest.mark.parametrize("target", [-1, 99, 2**62])
def test_a_class_that_there_is_not_is_refused_when_the_loss_is_run(name: str, target: int, arithmetic: str) -> None:
    """Where nothing is reduced, PyTorch's kernels write at any class (torch 2.13)."""
    arguments, options = next(given for given in calls(name) if given[0][4] == 0)
    program = program_of(name, arguments, options, result_types(name, arguments, options), arithmetic)
    validate(program, max_bytes=BOUND, examples=3)
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
    state = {f"frozen:{2 + i}": Guarded(a) for i, a in enumerate(tensors)}
    state["param:w"] = Guarded(torch.zeros(2))
    run(program, state)
    next(g.tensor for g in state.values() if g.tensor.dtype is torch.int64).reshape(-1)[0] = target
    with pytest.raises(PodltError, match="failed on these values"):
        run(program, state)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_wrong_call_of_any_operation_ends_the_process(seed: int) -> None:
    """Inputs end where memory ends, so that what reads behind them is seen."""
    names = sorted(STOCK - {"uniform", "constant"})
    assert {*names} <= {*ROWS}
    command = [sys.executable, "-W", "ignore", "-m", "tests.program.hostile_calls", str(seed), "12", *names]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "MALLOC_PERTURB_": "165"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    ran = ended.stdout.splitlines()
    how = signal.Signals(-ended.returncode).name if ended.returncode < 0 else ended.stderr[-2000:]
    assert ended.returncode == 0, f"{how} in {ran[-1] if ran else 'the first call'}"
    assert {json.loads(line)[0] for line in ran} >= {*names} - {
        "max_pool2d_with_indices_backward.default"
    }  # has no place
