"""What a captured program must show before it is used: the numbers of the user's own module, in float64."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from podlt.errors import UnsupportedError
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec, Program
from podlt.program.layout import TORCH_DTYPES

if TYPE_CHECKING:
    from podlt.program.trace import WithLoss

TOLERANCE = 1e-11
LINES = 6
SEED = 1
NO_SUM = (
    "the loss must be a sum over lines (or one value a line): a mean over the batch, or a term beside the lines, would "
    "make the update depend on how the lines are dealt"
)


def admit(program: Program, module: WithLoss, state: Mapping[str, torch.Tensor], fields: Sequence[FieldSpec]) -> None:
    """Compares the program with the module on an example, both in float64.

    A program that draws random numbers has no eager twin; it is compared with itself instead: the gradient must be
    that of its loss, along one direction, by a finite difference.

    Raises:
        UnsupportedError: they differ: the trace lost something, such as state in Python code.
    """
    batch = dict(zip([f.name for f in fields], example(fields, LINES), strict=True))
    wide = {name: _wide(value) for name, value in state.items()}
    executor = Executor(program, double=True)
    found = _run(executor, wide, batch)
    _check_sum(program, wide, batch)
    if any(node.operation == "uniform" for node in program.nodes):
        _check_slope(executor, wide, batch, found)
        return
    for name, expected in _eager(module, batch).items():
        # What is no output is a buffer that the program holds to be unchanged.
        actual = found[name] if name in found else _times_lines(wide[name])
        error = float((actual - expected).abs().max()) if expected.numel() else 0.0
        size = 1.0 + (float(expected.abs().max()) if expected.numel() else 0.0)
        if not error <= TOLERANCE * size:
            raise UnsupportedError(
                f"the captured step gives another {name} than the model itself (by {error:.1e}): does its Python code "
                "keep state from call to call?"
            )


def example(fields: Sequence[FieldSpec], lines: int) -> list[torch.Tensor]:
    """A small batch of the right types; whole numbers are 0 or 1, which every vocabulary has."""
    generator = torch.Generator().manual_seed(lines)
    batch = []
    for field in fields:
        shape, dtype = (lines, *field.shape), TORCH_DTYPES[field.dtype]
        if dtype.is_floating_point:
            batch.append(torch.rand(shape, generator=generator, dtype=dtype))
        else:
            batch.append(torch.randint(0, 2, shape, generator=generator, dtype=dtype))
    return batch


def _check_sum(program: Program, state: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> None:
    """A batch in which every line occurs twice must have twice the loss: a mean hides how many lines it is of.

    Random draws are all 1/2 here, so that both copies of a line meet the same.
    """
    executor = Executor(program, double=True, draw=_halves)
    once = _run(executor, state, batch)["loss"]
    twice = _run(executor, state, {name: torch.cat([value, value]) for name, value in batch.items()})["loss"]
    if not float((twice - 2 * once).abs()) <= 1e-6 * (1e-6 + float(once.abs())):
        raise UnsupportedError(NO_SUM)


def _halves(seed: int, draw: int, shape: list[int]) -> torch.Tensor:
    return torch.full(shape, 0.5)


def _times_lines(value: torch.Tensor) -> torch.Tensor:
    return value * LINES if value.is_floating_point() else value


def _wide(value: torch.Tensor) -> torch.Tensor:
    return value.double() if value.is_floating_point() else value.clone()


def _run(
    executor: Executor, state: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    program, lines = executor.program, next(iter(batch.values())).shape[0]
    out = {}
    for name, value in program.outputs:
        kind = program.types[value]
        dtype = torch.float64 if kind.dtype == "f32" else TORCH_DTYPES[kind.dtype]
        out[name] = torch.empty(kind.at(lines), dtype=dtype)
    executor.run(state, {name: _wide(value) for name, value in batch.items()}, SEED, out)
    return out


def _eager(module: WithLoss, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Loss, gradients and buffers of the module itself, on a copy of it; float buffers times the lines."""
    twin = copy.deepcopy(module).double().train()
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        loss, buffers = twin(*(_wide(value) for value in batch.values()))
        named = {n: p for n, p in twin.model.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
    finally:
        torch.set_default_dtype(default)
    return {
        "loss": loss.detach(),
        **{f"grad:{n}": g for n, g in zip(named, gradients, strict=True)},
        **{f"buffer:{n}": _times_lines(b) for n, b in buffers.items()},
    }


def _check_slope(
    executor: Executor,
    state: Mapping[str, torch.Tensor],
    batch: Mapping[str, torch.Tensor],
    found: Mapping[str, torch.Tensor],
) -> None:
    generator = torch.Generator().manual_seed(SEED)
    step, slope = 1e-6, 0.0
    ahead, behind = dict(state), dict(state)
    for name, gradient in found.items():
        if name.startswith("grad:"):
            direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
            slope += float((gradient * direction).sum())
            parameter = "param:" + name[5:]
            ahead[parameter] = state[parameter] + step * direction
            behind[parameter] = state[parameter] - step * direction
    measured = float(_run(executor, ahead, batch)["loss"] - _run(executor, behind, batch)["loss"]) / (2 * step)
    if not abs(measured - slope) <= 1e-3 * (1 + abs(slope)):
        raise UnsupportedError(
            f"the captured gradient is not that of the captured loss (slope {slope:.6g}, measured {measured:.6g})"
        )
