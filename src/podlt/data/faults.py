"""All faults of a source in one report: a person repairs a file once, and not once a fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from podlt.errors import DataError

SHOWN = 20


class Faults:
    """Collects what is wrong with a source's lines: the first ones of each kind word for word, all by number.

    Args:
        source: the file's name, as the user gave it.
        numbered: whether a report gives the numbers of lines; if not, each message names its own place.
    """

    def __init__(self, source: str, numbered: bool = True) -> None:
        self.source = source
        self._numbered = numbered
        self.count = 0
        self._first: dict[str, list[tuple[int, str]]] = {}
        self._hints: list[str] = []

    def add(self, line: int, message: str) -> None:
        """Takes the fault of one line."""
        self.count += 1
        kind = message.partition(", got ")[0]
        if kind in self._first or len(self._first) < SHOWN:
            faults = self._first.setdefault(kind, [])
            self._first[kind] = sorted([*faults, (line, message)], key=lambda fault: fault[0])[:SHOWN]

    def add_rows(self, numbers: Sequence[int], wrong: npt.NDArray[np.bool_], say: Callable[[int], str]) -> None:
        """Takes the faults of some rows.

        Args:
            numbers: the line's number of each row.
            wrong: bool[rows], which of them have a fault.
            say: the message for a row.
        """
        rows = np.flatnonzero(wrong)
        for row in rows[:SHOWN].tolist():
            self.add(int(numbers[row]), say(row))
        self.count += len(rows[SHOWN:])

    def hint(self, text: str) -> None:
        """Adds what a person may do about a fault, once, at the end of the report."""
        if text not in self._hints and len(self._hints) < SHOWN:
            self._hints.append(text)

    def check(self) -> None:
        """Returns only if there was no fault.

        Raises:
            DataError: all faults, the line being that of the first.
        """
        if not self.count:
            return
        first = self._shown()
        line, message = first[0]
        hints = "".join(f"\n  hint: {hint}" for hint in self._hints)
        if self.count == 1:
            raise DataError(self.source, line if self._numbered else None, message + hints)
        others = "".join(f"\n  line {n}: {text}" if self._numbered else f"\n  {text}" for n, text in first[1:])
        hidden = self.count - len(first)
        more = f"\n  and {hidden:,} more" if hidden else ""
        place = line if self._numbered else None
        raise DataError(self.source, place, f"{message} (the first of {self.count:,} faults){others}{more}{hints}")

    def _shown(self) -> list[tuple[int, str]]:
        """The faults of a report by their lines: as many of each kind, so that none of them hides another."""
        each = max(1, SHOWN // len(self._first))
        return sorted((fault for faults in self._first.values() for fault in faults[:each]), key=lambda fault: fault[0])
