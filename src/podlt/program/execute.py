"""Runs a program: a pure function of state, batch and seed, on the table of its arithmetic and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from podlt.errors import UsageError
from podlt.program.ir import Program, resolve
from podlt.program.layout import TORCH_DTYPES
from podlt.program.liveness import last_uses
from podlt.program.operations import FACTORIES, STOCK_ARITHMETIC, table

Trace = Callable[[int, Sequence[torch.Tensor]], None]
Draw = Callable[[int, int, list[int]], torch.Tensor]

MAX_CACHED = 64
"""For how many numbers of lines the resolved steps are kept."""

Step = tuple[Callable[..., Any], Callable[[list[Any], int], Any], tuple[int, ...], tuple[int, ...]]


class Executor:
    """Runs one program for any number of lines.

    Args:
        program: a validated program; double: compute in float64 instead of float32, with PyTorch's kernels; draw:
            stands in for the program's random draws (both for the admission test of capture).
        arithmetic: another than the program's (to infer shapes, which are PyTorch's in every arithmetic).

    Raises:
        UnsupportedError: no table of its arithmetic, or an operation that is not in it.
    """

    def __init__(
        self, program: Program, *, double: bool = False, draw: Draw | None = None, arithmetic: str | None = None
    ) -> None:
        self.program = program
        kernels = table(STOCK_ARITHMETIC if double else arithmetic or program.arithmetic)
        self._table = {**kernels, **({"uniform": draw} if draw else {})}
        self._dtypes = {**TORCH_DTYPES, "f32": torch.float64} if double else TORCH_DTYPES
        self._steps: dict[int, list[Callable[[list[Any], int], Any]]] = {}
        self._dying = last_uses(program)

    def run(
        self,
        state: Mapping[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
        seed: int,
        out: Mapping[str, torch.Tensor],
        trace: Trace | None = None,
    ) -> None:
        """Writes the update of a fragment: loss and gradients summed over its lines.

        Args:
            state: "param:…", "frozen:…", "buffer:…"; batch: the fragment's fields by name, one row a line;
            seed: 64 bits for the program's random draws; out: "loss", "grad:…", and the buffers that change; a float
            buffer is written times the number of lines, so that a sum over fragments divided by all lines is its mean.
            trace: is called after each node with its number and its outputs.
        """
        lines = next(iter(batch.values())).shape[0]
        values: list[Any] = [None] * len(self.program.types)
        for i, name in enumerate(self.program.inputs):
            kind, _, rest = name.partition(":")
            values[i] = batch[rest] if kind == "batch" else state[name]
        with torch.no_grad():
            self._execute(values, lines, seed, trace)
            for name, value in self.program.outputs:
                self._write(out[name], values[value], name, lines)

    def run_local_steps(
        self,
        state: Mapping[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
        seed: int,
        out: Mapping[str, torch.Tensor],
        steps: int,
        lr: float,
    ) -> None:
        """Writes the change of the parameters after `steps` SGD steps over parts of the fragment, times its lines.

        Args:
            steps: into how many parts the fragment is cut (its lines, if it has fewer); lr: of the steps.

        As "loss" the sum of the losses that were met; "grad:…" is lines x (start - end).
        """
        lines = next(iter(batch.values())).shape[0]
        own = {name: value.clone() for name, value in state.items()}
        total = torch.zeros((), dtype=torch.float32)
        count = min(steps, lines)
        for step in range(count):
            start, stop = lines * step // count, lines * (step + 1) // count
            part = {name: value[start:stop].clone() for name, value in batch.items()}
            self.run(own, part, seed + step, out)
            total = total + out["loss"]
            for name, value in out.items():
                if name.startswith("grad:"):
                    own["param:" + name[5:]].sub_((value / float(stop - start)) * lr)
                elif name.startswith("buffer:"):
                    own[name].copy_(value / float(stop - start) if value.is_floating_point() else value)
        for name, value in out.items():
            if name == "loss":
                value.copy_(total)
            elif name.startswith("grad:"):
                parameter = "param:" + name[5:]
                value.copy_((state[parameter] - own[parameter]) * float(lines))
            else:
                value.copy_(own[name] * float(lines) if value.is_floating_point() else own[name])

    def _execute(self, values: list[Any], lines: int, seed: int, trace: Trace | None) -> None:
        steps = self._steps.get(lines)
        if steps is None:
            if len(self._steps) >= MAX_CACHED:
                self._steps.clear()
            steps = self._steps[lines] = [self.resolve(i, lines) for i in range(len(self.program.nodes))]
        for i, step in enumerate(steps):
            step(values, seed)
            if trace is not None:
                trace(i, [values[o] for o in self.program.nodes[i].outputs])
            for dead in self._dying[i]:
                values[dead] = None

    def resolve(self, number: int, lines: int, *, meta: bool = False) -> Callable[[list[Any], int], Any]:
        """A node with everything looked up beforehand that does not change from run to run.

        Args:
            meta: what the node makes from nothing is made on the meta device, where it takes no memory.
        """
        node = self.program.nodes[number]
        operation = self._table[node.operation]
        arguments = [self._argument(a, lines) for a in node.arguments]
        keywords = {key: self._argument(a, lines) for key, a in node.keywords.items()}
        if any(not isinstance(value, _Fixed) for value in keywords.values()):
            raise UsageError(f"program: keywords of {node.operation} must be constants")
        fixed = {key: value.value for key, value in keywords.items()}
        if meta and node.operation in FACTORIES:
            fixed["device"] = torch.device("meta")
        outputs = node.outputs
        wants_seed = node.operation == "uniform"

        def step(values: list[Any], seed: int) -> None:
            given = [a.get(values) for a in arguments]
            result = operation(seed, *given) if wants_seed else operation(*given, **fixed)
            if len(outputs) == 1 and not isinstance(result, (tuple, list)):
                values[outputs[0]] = result
            else:
                for output, value in zip(outputs, result, strict=True):
                    values[output] = value

        return step

    def _argument(self, item: Any, lines: int) -> _Argument:
        if isinstance(item, dict):
            if "v" in item:
                return _Value(item["v"])
            if "t" in item:
                return _Fixed(self._dtypes[item["t"]])
            if "f" in item:
                return _Fixed(float(item["f"]))
            return _Fixed(resolve(item, lines))
        if isinstance(item, list):
            parts = [self._argument(part, lines) for part in item]
            if all(isinstance(part, _Fixed) for part in parts):
                return _Fixed([part.value for part in parts])
            return _List(parts)
        return _Fixed(item)

    @staticmethod
    def _write(view: torch.Tensor, value: torch.Tensor, name: str, lines: int) -> None:
        if name.startswith("buffer:") and value.is_floating_point():
            torch.mul(value, float(lines), out=view)
        else:
            view.copy_(value)


class _Fixed:
    """An argument that is the same in every run."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def get(self, values: list[Any]) -> Any:
        return self.value


class _Value:
    """An argument that is a value of the program."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def get(self, values: list[Any]) -> Any:
        return values[self.number]


class _List:
    """A list with values in it."""

    __slots__ = ("parts",)

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    def get(self, values: list[Any]) -> Any:
        return [part.get(values) for part in self.parts]


_Argument = Any
