"""Which updates the manager executes itself because they are far larger than the others of their round.

Clipping bounds what one of them can do, not what many can do in the rounds before their authors are caught. An
execution is expensive, and honest updates differ in size as well. So looks are saved up, one in so many rounds; each
conviction pays for another one in the same round, so that a crowd of fakes is found at once. What is looked at is the
manager's choice and no rule: whoever it convicts, anybody can execute the task again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

ROUNDS = 50
"""In so many rounds one look is saved up: 0.04 % of the tasks of 50 workers."""

MOST_SAVED = 2
"""So many looks are saved up at most; once they are, smaller outliers are looked at as well."""

MODEST = 2.0
"""How many times the round's median a norm is at least that is looked at when there are looks to spare."""


def left_by_the_false(answers: Mapping[int, Mapping[int, bytes]], executed: Mapping[int, bytes]) -> list[int]:
    """What the manager executes as well because only workers gave it of whom a result of the round was false.

    A worker has several tasks of a round where machines are unequal, or where it took one over. Who is convicted by
    one of them would else have the others applied.

    Args:
        answers: shard -> worker -> digest of its result.
        executed: shard -> digest of the manager's own, of what it executed already.

    Returns:
        Shards, ascending.
    """
    false = {w for j, due in executed.items() for w, result in answers[j].items() if result != due}
    return sorted(j for j, found in answers.items() if j not in executed and found.keys() <= false)


class OutlierBudget:
    """Chooses what is looked at.

    Args:
        clip: beyond how many times the median an update is always worth a look; 0: nothing is looked at.
    """

    def __init__(self, clip: int) -> None:
        self._clip = clip
        self._saved: float = MOST_SAVED
        self._limit = 0.0

    def look(self, squares: Sequence[float], executed: Mapping[int, bool], execute: Callable[[int], bool]) -> None:
        """A round's looks, as far as the budget goes.

        Args:
            squares: as in `choose`.
            executed: shard -> whether a false result was found, of what was executed already.
            execute: executes a shard, and says whether a result of it is false.
        """
        self.begin_round()
        self.convicted(sum(executed.values()))
        seen = set(executed)
        while (shard := self.choose(squares, seen)) is not None:
            seen.add(shard)
            self.convicted(execute(shard))

    def begin_round(self) -> None:
        """Saves up for a round that begins."""
        self._saved = min(MOST_SAVED, self._saved + 1 / ROUNDS)
        self._limit = MODEST if self._saved == MOST_SAVED else float(self._clip)

    def convicted(self, count: int) -> None:
        """So many results of the round were found to be false: where there is one, there are more."""
        if count:
            self._saved += count
            self._limit = MODEST

    def choose(self, squares: Sequence[float], executed: Collection[int]) -> int | None:
        """The shard to execute next; None: none any more. Costs a look.

        Args:
            squares: `clip.mean_square` of each shard's gradients.
            executed: what the manager executed already.
        """
        positive = sorted(square for square in squares if square > 0)
        if not self._clip or not positive or self._saved < 1:
            return None
        limit = self._limit**2 * positive[(len(positive) - 1) // 2]
        found = [(square, -j) for j, square in enumerate(squares) if square > limit and j not in executed]
        if not found or not math.isfinite(max(found)[0]):
            return None
        self._saved -= 1
        return -max(found)[1]
