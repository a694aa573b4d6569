"""Optimisers rest on single IEEE operations: their bits are those of a sequence written out, on any machine."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import optimizer_runs as optimizers
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from podlt.program.optimizer import optimizer_from

GOLDEN = Path(__file__).parents[1] / "vectors" / "optimizers.json"
f32 = np.float32
ONE_ROUNDING = {
    "mul.Tensor",
    "mul_.Tensor",
    "mul.out",
    "add_.Tensor",
    "add.Tensor",
    "sub_.Tensor",
    "div.out",
    "div_.Tensor",
}
COPIES = {"new_full.default", "detach.default", "empty_like.default", "clone.default"}


class Recorder(TorchDispatchMode):
    """Notes each operation that torch is asked for, and each quotient by a number."""

    def __init__(self):
        super().__init__()
        self.names, self.numbers = set(), []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = f"{function.overloadpacket.__name__}.{function._overloadname}"
        self.names.add(name)
        if name.startswith("div") and not isinstance(args[1], torch.Tensor):
            self.numbers.append(name)
        assert not {"alpha", "value"} & set(kwargs or {}), f"{name} may fuse a product into a sum"
        return function(*args, **(kwargs or {}))


def sgd(spec, p, g, state, step, factor):
    """The definition of a step, each line one float32 operation an element."""
    change = g
    if decay := spec.get("weight_decay"):
        change = change + p * f32(decay)
    if momentum := spec.get("momentum"):
        state["momentum"] = state["momentum"] * f32(momentum) + change
        change = change + state["momentum"] * f32(momentum) if spec.get("nesterov") else state["momentum"]
    return p - change * f32(spec["lr"] * factor)


def adamw(spec, p, g, state, step, factor):
    """The same for AdamW."""
    lr, (first, second) = spec["lr"] * factor, spec.get("betas", (0.9, 0.999))
    state["first"] = state["first"] * f32(first) + g * f32(1 - first)
    state["second"] = state["second"] * f32(second) + (g * g) * f32(1 - second)
    p = p * f32(1 - lr * spec.get("weight_decay", 0.01))
    size = np.sqrt(state["second"]) / f32(math.sqrt(1 - second ** (step + 1))) + f32(spec.get("eps", 1e-8))
    return p - (state["first"] / size) * f32(lr / (1 - first ** (step + 1)))


@pytest.mark.parametrize("name", sorted(optimizers.SPECS))
def test_a_step_is_the_written_sequence_of_float32_operations(name):
    spec = optimizers.SPECS[name]
    optimizer = optimizer_from(spec)
    p = optimizers.start().numpy()
    state = {key: value.numpy() for key, value in optimizer.init(len(p)).items()}
    for step in range(optimizers.STEPS):
        define = sgd if spec["name"] == "sgd" else adamw
        p = define(spec, p, optimizers.gradient(step).numpy(), state, step, optimizer.factor(step))
    got = optimizers.trained(spec)
    for found, want in zip(got, [p, *(state[key] for key in sorted(state))], strict=True):
        assert found.dtype == torch.float32
        assert np.array_equal(found.numpy().view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("name", sorted(optimizers.SPECS))
def test_torch_is_asked_for_single_operations_and_never_for_a_quotient_by_a_number(name):
    optimizer = optimizer_from(optimizers.SPECS[name])
    parameters, gradient, state = optimizers.start(), optimizers.gradient(0), optimizer.init(1014)
    with Recorder() as seen:
        optimizer.rule.step(parameters, gradient, state, 4, optimizer.factor(4))
    assert {"mul.Tensor", "sub_.Tensor"} <= seen.names <= ONE_ROUNDING | COPIES
    assert seen.numbers == []


def test_optimizers_give_their_golden_vectors():
    assert optimizers.digests() == json.loads(GOLDEN.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
@pytest.mark.parametrize("library", ["SSE4_2", "AVX2"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_and_instruction_sets_do_not_change_them(capability, library, threads):
    environment = {
        "ATEN_CPU_CAPABILITY": capability,
        "MKL_ENABLE_INSTRUCTIONS": library,
        "OMP_NUM_THREADS": threads,
        "NPY_DISABLE_CPU_FEATURES": "AVX512F" if capability == "default" else "",
    }
    child = subprocess.run(
        [sys.executable, optimizers.__file__],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout) == json.loads(GOLDEN.read_text())
