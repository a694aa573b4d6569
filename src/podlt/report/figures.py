"""Figures that no entry binds: what was measured and, in demonstrations, who cheated. No part of the proof."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import msgspec

from podlt.canonical import UNREADABLE
from podlt.errors import StorageError
from podlt.store.round_figures import RoundFigures
from podlt.store.run_files import open_run_files

LONGEST_LINE = 2**20
"""A run may have twenty million rounds, of which no more than a line is in memory at once."""

MOST_ITEMS = 2**13
"""How many rounds, or epochs, there are one by one: a plot shows no more."""

Item = TypeVar("Item")


class Fakes(msgspec.Struct):
    """What a worker faked: its first round (None if it never did), in how many, and in how many that was applied."""

    first: int | None = None
    given: int = 0
    applied: int = 0


class Spent(msgspec.Struct):
    """What all rounds took together.

    Attributes:
        seconds: of all rounds.
        compute: seconds of executing tasks, over processes and threads.
        proof: seconds of hashes, signatures and comparisons, likewise.
        each: the seconds of every `step`-th round, beginning with the first.
        step: see `each`.
    """

    seconds: float = 0.0
    compute: float = 0.0
    proof: float = 0.0
    each: list[float] = []
    step: int = 1


class Figures(msgspec.Struct, frozen=True):
    """All figures of a run.

    Attributes:
        spent: what the rounds took.
        cheats: worker -> how it was to cheat.
        fakes: of those workers.
    """

    spent: Spent
    cheats: dict[int, str]
    fakes: dict[int, Fakes]


def read_figures(run: Path) -> Figures:
    """What was measured in a run. A half line at a file's end, as a kill leaves it, is passed over.

    Raises:
        UsageError: there is no run.
        StorageError: a file cannot be read, or a line of it is not what this format writes.
        InvalidProofError: it is a bundle that was changed or cut off.
    """
    with open_run_files(run) as files:
        cheats = files.cheats()
        spent, fakes = _rounds(files.unproven(), f"{run}: rounds.jsonl", cheats)
    return Figures(spent, cheats, fakes)


def read_round_figures(run: Path) -> Iterator[RoundFigures]:
    """What was measured in each round, one after another. Errors as `read_figures`."""
    with open_run_files(run) as files:
        yield from _lines(files.unproven(), f"{run}: rounds.jsonl", RoundFigures)


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb") if path.is_file() else None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None


def _rounds(file: BinaryIO | None, name: str, cheats: dict[int, str]) -> tuple[Spent, dict[int, Fakes]]:
    spent, seconds, fakes = Spent(), _Thinned[float](), {worker: Fakes() for worker in cheats}
    for one in _lines(file, name, RoundFigures):
        seconds.add(one.seconds)
        spent.seconds += one.seconds
        spent.compute += one.compute
        spent.proof += one.proof
        for worker in fakes.keys() & one.faked:
            known = fakes[worker]
            known.first = one.round if known.first is None else min(known.first, one.round)
            known.given += 1
        for worker in fakes.keys() & one.applied:
            fakes[worker].applied += 1
    spent.each, spent.step = seconds.items, seconds.step
    return spent, fakes


class _Thinned(Generic[Item]):
    """Every n-th of a sequence, however long it becomes: `MOST_ITEMS` at most.

    Attributes:
        items: those.
        step: n.
    """

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.step, self._count = 1, 0

    def add(self, item: Item) -> None:
        """Takes the next one."""
        if self._count % self.step == 0:
            if len(self.items) == MOST_ITEMS:
                self.items, self.step = self.items[::2], 2 * self.step
            if self._count % self.step == 0:
                self.items.append(item)
        self._count += 1


def _lines(file: BinaryIO | None, name: str, kind: type[Item]) -> Iterator[Item]:
    if file is None:
        return
    decoder, number = msgspec.json.Decoder(kind), 0
    try:
        with file:
            while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
                number += 1
                yield decoder.decode(line)
    except OSError as error:
        raise StorageError(f"{name}: cannot be read: {error.strerror or error}") from None
    except UNREADABLE as error:
        raise StorageError(f"{name}, line {number}: {error}") from None
    if len(line) == LONGEST_LINE:
        raise StorageError(f"{name}, line {number + 1}: longer than {LONGEST_LINE} bytes")
