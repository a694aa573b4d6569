"""Calls of every operation made wrong in shapes, types and attributes, as a program from a stranger may hold them.

    python -m tests.program.hostile_calls SEED COUNT [OPERATION ...]

makes COUNT wrong calls of each operation out of its samples, declares what PyTorch or our own rules say of their
results, and runs what validation accepts, in stock and in exact arithmetic, on values that no guard has seen. Inputs
lie before a page that nobody may read: what a kernel reads behind them ends the process. A line is printed before each
call that runs, so that who started this knows which one it was.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import random
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from math import prod
from typing import Any

import torch

from podlt.canonical import to_json
from podlt.errors import PodltError
from podlt.exact.cpu.backend import table as exact_table
from podlt.exact.operations import ROWS, named
from podlt.exact.operations.row import Family
from podlt.program.execute import Executor
from podlt.program.ir import Program
from podlt.program.layout import TORCH_DTYPES
from podlt.program.operations import STOCK, table
from podlt.program.shapes import infer
from podlt.program.validate import validate

BOUND = 2**24
"""Of the bytes that a call's values may take."""
MEMORY, LONGEST = 2**33, 60
"""Bytes of the process, and seconds of a call: who takes more is stopped, and has failed."""

_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
_FACTORIES = named(Family.FACTORY)
_NUMBERS = [-1, 0, 1, 2, 3, 7, 64, 2**31, -(2**31), 2**40, -(2**62), 2**62]
_FRACTIONS = [0.0, -1.0, 0.5, 1e30, float("inf"), float("nan")]
_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """A tensor whose memory ends where a page begins that may not be touched.

    Args:
        value: is copied.
    """

    def __init__(self, value: torch.Tensor) -> None:
        size = value.numel() * value.element_size()
        whole = -(-max(size, 1) // _PAGE) * _PAGE
        self._memory = mmap.mmap(-1, whole + _PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        assert _libc.mprotect(ctypes.c_void_p(start + whole), _PAGE, 0) == 0
        flat = torch.frombuffer(self._memory, dtype=torch.uint8, count=whole)[whole - size :]
        self.tensor = flat.view(value.dtype).reshape(value.shape) if size else value.clone()
        self.tensor.copy_(value)


def calls(name: str) -> list[tuple[Any, ...]]:
    """The arguments and keywords of an operation's samples."""
    return _sampled()[name]


@cache
def _sampled() -> dict[str, list[Any]]:
    run = exact_table(2)
    return {name: [*ROWS[name].calls(run)] for name in STOCK}


def wrong(name: str, changes: int, chance: random.Random) -> Iterator[Program]:
    """Programs of one call with so many changes, one in each arithmetic, as far as its results can be declared."""
    arguments, options = chance.choice(calls(name))
    found = [*arguments]
    for _ in range(changes):
        found = _changed(found, chance)
    kinds = result_types(name, found, options)
    if not kinds:
        return
    if changes and chance.random() < 0.1:
        kinds = kinds[: chance.randint(1, len(kinds))]
    for arithmetic in ("stock", "exact/2"):
        yield program_of(name, found, options, kinds, arithmetic)


def _changed(arguments: list[Any], chance: random.Random) -> list[Any]:
    """One thing of the arguments made another."""
    if not arguments:
        return arguments
    place = chance.randrange(len(arguments))
    found, tensors = [*arguments], [i for i, a in enumerate(arguments) if isinstance(a, torch.Tensor)]
    what = chance.random()
    if what < 0.08:
        return found[:-1]
    if what < 0.16 and len(tensors) > 1:
        a, b = chance.sample(tensors, 2)
        found[a], found[b] = found[b], found[a]
        return found
    if what < 0.2:
        found[place] = chance.choice([None, 0, [], True, 1.0, "mean"])
        return found
    found[place] = _other(found[place], chance)
    return found


def _other(item: Any, chance: random.Random) -> Any:
    if isinstance(item, torch.Tensor):
        return _other_tensor(item, chance)
    if isinstance(item, bool):
        return not item
    if isinstance(item, int):
        return chance.choice([*_NUMBERS, item + 1, item - 1])
    if isinstance(item, float):
        return chance.choice([*_FRACTIONS, 3])
    if isinstance(item, (list, tuple)):
        if not item or chance.random() < 0.3:
            return chance.choice([[], [*item, chance.choice([0, 1, 2])], [*item][:-1], [*item, *item]])
        place = chance.randrange(len(item))
        return [_other(part, chance) if i == place else part for i, part in enumerate(item)]
    if isinstance(item, torch.dtype):
        return chance.choice([*TORCH_DTYPES.values()])
    return item if item is not None else chance.choice([0, 1, [1, 1], torch.ones(3)])


def _other_tensor(x: torch.Tensor, chance: random.Random) -> torch.Tensor:
    if chance.random() < 0.25:
        return x.to(chance.choice([*TORCH_DTYPES.values()]))
    shape = [*x.shape]
    what, place = chance.random(), chance.randrange(len(shape) + 1)
    if what < 0.2 or not shape:
        shape.insert(place, chance.choice([0, 1, 2, 3]))
    elif what < 0.4:
        del shape[place % len(shape)]
    else:
        at = place % len(shape)
        shape[at] = chance.choice([0, 1, max(shape[at] - 1, 0), shape[at] + 1, 2 * shape[at], 7])
    count = prod(shape)
    flat = x.reshape(-1) if x.numel() else torch.ones(1, dtype=x.dtype)
    return flat.repeat(count // len(flat) + 1)[:count].reshape(shape)


def result_types(name: str, arguments: Sequence[Any], options: dict[str, Any]) -> list[list[Any]]:
    """The types of a call's results, by PyTorch without memory, or else by our own rules; none if nobody says them."""
    try:
        with torch.no_grad():
            place = {"device": "meta"} if name in _FACTORIES else {}
            found = table("stock")[name](*_meta([*arguments]), **options, **place)
        results = [*found] if isinstance(found, (tuple, list)) else [found]
        shapes = [(_NAMES[r.dtype], [*r.shape]) if r is not None else ("f32", [0]) for r in results]
    except Exception:
        try:
            said = infer(program_of(name, arguments, options, [["f32", []]] * 8, "stock"), 1, 2)
        except Exception:
            return []
        shapes = [(kind[0], [*kind[1]]) if kind else ("f32", [0]) for kind in said or []]
    return [[dtype, shape] for dtype, shape in shapes if max([*shape, 0]) < 2**40]


def _meta(item: Any) -> Any:
    if isinstance(item, torch.Tensor):
        return torch.empty(item.shape, dtype=item.dtype, device="meta")
    return [_meta(part) for part in item] if isinstance(item, (list, tuple)) else item


def program_of(
    name: str, arguments: Sequence[Any], options: dict[str, Any], kinds: Sequence[Any], arithmetic: str
) -> Program:
    """A parameter and a batch that only give the loss, and one call of inputs that stay as they are."""
    inputs, types = ["param:w", "batch:x"], [["f32", [2]], ["f32", [{"B": [1, 0]}, 2]]]

    def document(item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            inputs.append(f"frozen:{len(inputs)}")
            types.append([_NAMES[item.dtype], [*item.shape]])
            return {"v": len(inputs) - 1}
        if isinstance(item, (list, tuple)):
            return [document(part) for part in item]
        if isinstance(item, torch.dtype):
            return {"t": _NAMES[item]}
        if isinstance(item, float) and item - item != 0:
            return {"f": "nan" if item != item else "inf" if item > 0 else "-inf"}
        return item

    given, keywords = document([*arguments]), {key: document(value) for key, value in options.items()}
    first = len(inputs)
    outputs = [first + 1 + i for i in range(len(kinds))]
    return Program.from_bytes(
        to_json(
            {
                "version": 1,
                "arithmetic": arithmetic,
                "types": [*types, ["f32", []], *kinds],
                "inputs": inputs,
                "nodes": [["sum.default", [{"v": 1}], {}, [first]], [name, given, keywords, outputs]],
                "outputs": [["loss", first], ["grad:w", 0]],
            }
        )
    )


def values(program: Program, chance: random.Random) -> dict[str, Guarded]:
    """The state of a program: ordinary values, or wild ones, which a validation never sees."""
    found = {}
    for name, kind in zip(program.inputs, program.types, strict=False):
        if name.startswith("batch:"):
            continue
        shape, dtype = kind.at(2), TORCH_DTYPES[kind.dtype]
        wild = chance.random() < 0.5
        if dtype.is_floating_point:
            few = [0.0, -1.0, 1.5, 1e30] if wild else [0.5, -1.0, 1.5, 2.0]
        else:
            few = [0, 1, -1, 5, 2**40, -(2**62)] if wild else [0, 1]
        drawn = torch.tensor([chance.choice(few) for _ in range(prod(shape))], dtype=torch.float64)
        found[name] = Guarded(drawn.to(dtype).reshape(shape))
    return found


def run(program: Program, state: dict[str, Guarded]) -> None:
    """Runs an accepted program.

    Raises:
        PodltError: it fails on these values.
    """
    tensors = {name: guarded.tensor for name, guarded in state.items()}
    out = {"loss": torch.zeros(()), "grad:w": torch.zeros(2)}
    Executor(program).run(tensors, {"x": torch.zeros(2, 2)}, 1, out)


def main(arguments: list[str]) -> None:
    """Runs the calls, a line before each."""
    seed, count, *names = arguments
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for name in names or sorted(STOCK):
        if name in ("uniform", "constant"):
            continue
        for number in range(int(count)):
            chance = random.Random(f"{seed} {name} {number}")
            for program in wrong(name, chance.choice([1, 1, 1, 2, 2, 3]) if number else 0, chance):
                try:
                    validate(program, max_bytes=BOUND, examples=3)
                except PodltError:
                    continue
                signal.alarm(LONGEST)
                print(json.dumps([name, number, json.loads(program.to_bytes())]), flush=True)
                with suppress(PodltError):  # it may fail as Python fails, and only so
                    run(program, values(program, chance))


if __name__ == "__main__":
    main(sys.argv[1:])
