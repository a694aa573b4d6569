"""What a captured program must show before it is used: the numbers of the user's own module, on several sizes of batch,
and an update that is a sum over examples."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing

import torch

from podlt.errors import UnsupportedError
from podlt.program.divisor import divisor_of
from podlt.program.eager import GivenDraws, eager_outputs, widened
from podlt.program.example_sums import EXAMPLES, ExampleSums
from podlt.program.execute import Executor
from podlt.program.heap import trim
from podlt.program.ir import FieldSpec, Program
from podlt.program.layout import TORCH_DTYPES
from podlt.program.operations import STOCK_ARITHMETIC
from podlt.program.philox import uniform
from podlt.program.rests import rows_of, some_rows
from podlt.program.streaming import streamed
from podlt.program.trace import WithLoss, explain
from podlt.program.update import DIVISOR

TOLERANCE = 1e-11
"""How far float64 may be from float64, by the size of a tensor's largest element."""

FLOAT32_TOLERANCE, FLOAT32_FACTOR = 2e-6, 32
"""How far float32 may be from float64: by the largest element's size, and by the program's own error in float32."""

TRIMMED_AT = 2**26
"""For each so many bytes of gradients the heap gives back its holes, where activations were."""

SEED = 1

NO_SUM = (
    "the loss must be a sum over examples, a mean over them, or one value an example: {why}, and the update would "
    "depend on how the examples are dealt to workers. {cure}"
)

Examples = Mapping[str, torch.Tensor]
Outputs = Generator[tuple[str, torch.Tensor], None, None]
Place = Callable[[int], str]
"""Which operation a node is, and where in the user's code."""


def check_numbers(
    program: Program, module: WithLoss, state: Examples, sizes: Sequence[int], examples: Examples
) -> None:
    """Compares the program with the module, on the first so many examples.

    In float64, where the module can be run in it; else in float32, by float32's own error: it makes float32 tensors
    itself (`.float()`, `softmax(dtype=...)`), or asks for the type's epsilon.

    Args:
        program: what was captured.
        module: stays as it is.
        state: its parameters and buffers.
        sizes: numbers of examples.
        examples: at least as many.

    Raises:
        UnsupportedError: they differ: the trace lost something.
    """
    for size in sizes:
        batch = {name: value[:size] for name, value in examples.items()}
        trim(sum(value.nbytes for value in state.values()))
        divisor = divisor_of(program, state, batch)
        if divisor == 0.0:
            continue  # no example of them has a label: PyTorch's own mean is no number
        if _differs_wide(program, module, state, batch, divisor or 1.0):
            fault = _differs_narrow(program, module, state, batch, divisor or 1.0)
            if fault:
                raise UnsupportedError(
                    f"{type(module.model).__name__} cannot be captured: on a batch of {size} the captured step gives "
                    f"another {fault} than the model itself: does its Python code ask for the number of examples, or "
                    "change something outside of its buffers?"
                )


_NO_MORE = "", torch.empty(0)


class _Comparison:
    """The module's own outputs beside the program's: each is compared and dropped as soon as both are known.

    The program is executed as far as the module's own backward pass has come. Both give their gradients in nearly the
    same order, so that few are alive at once.

    Args:
        outputs: the program's, computed as they are asked for.
        state: parameters and buffers: what the program does not give is a buffer that it holds to be unchanged.
        examples: of the batch.
        divisor: of the program's loss and gradients.
    """

    def __init__(self, outputs: Outputs, state: Examples, examples: int, divisor: float) -> None:
        self._outputs, self._state, self._examples, self._divisor = outputs, state, examples, divisor
        self._own: dict[str, torch.Tensor] = {}
        self._given: dict[str, torch.Tensor] = {}
        self._errors: dict[str, float] = {}
        self._sizes: dict[str, float] = {}
        self.largest, self._gone = 0.0, TRIMMED_AT  # the first time once both losses are known
        self.failure: Exception | None = None

    def take(self, name: str, value: torch.Tensor) -> None:
        """Takes an output of the module's own; a gradient waits for the program's."""
        self._sizes[name] = _largest(value)
        self._own[name] = value
        if name in self._given:
            self._compare(name, self._given.pop(name))
        while name.startswith("grad:") and name in self._own and self._advance():
            pass

    def worst(self, bound: Callable[[str, float], float]) -> str:
        """The first output that is further from the module's own than it may be, and how far."""
        while self._advance():
            pass
        for name in list(self._own):
            value = self._state[name]
            self._compare(name, value * self._examples if value.is_floating_point() else value)
        gradients = (f"grad:{name[6:]}" if name.startswith("param:") else name for name in self._state)
        for name in ("loss", *gradients):
            if name in self._errors and not self._errors[name] <= bound(name, self._sizes[name]):
                return f"{name} (by {self._errors[name]:.1e})"
        return ""

    def _advance(self) -> bool:
        """Has the program compute its next output; false if there is none."""
        try:
            name, value = next(self._outputs, _NO_MORE)
        except Exception as error:
            self.failure = error
            raise
        if not name:
            return False
        if name.startswith(("loss", "grad:")):
            self.largest = max(self.largest, _largest(value) / self._divisor)
        if name in self._own:
            self._compare(name, value)
        elif name != DIVISOR:
            self._given[name] = value
        return True

    def _compare(self, name: str, actual: torch.Tensor) -> None:
        divisor = 1.0 if name.startswith("buffer:") else self._divisor
        expected = self._own.pop(name)
        self._errors[name] = _distance(actual, divisor, expected)
        self._gone += expected.nbytes
        if self._gone >= TRIMMED_AT:
            trim(self._gone)
            self._gone = 0


def _differs_wide(program: Program, module: WithLoss, state: Examples, batch: Examples, divisor: float) -> bool:
    with closing(_given(Executor(program, double=True), state, _wide(batch))) as outputs:
        found = _Comparison(outputs, state, len(next(iter(batch.values()))), divisor)
        try:
            eager_outputs(module, batch, GivenDraws(SEED, uniform), torch.float64, found.take)
        except Exception:  # it makes float32 tensors of its own: it is tried in float32
            if found.failure is not None:
                raise found.failure from None
            return True
        return bool(found.worst(lambda name, size: TOLERANCE * (1 + size)))


def _differs_narrow(program: Program, module: WithLoss, state: Examples, batch: Examples, divisor: float) -> str:
    """What differs in float32, and by how much; "" if nothing does."""
    narrow_divisor = divisor_of(program, state, batch, double=False) or 1.0
    own: dict[str, float] = {}

    def both(narrow: Outputs, double: Outputs) -> Outputs:
        for (name, before), (_, value) in zip(narrow, double, strict=True):
            if name != DIVISOR:
                is_buffer = name.startswith("buffer:")
                own[name] = _distance(
                    value, 1.0 if is_buffer else divisor, before if is_buffer else before / narrow_divisor
                )
            yield name, value

    with (
        closing(_given(Executor(program, arithmetic=STOCK_ARITHMETIC), state, batch)) as narrow,
        closing(_given(Executor(program, double=True), state, _wide(batch))) as double,
    ):
        found = _Comparison(both(narrow, double), state, len(next(iter(batch.values()))), divisor)
        try:
            eager_outputs(module, batch, GivenDraws(SEED, uniform), torch.float32, found.take)
        except Exception as error:
            if found.failure is not None:
                raise found.failure from None
            raise UnsupportedError(explain(error, module.model)) from error

        def bound(name: str, size: float) -> float:
            return FLOAT32_FACTOR * own.get(name, 0.0) + FLOAT32_TOLERANCE * (size + 0.01 * found.largest)

        return found.worst(bound)


def _given(executor: Executor, state: Examples, batch: Examples) -> Outputs:
    """A program's outputs, computed as they are asked for."""
    return streamed(lambda each: executor.give(state, batch, SEED, each))


def _wide(batch: Examples) -> dict[str, torch.Tensor]:
    return {name: widened(value, torch.float64) for name, value in batch.items()}


def _largest(value: torch.Tensor) -> float:
    if not value.numel():
        return 0.0
    low, high = torch.aminmax(value.byte() if value.dtype is torch.bool else value)
    return max(-float(low), float(high))


def _distance(actual: torch.Tensor, divisor: float, expected: torch.Tensor) -> float:
    """The largest difference between one tensor over a number and another, in float64; part by part, for its memory."""
    if not actual.numel():
        return 0.0
    one, other, found = rows_of(actual), rows_of(expected.reshape(actual.shape)), []
    for some in some_rows(one):
        part = one[some].double()
        found.append(((part / divisor if divisor != 1.0 else part) - other[some]).abs().max())
    return float(torch.stack(found).max())


def check_sums(program: Program, places: Place, state: Examples, examples: Examples, least: int) -> str:
    """Whether the update of a batch is the sum of those of its parts.

    Args:
        program: as it was captured, its nodes numbered as `places` has them.
        places: which operation a node is, and where.
        state: parameters and buffers.
        examples: at least `EXAMPLES`.
        least: of how few examples the program can be run.

    Returns:
        "" if it is, else why not, and what to do.
    """
    sums = ExampleSums(program, state, _wide({name: value[:EXAMPLES] for name, value in examples.items()}), least)
    fault = sums.fault()
    if not fault:
        return ""
    if fault.startswith("buffer:"):
        return (
            f"buffer {fault[7:]} is no mean over examples: its new value would depend on how the examples are dealt to "
            "workers. Let it be a mean over the batch, or a number that each step changes in the same way"
        )
    node, of_examples = sums.first_difference()
    if of_examples:
        return (
            f"the examples of a batch see each other in {places(node)}: the update would depend on how the examples "
            "are dealt to workers, which BatchNorm alone may do. Use BatchNorm, LayerNorm or GroupNorm, or numbers "
            "worked out beforehand and kept in a buffer"
        )
    if sums.has_other_term():
        cure = "Give the mean over examples with the term, or use the optimizer's weight_decay"
        return NO_SUM.format(why="there is a term beside the examples (a penalty on weights?)", cure=cure)
    why = f"{places(node)} divides by something that depends on the data (class weights, tokens or labels counted?)"
    return NO_SUM.format(why=why, cure="Give one value an example (reduction='none'), or divide by a fixed number")


def example(fields: Sequence[FieldSpec], examples: int) -> dict[str, torch.Tensor]:
    """A small batch of the right types; whole numbers are 0 or 1, which every vocabulary has."""
    generator = torch.Generator().manual_seed(examples)
    batch = {}
    for field in fields:
        shape, dtype = (examples, *field.shape), TORCH_DTYPES[field.dtype]
        if dtype.is_floating_point:
            batch[field.name] = torch.rand(shape, generator=generator, dtype=dtype)
        else:
            batch[field.name] = torch.randint(0, 2, shape, generator=generator, dtype=dtype)
    return batch
