"""Runs a program: a pure function of state, batch and seed, on the table of its arithmetic and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from podlt.errors import UsageError
from podlt.exact.operations import named
from podlt.exact.operations.row import Family
from podlt.exact.portable.devices import CPU, torch_device
from podlt.program.descent import Rule
from podlt.program.ir import Program, resolve
from podlt.program.layout import TORCH_DTYPES
from podlt.program.liveness import VIEWS, last_uses, references, sums_in_place
from podlt.program.operations import STOCK_ARITHMETIC, table, writing
from podlt.program.pieces import PieceSums, piece_bounds, piece_seed
from podlt.program.wide import WideMemory, widening

Trace = Callable[[int, Sequence[torch.Tensor]], None]
Draw = Callable[[int, int, list[int]], torch.Tensor]

_FACTORIES = named(Family.FACTORY)

MAX_CACHED = 64
"""For how many numbers of examples the resolved steps are kept."""

Step = Callable[[list[Any], int], None]


class Executor:
    """Runs one program for any number of examples.

    Args:
        program: a validated program.
        double: compute in float64 instead of float32, with PyTorch's kernels (for the admission test of capture).
        draw: stands in for the program's random draws (for the same test).
        check: is called once with each number of examples before the first run with it, and raises if the program does
            not hold for it (`validate.check_examples`).
        arithmetic: another than the program's (to infer shapes, which are PyTorch's in every arithmetic).
        device: where it computes, as `operations.table` takes it. What `run` is given may lie elsewhere: it is copied.

    Raises:
        UnsupportedError: no table of its arithmetic on the device, or an operation that is not in it.
        UsageError: no such device here.
    """

    def __init__(
        self,
        program: Program,
        *,
        double: bool = False,
        draw: Draw | None = None,
        check: Callable[[int], None] | None = None,
        arithmetic: str | None = None,
        device: str = CPU,
    ) -> None:
        self.program, self._check = program, check
        name = STOCK_ARITHMETIC if double else arithmetic or program.arithmetic
        self._table = {**table(name, device), **({"uniform": draw} if draw else {})}
        self._device = None if device == CPU else torch_device(device)
        self._writes_out = writing(name, device)
        self._dtypes = {**TORCH_DTYPES, "f32": torch.float64} if double else TORCH_DTYPES
        self._steps: dict[int, list[Step]] = {}
        self._direct = _direct_outputs(program)
        self._dying = last_uses(program)
        self._narrow, self._wide = _narrow(program) if double else frozenset(), WideMemory()
        self._in_place = sums_in_place(program, self._dying) if double else frozenset()

    def run(
        self,
        state: Mapping[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
        seed: int,
        out: Mapping[str, torch.Tensor],
        trace: Trace | None = None,
    ) -> None:
        """Writes the update of a shard: loss and gradients summed over its examples, piece by piece (`pieces`).

        Args:
            state: "param:…", "frozen:…", "buffer:…".
            batch: the shard's fields by name, one row an example.
            seed: 64 bits for the program's random draws.
            out: "loss", "grad:…", and the buffers that change; a float buffer is written times the number of examples,
                so that a sum over shards divided by all examples is its mean.
            trace: is called after each node with its number and its outputs.
        """
        bounds = piece_bounds(next(iter(batch.values())).shape[0], self.program.micro_batch_size)
        if len(bounds) == 1:
            self._run_at_once(state, batch, seed, out, trace)
            return
        sums = PieceSums()
        for i, (start, stop) in enumerate(bounds):
            # In fresh, aligned memory: stock kernels may round by alignment.
            part = {name: value[start:stop].clone() for name, value in batch.items()}
            self._run_at_once(state, part, piece_seed(seed, i), out, trace)
            sums.add(out)
        sums.write(out)

    def _run_at_once(
        self,
        state: Mapping[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
        seed: int,
        out: Mapping[str, torch.Tensor],
        trace: Trace | None,
    ) -> None:
        """As `run`, for examples that are no more than a piece's."""
        examples, values = next(iter(batch.values())).shape[0], self._given(state, batch)
        for i, (name, _) in enumerate(self.program.outputs, len(self.program.types)):
            values[i] = out[name]
        with torch.no_grad():
            self._execute(values, examples, seed, trace, self._dying)
            for name, value in self.program.outputs:
                if values[value] is not out[name]:
                    self._write(out[name], values[value], name, examples)

    def give(
        self,
        state: Mapping[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
        seed: int,
        each: Callable[[str, torch.Tensor], None],
        trace: Trace | None = None,
    ) -> None:
        """Gives each output as soon as it is known, and keeps none: their memory is that of the largest.

        Args:
            state: as for `run`; in float32 even where it is computed in float64.
            batch: as for `run`.
            seed: as for `run`.
            each: is called with an output's name and its value, which may share memory with others; in the order in
                which they are computed.
            trace: as for `run`.
        """
        examples, known = next(iter(batch.values())).shape[0], len(self.program.inputs)
        values = self._given(state, batch)
        wanted: dict[int, list[str]] = {}
        for name, value in self.program.outputs:
            wanted.setdefault(value, []).append(name)

        def tell(value: int, found: torch.Tensor) -> None:
            for name in wanted.get(value, ()):
                is_mean = name.startswith("buffer:") and found.is_floating_point()
                each(name, found * float(examples) if is_mean else found)

        def look(number: int, outputs: Sequence[torch.Tensor]) -> None:
            if trace is not None:
                trace(number, outputs)
            for value, found in zip(self.program.nodes[number].outputs, outputs, strict=True):
                tell(value, found)

        with torch.no_grad():
            for value in [value for value in wanted if value < known]:
                tell(value, values[value])
            self._execute(values, examples, seed, look, last_uses(replace(self.program, outputs=())))

    def run_local_steps(
        self,
        state: Mapping[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
        seed: int,
        out: Mapping[str, torch.Tensor],
        steps: int,
        rule: Rule,
    ) -> None:
        """Writes the change of the parameters after some steps over parts of the shard, times its examples.

        Args:
            state: as for `run`; it stays as it is.
            batch: as for `run`.
            seed: of the first step; each further one has the next number.
            out: as for `run`.
            steps: into how many parts the shard is cut (its examples, if it has fewer).
            rule: of the steps. Its state begins at zero in every task: a shard is dealt to anyone, and none of them
                has the state of who had one before.

        As "loss" the sum of the losses that were met, over what they are means over if not examples, times examples;
        "grad:…" is examples x (start - end), and a divisor the number of examples.
        """
        examples = next(iter(batch.values())).shape[0]
        own = {name: value.clone() for name, value in state.items()}
        total, divisors = torch.zeros((), dtype=torch.float32), torch.zeros((), dtype=torch.float32)
        count = min(steps, examples)
        moments = {n: rule.init(value.numel()) for n, value in own.items() if n.startswith("param:")}
        for step in range(count):
            start, stop = examples * step // count, examples * (step + 1) // count
            part = {name: value[start:stop].clone() for name, value in batch.items()}
            self.run(own, part, seed + step, out)
            total, over = total + out["loss"], float(stop - start)
            if "divisor" in out:
                divisors, over = divisors + out["divisor"], float(out["divisor"]) or 1.0
            for name, value in out.items():
                if name.startswith("grad:"):
                    parameter = "param:" + name[5:]
                    gradient = _divided(value, over).reshape(-1)
                    rule.step(own[parameter].view(-1), gradient, moments[parameter], step)
                elif name.startswith("buffer:"):
                    own[name].copy_(_divided(value, stop - start) if value.is_floating_point() else value)
        for name, value in out.items():
            if name == "loss":
                value.copy_(_divided(total, float(divisors) or 1.0) * float(examples) if "divisor" in out else total)
            elif name == "divisor":
                value.fill_(float(examples))
            elif name.startswith("grad:"):
                parameter = "param:" + name[5:]
                value.copy_((state[parameter] - own[parameter]) * float(examples))
            else:
                value.copy_(own[name] * float(examples) if value.is_floating_point() else own[name])

    def _given(self, state: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> list[Any]:
        """The values before the first node, and room for the outputs' memory behind them."""
        values: list[Any] = [None] * (len(self.program.types) + len(self.program.outputs))
        for i, name in enumerate(self.program.inputs):
            kind, _, rest = name.partition(":")
            given = batch[rest] if kind == "batch" else state[name]
            values[i] = given if self._device is None else given.to(self._device)
        return values

    def _execute(
        self, values: list[Any], examples: int, seed: int, trace: Trace | None, dying: Sequence[Sequence[int]]
    ) -> None:
        steps = self._steps.get(examples)
        if steps is None:
            if self._check is not None:
                self._check(examples)
            if len(self._steps) >= MAX_CACHED:
                self._steps.clear()
            nodes = range(len(self.program.nodes))
            steps = self._steps[examples] = [self.resolve(i, examples, direct=True) for i in nodes]
        i = -1
        try:
            for i, step in enumerate(steps):
                step(values, seed)
                if trace is not None:
                    trace(i, [values[o] for o in self.program.nodes[i].outputs])
                for dead in dying[i]:
                    values[dead] = None
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError) as error:
            where = f"node {i} ({self.program.nodes[i].operation})" if i >= 0 else "inputs"
            raise UsageError(f"program: {where} failed on these values: {error}") from error

    def resolve(self, number: int, examples: int, *, meta: bool = False, direct: bool = False) -> Step:
        """A node with everything looked up beforehand that does not change from run to run.

        Args:
            number: of the node.
            examples: the number of examples.
            meta: what the node makes from nothing is made on the meta device, where it takes no memory.
            direct: a gradient is written where the update wants it, which `run` keeps after the values.
        """
        node = self.program.nodes[number]
        operation: Callable[..., Any] = self._table[node.operation]
        writing_out = self._writes_out.get(node.operation)
        if node.operation not in VIEWS and not self._narrow.isdisjoint(references(node.arguments)):
            operation = widening(node.operation, operation, self._wide)
            writing_out = writing_out and widening(node.operation, writing_out, self._wide)
        if number in self._in_place and not meta:
            operation = _add_onto
        fixed = {key: self._constant(a, examples) for key, a in node.keywords.items()}
        if node.operation in _FACTORIES and "dtype" not in fixed and self._dtypes is not TORCH_DTYPES:
            fixed["dtype"] = self._dtypes[self.program.types[node.outputs[0]].dtype]  # else torch's default
        if meta and node.operation in _FACTORIES:
            fixed["device"] = torch.device("meta")
        if node.operation == "uniform":
            return _drawing(operation, [self._constant(a, examples) for a in node.arguments], node.outputs[0])
        slots = [(i, a["v"]) for i, a in enumerate(node.arguments) if isinstance(a, dict) and "v" in a]
        nested = [(i, self._nested(a, examples)) for i, a in enumerate(node.arguments) if _holds_values(a)]
        variable = {i for i, _ in slots} | {i for i, _ in nested}
        template = [None if i in variable else self._constant(a, examples) for i, a in enumerate(node.arguments)]
        target = self._direct.get(node.outputs[0])
        if direct and writing_out is not None and target is not None and not fixed:
            return _single(writing_out, template, slots, node.outputs[0], target)
        if len(node.outputs) == 1 and not nested and not fixed:
            return _single(operation, template, slots, node.outputs[0])
        return _general(operation, template, slots, nested, fixed, node.outputs)

    def _constant(self, item: Any, examples: int) -> Any:
        """An argument that is the same in every run."""
        if isinstance(item, dict):
            if "t" in item:
                return self._dtypes[item["t"]]
            return float(item["f"]) if "f" in item else resolve(item, examples)
        return [self._constant(part, examples) for part in item] if isinstance(item, list) else item

    def _nested(self, item: Any, examples: int) -> Callable[[list[Any]], Any]:
        """A list with values in it, as a function of the values."""
        if isinstance(item, list):
            parts = [self._nested(part, examples) for part in item]
            return lambda values: [part(values) for part in parts]
        if isinstance(item, dict) and "v" in item:
            number = item["v"]
            return lambda values: values[number]
        constant = self._constant(item, examples)
        return lambda values: constant

    @staticmethod
    def _write(view: torch.Tensor, value: torch.Tensor, name: str, examples: int) -> None:
        if name.startswith("buffer:") and value.is_floating_point():
            view.copy_(value * float(examples))
        else:
            view.copy_(value)


def _divided(value: torch.Tensor, n: float) -> torch.Tensor:
    """value / n by a tensor on its device: CUDA would multiply by the reciprocal of a number."""
    return value / torch.full((), float(n), device=value.device)


def _holds_values(item: Any) -> bool:
    return isinstance(item, list) and bool(references(item))


def _drawing(operation: Callable[..., Any], arguments: list[Any], output: int) -> Step:
    def step(values: list[Any], seed: int) -> None:
        values[output] = operation(seed, *arguments)

    return step


def _single(
    operation: Callable[..., Any],
    template: list[Any],
    slots: list[tuple[int, int]],
    output: int,
    target: int | None = None,
) -> Step:
    """A call with one result (or a list of one) and nothing but tensors and constants: most of them.

    Args:
        target: into which value the operation writes its result, if it does.
    """
    if len(slots) == 1 and len(template) == 1:
        only = slots[0][1]

        def unary(values: list[Any], seed: int) -> None:
            result = operation(values[only])
            values[output] = result[0] if isinstance(result, (tuple, list)) else result

        return unary

    def step(values: list[Any], seed: int) -> None:
        given = template.copy()
        for place, number in slots:
            given[place] = values[number]
        result = operation(*given) if target is None else operation(*given, out=values[target])
        values[output] = result[0] if isinstance(result, (tuple, list)) else result

    return step


def _general(
    operation: Callable[..., Any],
    template: list[Any],
    slots: list[tuple[int, int]],
    nested: list[tuple[int, Callable[[list[Any]], Any]]],
    fixed: dict[str, Any],
    outputs: tuple[int, ...],
) -> Step:
    def step(values: list[Any], seed: int) -> None:
        given = template.copy()
        for place, number in slots:
            given[place] = values[number]
        for place, make in nested:
            given[place] = make(values)
        result = operation(*given, **fixed)
        if len(outputs) == 1 and not isinstance(result, (tuple, list)):
            values[outputs[0]] = result
        else:
            for output, value in zip(outputs, result, strict=True):
                values[output] = value

    return step


def _narrow(program: Program) -> frozenset[int]:
    """The values that may be float32 where the others are float64: parameters, buffers, and views of them."""
    found = {value for value, name in enumerate(program.inputs) if not name.startswith("batch:")}
    for node in program.nodes:
        if node.operation in VIEWS and not found.isdisjoint(references(node.arguments[:1])):
            found.update(node.outputs)
    return frozenset(found)


def _add_onto(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The sum, in the memory of the second term."""
    is_shared = first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    return first + second if is_shared else second.add_(first)


def _direct_outputs(program: Program) -> dict[int, int]:
    """Which values are gradients as they stand, and where `run` keeps the tensor that each is to be written to."""
    found: dict[int, int] = {}
    for i, (name, value) in enumerate(program.outputs, len(program.types)):
        if name.startswith("grad:"):
            found.setdefault(value, i)
    return found
