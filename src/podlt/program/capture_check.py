"""What a captured program must show before it is used: the numbers of the user's own module, on several sizes of batch,
and an update that is a sum over lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from podlt.errors import UnsupportedError
from podlt.program.divisor import over_divisor
from podlt.program.eager import GivenDraws, eager_step, widened
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec, Program
from podlt.program.layout import TORCH_DTYPES
from podlt.program.line_sums import LINES, LineSums, run_program
from podlt.program.operations import STOCK_ARITHMETIC
from podlt.program.philox import uniform
from podlt.program.trace import WithLoss, explain
from podlt.program.update import DIVISOR

TOLERANCE = 1e-11
"""How far float64 may be from float64, by the size of a tensor's largest element."""

FLOAT32_TOLERANCE, FLOAT32_FACTOR = 2e-6, 32
"""How far float32 may be from float64: by the largest element's size, and by the program's own error in float32."""

SEED = 1

NO_SUM = (
    "the loss must be a sum over lines, a mean over them, or one value a line: {why}, and the update would depend on "
    "how the lines are dealt to workers. {cure}"
)

Lines = Mapping[str, torch.Tensor]
Place = Callable[[int], str]
"""Which operation a node is, and where in the user's code."""


def check_numbers(program: Program, module: WithLoss, state: Lines, sizes: Sequence[int], lines: Lines) -> None:
    """Compares the program with the module, on the first so many lines.

    In float64, where the module can be run in it; else in float32, by float32's own error: it makes float32 tensors
    itself (`.float()`, `softmax(dtype=...)`), or asks for the type's epsilon.

    Args:
        program: what was captured.
        module: stays as it is.
        state: its parameters and buffers.
        sizes: numbers of lines.
        lines: at least as many.

    Raises:
        UnsupportedError: they differ: the trace lost something.
    """
    wide = {name: widened(value, torch.float64) for name, value in state.items()}
    executor = Executor(program, double=True)
    for size in sizes:
        batch = {name: value[:size] for name, value in lines.items()}
        found = run_program(executor, wide, {n: widened(v, torch.float64) for n, v in batch.items()}, SEED)
        if DIVISOR in found and not found[DIVISOR]:
            continue  # no line of them has a label: PyTorch's own mean is no number
        found = over_divisor(found)
        if _differs_wide(found, module, wide, batch):
            fault = _differs_narrow(found, program, module, state, batch)
            if fault:
                raise UnsupportedError(
                    f"{type(module.model).__name__} cannot be captured: on a batch of {size} the captured step gives "
                    f"another {fault} than the model itself: does its Python code ask for the number of lines, or "
                    "change something outside of its buffers?"
                )


def _differs_wide(found: Lines, module: WithLoss, wide: Lines, batch: Lines) -> bool:
    try:
        eager = eager_step(module, batch, GivenDraws(SEED, uniform), torch.float64)
    except Exception:  # it makes float32 tensors of its own: it is tried in float32
        return True
    return bool(_worst(found, eager, wide, len(next(iter(batch.values()))), lambda name, size: TOLERANCE * (1 + size)))


def _differs_narrow(found: Lines, program: Program, module: WithLoss, state: Lines, batch: Lines) -> str:
    """What differs in float32, and by how much; "" if nothing does."""
    try:
        eager = eager_step(module, batch, GivenDraws(SEED, uniform), torch.float32)
    except Exception as error:
        raise UnsupportedError(explain(error, module.model)) from error
    executor = Executor(program, arithmetic=STOCK_ARITHMETIC)
    narrow = over_divisor(run_program(executor, state, batch, SEED, double=False))
    own = {name: _largest(value.double() - found[name].double()) for name, value in narrow.items()}
    largest = max(_largest(value) for name, value in found.items() if name.startswith(("loss", "grad:")))

    def bound(name: str, size: float) -> float:
        return FLOAT32_FACTOR * own.get(name, 0.0) + FLOAT32_TOLERANCE * (size + 0.01 * largest)

    return _worst(found, eager, state, len(next(iter(batch.values()))), bound)


def _worst(found: Lines, eager: Lines, state: Lines, lines: int, bound: Callable[[str, float], float]) -> str:
    """The first output that is further from the module's own than it may be, and how far."""
    for name, expected in eager.items():
        actual = found.get(name)
        if actual is None:  # what is no output is a buffer that the program holds to be unchanged
            actual = state[name] * lines if state[name].is_floating_point() else state[name]
        error = _largest(actual.double() - expected.double())
        if not error <= bound(name, _largest(expected.double())):
            return f"{name} (by {error:.1e})"
    return ""


def _largest(value: torch.Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0


def check_sums(program: Program, places: Place, state: Lines, lines: Lines, least: int) -> str:
    """Whether the update of a batch is the sum of those of its parts.

    Args:
        program: as it was captured, its nodes numbered as `places` has them.
        places: which operation a node is, and where.
        state: parameters and buffers.
        lines: at least `LINES`.
        least: of how few lines the program can be run.

    Returns:
        "" if it is, else why not, and what to do.
    """
    wide = {name: widened(value, torch.float64) for name, value in state.items()}
    batch = {name: widened(value[:LINES], torch.float64) for name, value in lines.items()}
    sums = LineSums(program, wide, batch, least)
    fault = sums.fault()
    if not fault:
        return ""
    if fault.startswith("buffer:"):
        return (
            f"buffer {fault[7:]} is no mean over lines: its new value would depend on how the lines are dealt to "
            "workers. Let it be a mean over the batch, or a number that each step changes in the same way"
        )
    node, of_lines = sums.first_difference()
    if of_lines:
        return (
            f"the lines of a batch see each other in {places(node)}: the update would depend on how the lines are "
            "dealt to workers, which BatchNorm alone may do. Use BatchNorm, LayerNorm or GroupNorm, or numbers worked "
            "out beforehand and kept in a buffer"
        )
    if sums.has_other_term():
        cure = "Give the mean over lines with the term, or use the optimizer's weight_decay"
        return NO_SUM.format(why="there is a term beside the lines (a penalty on weights?)", cure=cure)
    why = f"{places(node)} divides by something that depends on the data (class weights, tokens or labels counted?)"
    return NO_SUM.format(why=why, cure="Give one value a line (reduction='none'), or divide by a fixed number")


def example(fields: Sequence[FieldSpec], lines: int) -> dict[str, torch.Tensor]:
    """A small batch of the right types; whole numbers are 0 or 1, which every vocabulary has."""
    generator = torch.Generator().manual_seed(lines)
    batch = {}
    for field in fields:
        shape, dtype = (lines, *field.shape), TORCH_DTYPES[field.dtype]
        if dtype.is_floating_point:
            batch[field.name] = torch.rand(shape, generator=generator, dtype=dtype)
        else:
            batch[field.name] = torch.randint(0, 2, shape, generator=generator, dtype=dtype)
    return batch
