"""Which levels pay, and who costs a run more than it brings: worked out from how long workers took. Pure: no clock.

A level is lowered or raised only where the round would become shorter by `MIN_GAIN`; the finer cut's own price is
learned from rounds that were cut otherwise. docs/adr/0030-shares.md.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from podlt.engine.interface import WorkerPace
from podlt.protocol.shares import SPREAD, SeatWeights

WINDOW = 8
"""So many rounds are remembered."""

ROUNDS, ROUNDS_IF_LARGE = 5, 3
"""After so many rounds levels may change; the second where the gain is `LARGE_GAIN`."""

MIN_GAIN, LARGE_GAIN, MIN_SECONDS = 0.10, 0.5, 0.01
"""Levels change if so much more would be done in a second, and a round becomes shorter by so many seconds."""

STEADY = 0.8
"""In such a share of the rounds half of that must have been so: what only chance brings is none."""

HARM = 0.04
"""A worker costs more than it brings if so much more would be done in a second without it."""

PATIENCE = 3
"""In so many rounds one after another, before it is let go; in one, if it was let go before, and is stubborn."""

FAR, STUBBORN = 2.5, 1.15
"""How many times as long as the others' slowest somebody takes that costs too much, or, once it has less to do, as was
expected of it: its time does not follow from its tasks."""

GRACE = 1.5
"""For so many times as long as its longer tasks took, whose level was lowered may still be busy with one."""

SLACKS = (0.0, 0.25, 0.5)
"""How much of a step, in powers of two, a worker may fall short of a level and have it all the same."""

LOWEST, HIGHEST = -5, 5


EXTRA = 0.25
"""Of a task's examples, what it costs besides, until it was measured."""


class _Done(NamedTuple):
    """What a worker did in a round: so many examples in so many tasks and seconds."""

    examples: float
    tasks: int
    seconds: float

    def rate(self, extra: float) -> float:
        """Examples a second, if each task costs so many more than it has."""
        return (self.examples + extra * self.tasks) / self.seconds


class CutLimits(NamedTuple):
    """How finely a round can be cut.

    Attributes:
        tail: examples of the shortest round there is.
        least_examples: that a task can have.
        most_tasks: that a worker can have.
    """

    tail: int
    least_examples: int = 1
    most_tasks: int = 2**SPREAD

    def allow(self, levels: Mapping[int, int], examples: int) -> bool:
        """Whether rounds of so many examples can be cut for these levels."""
        weights = SeatWeights(Counter(levels.values()))
        shortest = max(1, min(self.tail, examples) // weights.total)
        fits = shortest >= self.least_examples and weights.total <= examples
        return fits and max(weights.of(level) for level in levels.values()) <= self.most_tasks


class PaceJudge:
    """Judges the pace of a run's workers, round by round."""

    def __init__(self) -> None:
        self._done: dict[int, deque[_Done]] = {}
        self._by_size: defaultdict[int, defaultdict[int, deque[float]]] = defaultdict(
            lambda: defaultdict(lambda: deque(maxlen=WINDOW))
        )
        """Worker -> examples of a task -> the seconds that it took, of late."""

        self._quickest: dict[int, float] = {}
        """Of whom less time was expected: the least that it took since."""

        self._examples: deque[int] = deque(maxlen=WINDOW)
        self._idle: dict[int, deque[float]] = {}
        """Number of tasks -> how long rounds with so many took besides waiting for workers."""

        self._levels: Mapping[int, int] = {}
        self._met: set[int] = set()
        self._silent: defaultdict[int, float] = defaultdict(float)
        """For how many seconds of rounds a worker answered nothing in time."""

        self._streaks: Counter[int] = Counter()
        self._expected: dict[int, float] = {}
        self._grace: dict[int, float] = {}
        """Whose level was lowered -> for how many seconds more it may be busy with a task of before."""

        self._stubborn: set[int] = set()
        self._let_go: set[int] = set()

    def round(self, paces: Sequence[WorkerPace], seconds: float, levels: Mapping[int, int]) -> None:
        """Takes what a round took.

        Args:
            paces: of its workers.
            seconds: the whole round's.
            levels: of its workers, as they were in it.
        """
        examples, tasks = sum(pace.examples for pace in paces), sum(pace.tasks for pace in paces)
        idle = seconds - max((pace.seconds for pace in paces), default=0.0)
        met = [pace for pace in paces if pace.worker in self._met]
        self._met.update(pace.worker for pace in paces)
        for pace in paces:
            self._silent[pace.worker] += pace.seconds
            if pace.missed < pace.tasks:
                self._silent[pace.worker] = 0.0
        if not met:  # a worker's first task takes longer, as its program is compiled
            return
        if any(self._levels.get(worker, level) != level for worker, level in levels.items()):
            self._done.clear()
            self._examples.clear()
            self._streaks.clear()
            self._quickest.clear()
        self._levels = dict(levels)
        for pace in met:
            tasks_done = (pace.tasks - pace.missed) or pace.tasks
            took = max(self._silent[pace.worker] or pace.seconds, 1e-6)
            done = _Done(pace.examples * tasks_done / pace.tasks, tasks_done, took)
            self._done.setdefault(pace.worker, deque(maxlen=WINDOW)).append(done)
            if not pace.missed:
                self._by_size[pace.worker][round(done.examples / done.tasks)].append(took / tasks_done)
        self._examples.append(examples)
        self._idle.setdefault(tasks, deque(maxlen=WINDOW)).append(idle)
        self._find_stubborn(met)
        costly = [worker for worker in self._costly(met, idle) if self._grace.get(worker, 0.0) <= 0]
        self._streaks = Counter({worker: self._streaks[worker] + 1 for worker in costly})
        self._grace = {worker: left - seconds for worker, left in self._grace.items()}

    def better(self, limits: CutLimits) -> dict[int, int]:
        """Worker -> the level that it should get; empty if the levels are good as they are.

        Args:
            limits: of how finely a round can be cut.
        """
        needed = MIN_GAIN if len(self._examples) >= ROUNDS else LARGE_GAIN
        found = self._best(limits, needed) if len(self._examples) >= ROUNDS_IF_LARGE else {}
        changed = {worker: level for worker, level in found.items() if level != self._levels[worker]}
        if changed:
            self._streaks.clear()
            rates, weights = self._medians(), SeatWeights(Counter(found.values()))
            each, extra = median(self._examples) / weights.total, self._extra()
            before = SeatWeights(Counter(self._levels.values()))
            longest = median(self._examples) / before.total
            lowered = [worker for worker, level in changed.items() if level < self._levels[worker]]
            self._grace = {w: GRACE * before.of(self._levels[w]) * (longest + extra) / rates[w] for w in lowered}
            self._expected = {worker: weights.of(found[worker]) * (each + extra) / rates[worker] for worker in lowered}
        return changed

    def costly(self, limits: CutLimits) -> list[int]:
        """Who is to be let go. Arguments as `better`."""
        if not self._streaks:
            return []
        lower = {w for w, level in self._best(limits, HARM, PATIENCE).items() if level < self._levels[w]}
        known = self._let_go & self._stubborn
        return sorted(
            worker
            for worker, rounds in self._streaks.items()
            if worker in known or (rounds >= PATIENCE and (worker in self._stubborn or worker not in lower))
        )

    def released(self, worker: int) -> None:
        """A worker was let go: it is known when it comes back."""
        self._let_go.add(worker)
        self._streaks.pop(worker, None)
        self._done.pop(worker, None)

    # -- what would be -----------------------------------------------------------------------------------------------

    def _best(self, limits: CutLimits, needed: float, last: int = WINDOW) -> dict[int, int]:
        """The levels with the shortest round, with few tasks where that is as good; or a step on the way there.

        None where they gain less than is needed, or somebody was not measured yet.

        Args:
            limits: of how finely a round can be cut.
            needed: how much more must be done in a second.
            last: how many rounds count.
        """
        rates, examples = self._medians(last), median(self._examples) if self._examples else 0.0
        known = {worker: level for worker, level in self._levels.items() if worker in rates}
        if len(known) < max(2, len(self._levels)):
            return {}
        now = self._seconds(known, rates)
        if now <= (1 + needed) * examples / sum(rates.values()):
            return {}
        best, best_seconds = known, now
        for levels in _candidates(rates):
            seconds = self._seconds(levels, rates) if limits.allow(levels, int(examples)) else math.inf
            if seconds < 0.98 * best_seconds:
                best, best_seconds = levels, seconds
        if now <= max((1 + needed) * best_seconds, best_seconds + MIN_SECONDS):
            return {}
        step = {worker: min(level, known[worker] + 1) for worker, level in best.items()}
        usual = 2 * sum(level >= 0 for level in step.values()) >= len(step)
        allowed = usual and limits.allow(step, int(examples)) and self._seconds(step, rates) <= now
        return step if allowed and self._is_steady(best, known, needed, last) else {}

    def _is_steady(self, levels: Mapping[int, int], known: Mapping[int, int], needed: float, last: int) -> bool:
        """Whether other levels would have been better in most of the rounds, and not just by what they come to."""
        count = min(last, *(len(self._done[worker]) for worker in known))
        extra = self._extra()
        rounds = [{worker: self._done[worker][-1 - i].rate(extra) for worker in known} for i in range(count)]
        better = [self._seconds(known, rates) > (1 + needed / 2) * self._seconds(levels, rates) for rates in rounds]
        return sum(better) >= STEADY * count

    def _medians(self, last: int = WINDOW) -> dict[int, float]:
        """Worker -> its examples a second, those that its tasks cost besides included."""
        extra = self._extra()
        present = {worker: list(done)[-last:] for worker, done in self._done.items() if worker in self._levels}
        return {worker: median(one.rate(extra) for one in done) for worker, done in present.items()}

    def _extra(self) -> float:
        """How many examples a task costs besides its own, by tasks of different size; until then a share of them."""
        found = []
        for sizes in self._by_size.values():
            known = sorted(size for size, seconds in sizes.items() if len(seconds) > 1)
            if known and known[-1] >= 1.5 * known[0]:
                short, long = median(sizes[known[0]]), median(sizes[known[-1]])
                costs = (known[-1] * short - known[0] * long) / (long - short) if long > short else math.inf
                found.append(min(max(0.0, costs), 10.0 * known[-1]))
        tasks = SeatWeights(Counter(self._levels.values())).total
        return median(found) if found else EXTRA * median(self._examples) / tasks if self._examples else 0.0

    def _seconds(self, levels: Mapping[int, int], rates: Mapping[int, float]) -> float:
        """How long a round would take."""
        weights = SeatWeights(Counter(levels.values()))
        each = median(self._examples) / weights.total
        extra = self._extra()
        longest = max(weights.of(level) * (each + extra) / rates[worker] for worker, level in levels.items())
        fewest, most = min(self._idle), max(self._idle)
        least = median(self._idle[fewest])
        a_task = max(0.0, (median(self._idle[most]) - least) / (most - fewest)) if most > fewest else 0.0
        return longest + max(0.0, least + a_task * (weights.total - fewest))

    def _find_stubborn(self, paces: Sequence[WorkerPace]) -> None:
        """Notes whose time did not fall with its tasks."""
        others = max((pace.seconds for pace in paces if pace.worker not in self._expected), default=0.0)
        for pace in paces:
            if pace.worker not in self._expected or self._grace.get(pace.worker, 0.0) > 0:
                continue
            quickest = self._quickest[pace.worker] = min(self._quickest.get(pace.worker, math.inf), pace.seconds)
            if len(self._examples) >= PATIENCE and quickest > STUBBORN * max(self._expected[pace.worker], others):
                self._stubborn.add(pace.worker)

    def _costly(self, paces: Sequence[WorkerPace], idle: float) -> list[int]:
        """Those without whom most more would be done in a second, if that is more by `HARM`."""
        slowest = sorted(paces, key=lambda pace: (-pace.seconds, pace.worker))
        left = sum(pace.examples for pace in paces)
        found, best, examples = list[int](), 1 + HARM, left
        for count in range(1, max(2, len(slowest) // 3 + 1)):
            last, others = slowest[count - 1], slowest[count].seconds if count < len(slowest) else 0.0
            left -= last.examples
            if not left or not others:
                break
            gain = (slowest[0].seconds + idle) / (others * examples / left + idle)
            if gain > best and (last.seconds > FAR * others or last.worker in self._stubborn):
                found, best = [pace.worker for pace in slowest[:count]], gain
        return found


def _candidates(rates: Mapping[int, float]) -> Iterator[dict[int, int]]:
    """Levels in proportion to what workers do in a second, more and less exactly."""
    fastest = sorted(rates.values(), reverse=True)
    usual = fastest[(len(fastest) + 1) // 2 - 1]
    for slack in SLACKS:
        wanted = {worker: math.floor(math.log2(rate / usual) + slack) for worker, rate in rates.items()}
        top = min(max(wanted.values()), HIGHEST)
        for spread in range(SPREAD + 1):
            yield {worker: max(LOWEST, min(top, max(level, top - spread))) for worker, level in wanted.items()}
