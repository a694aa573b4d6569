"""The best response of a worker that would gain by cheating: what pays most, worked out backwards from a run's end.

**What it knows** before each task: the tasks that are left, its credits in escrow, the convictions it can still
afford, and what it can tell of the task (a `Situation`, such as whether a friend holds the same shard).

**What it may do**: give a true result, which costs it work; give a fake, which costs nothing and is found with the
situation's hazard; leave for good; leave, and return under its key once it is paid; or come back under a new key.

**What follows.** A credit vests when `escrow` younger ones are there: e credits in escrow become e + 1, or stay
`escrow` while the oldest vests. A conviction forfeits the task's pay, what is in escrow, and the deposit; and who
returns after it owes what the escrow lacked: -k in escrow is a worker whose next k credits are forfeited. Who leaves
keeps all, as no task outlives its round: what is paid later cannot be lost in the meantime. At the end all vests, and
the deposit comes back, so V(0, e) = max(0, e) reward + deposit.

Nothing is discounted: a credit at the run's end is worth one today.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from enum import IntEnum
from math import inf

import msgspec

MAX_STATES = 1_000_000
"""Tasks times credits: a fraction of a second, of which a plan takes up to some twenty."""

TINY = 1e-9


class Situation(msgspec.Struct, frozen=True):
    """What a worker can tell of a task before it executes it.

    Attributes:
        chance: how often a task is such.
        hazard: the chance that a fake is found.
        cost: what a true result costs it, in credits.
    """

    chance: float
    hazard: float
    cost: float


class Stakes(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has to win and to lose.

    Attributes:
        reward: credits a task.
        escrow: how many younger credits (in tasks) a credit waits for.
        deposit: credits that it brings, and brings again after each conviction.
        convictions: how many evict: 2 where the first one suspends.
        new_key: credits that coming back under a new key costs besides the deposit; None if it cannot.
        may_leave: whether it may leave before the end and be paid; else it can only stay. Every run allows it.
    """

    reward: float = 1.0
    escrow: int = 50
    deposit: float = 0.0
    convictions: int = 1
    new_key: float | None = None
    may_leave: bool = True


class Action(IntEnum):
    """What is done next. Below `LEAVE`: work, with the set of situations in which it fakes, a bit each."""

    HONEST = 0
    LEAVE = 64
    RETURN = 65
    NEW_KEY = 66


class BestResponse:
    """What pays most in every state.

    Args:
        stakes: what there is to win and to lose.
        situations: chances sum to 1.
        tasks: how many there are in the run.

    Attributes:
        values: by tasks left: credits that a new worker gains by its best response, deposit returned.
        fakes: by tasks left: how many fakes it gives by it, in the mean.
    """

    def __init__(self, stakes: Stakes, situations: Sequence[Situation], tasks: int) -> None:
        self.stakes, self.situations, self.tasks = stakes, tuple(situations), tasks
        self.values: list[float] = [0.0]
        self.fakes: list[float] = [0.0]
        self._returned: list[list[list[float]]] = [[] for _ in range(stakes.convictions)]
        self._actions: list[list[bytes]] = []
        self._escrowed = [held * stakes.reward for held in range(stakes.escrow + 1)]
        self._seen = [(each.chance, each.hazard, each.cost) for each in situations]

    def work_out(self) -> BestResponse:
        """Fills the tables, from the last task to the first."""
        stakes = self.stakes
        layers = [self._layer(lives) for lives in range(stakes.convictions)]
        for left in range(1, self.tasks + 1):
            steps = [self._work(layers, lives, left) for lives in range(stakes.convictions)]
            for layer, step in zip(layers, steps, strict=True):
                self._move(step, steps[-1], layer, left)
            for layer, step in zip(layers, steps, strict=True):
                layer.append(step.values, step.fakes)
            self._actions.append([bytes(step.actions) for step in steps])
            for found, step in zip(self._returned, steps, strict=True):
                found.append(step.values[: stakes.escrow + 1])
            self.values.append(steps[-1].values[0] - stakes.deposit)
            self.fakes.append(steps[-1].fakes[0])
        return self

    def _layer(self, lives: int) -> _Layer:
        """The end of the run, for workers that can afford so many more convictions."""
        stakes = self.stakes
        most_owed = stakes.escrow if lives < stakes.convictions - 1 else 0
        end = [max(0, held) * stakes.reward + stakes.deposit for held in range(-most_owed, stakes.escrow + 1)]
        return _Layer(most_owed, end)

    def action(self, left: int, held: int, lives: int, situation: int = 0) -> str:
        """What to do: "honest", "fake", "leave", "return" (leave, and return once paid) or "new_key".

        Args:
            left: tasks left, this one included, at least 1.
            held: credits in escrow, in tasks; below 0: how many it owes.
            lives: convictions that evict it: 1 once it was suspended.
            situation: number of the task's situation.
        """
        most_owed = self.stakes.escrow if lives < self.stakes.convictions else 0
        code = self._actions[left - 1][lives - 1][held + most_owed]
        if code >= Action.LEAVE:
            return Action(code).name.lower()
        return "fake" if code >> situation & 1 else "honest"

    def after_conviction(self, left: int, lives: int, held: int) -> str:
        """What to do once convicted: "leave", "return" (with a new deposit, where it was suspended) or "new_key".

        Args:
            left: tasks left, at least 1.
            lives: convictions that evict it now: 0 if it was evicted.
            held: 0, or below it how many credits it owes.
        """
        stakes = self.stakes
        ways = {"leave": 0.0}
        if lives:
            ways["return"] = self._returned[lives - 1][left - 1][stakes.escrow + held] - stakes.deposit
        if self.stakes.new_key is not None:
            ways["new_key"] = self.values[left] - self.stakes.new_key
        return max(ways, key=lambda way: ways[way])

    def honest(self, left: int) -> float:
        """What a new worker gains that gives true results only, with so many tasks left; 0 if work costs more."""
        return left * max(0.0, honest_margin(self.stakes, self.situations))

    def gain(self, left: int | None = None) -> float:
        """What cheating adds to that. At least 0.

        Args:
            left: tasks left when it joins; None for all.
        """
        count = self.tasks if left is None else left
        found = self.values[count] - self.honest(count)
        return found if found > TINY * max(1.0, abs(self.values[count])) else 0.0

    def _work(self, layers: Sequence[_Layer], lives: int, left: int) -> _Step:
        """The best of working on, in every state: a fake where it saves more than it puts at risk."""
        reward, layer = self.stakes.reward, layers[lives]
        before, fakes_before = layer.values[-1], layer.fakes[-1]
        paid, fakes = [*before[1:], before[-1] + reward], [*fakes_before[1:], fakes_before[-1]]
        honest = sum(chance * cost for chance, _, cost in self._seen)
        values = [value - honest for value in paid]
        actions = bytearray(len(values))
        after = self._convicted(layers, lives)
        looked_at = self._first_honest(paid, after)
        places = [after[0]] * (looked_at if len(after) == 1 else layer.most_owed) + (after if len(after) > 1 else [])
        for bit, (chance, hazard, cost) in enumerate(self._seen):
            least = (cost - TINY) / hazard if hazard else inf if cost > TINY else -inf  # what is at risk is less
            for place, (held, (lost, fakes_after)) in enumerate(zip(paid[:looked_at], places, strict=True)):
                if held - lost < least:
                    actions[place] |= 1 << bit
                    values[place] += chance * (cost - hazard * (held - lost))
                    more = fakes_after - fakes_before[min(place + 1, len(paid) - 1)]
                    fakes[place] += chance * (1 + hazard * more)
        return _Step(values, fakes, actions)

    def _first_honest(self, paid: list[float], after: list[tuple[float, float]]) -> int:
        """From which state on no fake is worth its risk.

        Where a conviction leaves the same whatever was in escrow, the risk grows with it, so that there is such a
        state; where who returns owes less the more it lost, all states are looked at.
        """
        if len(after) > 1:
            return len(paid)
        lost = after[0][0]
        return max(
            bisect_left(paid, lost + (cost - TINY) / hazard) if hazard > 0 else len(paid) if cost > TINY else 0
            for _, hazard, cost in self._seen
        )

    def _convicted(self, layers: Sequence[_Layer], lives: int) -> list[tuple[float, float]]:
        """Value and fakes of what is left after a conviction, by the credits that were in escrow.

        Returns:
            One item for all, where the worker cannot return: nothing, or a new key.
        """
        stakes = self.stakes
        ways = [(0.0, 0.0)]
        if stakes.new_key is not None:
            ways.append((layers[-1].values[-1][0] - stakes.deposit - stakes.new_key, layers[-1].fakes[-1][0]))
        best = max(ways)
        if not lives:
            return [best]
        back, found, (most, _) = layers[lives - 1], list[tuple[float, float]](), best
        for value, fakes in zip(back.values[-1][: stakes.escrow + 1], back.fakes[-1], strict=False):
            returned = value - stakes.deposit
            found.append(best if returned < most else max(best, (returned, fakes)))
        return found

    def _move(self, step: _Step, fresh: _Step, layer: _Layer, left: int) -> None:
        """Puts leaving in place of working where it pays more."""
        stakes = self.stakes
        if not stakes.may_leave:
            return
        ways = [(0.0, 0.0, Action.LEAVE)]
        if stakes.new_key is not None:
            value = fresh.values[0] - stakes.deposit - stakes.new_key
            ways.append((value, fresh.fakes[0], Action.NEW_KEY))
        for_good = max(ways)
        if left > stakes.escrow > 0:  # paid after that many rounds: back with nothing in escrow
            value, count = layer.with_none(left - stakes.escrow)
            ways.append((value - stakes.deposit, count, Action.RETURN))
        owed = layer.most_owed
        self._leave(step, range(owed), [0.0] * owed, for_good)
        self._leave(step, range(owed, len(step.values)), self._escrowed, max(ways))

    def _leave(self, step: _Step, places: range, escrowed: list[float], way: tuple[float, float, Action]) -> None:
        """Puts a way of leaving in place of working where it pays more; what is in escrow is kept."""
        value, count, action = way
        gained = self.stakes.deposit + value
        for place, extra, working in zip(places, escrowed, step.values[places.start : places.stop], strict=True):
            if gained + extra > working + TINY:
                step.values[place], step.fakes[place], step.actions[place] = gained + extra, count, action


class _Layer:
    """Values and fakes by tasks left, for workers that can afford so many convictions.

    Args:
        most_owed: how many credits they may owe: the place of those with nothing in escrow.
        end: values at the run's end.
    """

    def __init__(self, most_owed: int, end: list[float]) -> None:
        self.most_owed = most_owed
        self.values: list[list[float]] = [end]
        self.fakes: list[list[float]] = [[0.0] * len(end)]
        self._with_none = [(end[most_owed], 0.0)]

    def append(self, values: list[float], fakes: list[float]) -> None:
        """Takes one more task, and forgets the row before, but for who has nothing in escrow: nobody else returns."""
        self.values[-1], self.fakes[-1] = values, fakes
        self._with_none.append((values[self.most_owed], fakes[self.most_owed]))

    def with_none(self, left: int) -> tuple[float, float]:
        """Value and fakes of who has nothing in escrow, with so many tasks left."""
        return self._with_none[left]


class _Step:
    """Value, fakes and action by credits in escrow, those first who owe most."""

    def __init__(self, values: list[float], fakes: list[float], actions: bytearray) -> None:
        self.values, self.fakes, self.actions = values, fakes, actions


def honest_margin(stakes: Stakes, situations: Sequence[Situation]) -> float:
    """What a true result leaves of its reward, in the mean."""
    return stakes.reward - sum(each.chance * each.cost for each in situations)
