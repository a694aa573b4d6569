"""A world that trains: digests stand for real updates, which are averaged and clipped by the rules of the run.

The updates of a round are worked out once, whoever executes them: a worker's honest result is what the manager finds
too. False updates are of a kind; each forger's differs from every other's, but for those who share a fake.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from podlt.crypto import digest
from podlt.program.clip import part_squares, scaled, scales
from podlt.program.outliers import OutlierBudget, left_by_the_false
from podlt.protocol import entries as e
from podlt.protocol.messages import Assignment, Task
from podlt.protocol.plan import Upcoming, shard_bounds
from podlt.sim.digits import COUNT, LAYOUT, DigitsModel, Floats, Whole, digit_examples
from podlt.sim.strategies import Strategist, late_backup
from podlt.sim.world import World

HUGE = np.float32(1e30)


class Draft(msgspec.Struct, frozen=True):
    """What a forger may work from: it knows everything of the round.

    Attributes:
        honest: the right update.
        half: twice the update of the first half of the examples.
        before: an update of the round before.
        everybody: all right updates of the round, (shards, `COUNT`).
        chance: the forger's own.
    """

    honest: Floats
    half: Callable[[], Floats]
    before: Floats
    everybody: Floats
    chance: np.random.Generator


def _random(draft: Draft) -> Floats:
    spread = np.linalg.norm(draft.honest) / np.sqrt(COUNT)
    return draft.chance.normal(0, spread, COUNT).astype(np.float32)


def _rounded(draft: Draft) -> Floats:
    """As bfloat16 would have it: 8 bits of each value."""
    return (draft.honest.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _under_clip(draft: Draft) -> Floats:
    """The update with its sign turned, as large as may be without being clipped by the default of 8."""
    norms = np.linalg.norm(draft.everybody.astype(np.float64), axis=1)
    own = np.linalg.norm(draft.honest.astype(np.float64))
    size = 7.9 * np.median(norms) / own if own and np.isfinite(norms).all() else 1.0
    return np.asarray(-size * draft.honest, np.float32)


def _little(draft: Draft) -> Floats:
    """Against the mean of the honest updates, by one standard deviation of theirs in each value."""
    with np.errstate(all="ignore"):
        fake: Floats = (draft.everybody.mean(axis=0) - draft.everybody.std(axis=0)).astype(np.float32)
    return fake


def _mean(updates: Sequence[Floats] | Floats, examples: int) -> Floats:
    with np.errstate(all="ignore"):
        return np.asarray(np.sum(updates, axis=0, dtype=np.float64) / examples, np.float32)


FAKES: dict[str, Callable[[Draft], Floats]] = {
    "zeros": lambda draft: np.zeros(COUNT, np.float32),
    "random": _random,
    "stale": lambda draft: draft.before.copy(),
    "half": lambda draft: draft.half(),
    "rounded": _rounded,
    "negative": lambda draft: -draft.honest,
    "thousand": lambda draft: np.float32(-1000) * draft.honest,
    "under-clip": _under_clip,
    "1e30": lambda draft: np.full(COUNT, HUGE, np.float32),
    "little": _little,
}
"""False updates by their kind."""


class LearningWorld(World):
    """A run in which shards are examples of the digits.

    Attributes:
        model: what is trained.
        reference: the same, trained in the same rounds on true updates that nobody clips: without the fakes.
        clipped: updates that were scaled down.
        looks: shards that the manager executed as outliers.
        followed: shards of the round that it executed because their authors were found to be false elsewhere.
    """

    def prepare(self) -> None:
        """The two models, and what is kept of a round."""
        self.gossip.execute, self.gossip.forge = self._execute, self._forge
        self._chance = int.from_bytes(digest("sim-digits/1", self.seed)[:7], "big")
        self.model, self.reference = DigitsModel(self._chance), DigitsModel(self._chance)
        self.clipped = self.looks = 0
        self.followed: set[int] = set()
        self._outliers: OutlierBudget | None = None
        self._arrays: dict[bytes, Floats] = {}
        self._before: dict[bytes, Floats] = {}
        self._examples: dict[bytes, Whole] = {}
        self._honest: dict[bytes, bytes] = {}
        self._everybody: Floats = np.zeros((1, COUNT), np.float32)
        self._stale: Floats = self._everybody
        self._due: Floats = self._everybody
        self._orders: dict[int, Whole] = {}
        self._bad: set[bytes] = set()
        for player in self.players:
            if isinstance(player, Strategist):
                player.world = self

    def readmit(self) -> None:
        """Has players join again, and strategists look at their accounts."""
        super().readmit()
        for player in self.players:  # whoever joins under a new key comes last, and decides as well
            if isinstance(player, Strategist):
                player.before_round()

    def shards(self, plan: Upcoming) -> list[bytes]:
        """The digests of a round's shards; works out their updates."""
        names, bounds = super().shards(plan), shard_bounds(plan.examples, plan.shards)
        first = plan.epoch * self.scenario.examples + plan.offset
        examples = np.array([self._line(first + i) for i in range(plan.examples)], np.int64)
        self._before, self._arrays = self._arrays, {}
        previous, self._everybody = self._everybody, self.model.updates(examples, bounds)
        self._stale = previous
        same = np.array_equal(self.model.values, self.reference.values)
        self._due = self._everybody if same else self.reference.updates(examples, bounds)
        self._examples = {name: examples[start:stop] for name, (start, stop) in zip(names, bounds, strict=True)}
        self._bad = set()
        self._honest = {name: self._known(name, update) for name, update in zip(names, self._everybody, strict=True)}
        return names

    def apply(self, accepted: list[bytes], plan: Upcoming) -> None:
        """Clips, averages and applies the updates of these digests by the rules of the run."""
        arrays = self._updates(accepted)
        counts = [stop - start for start, stop in shard_bounds(plan.examples, plan.shards)]
        found = scales(arrays, counts, LAYOUT, self.state.options.clip)
        for scale in found:
            arrays[scale.shard] = scaled(arrays[scale.shard], LAYOUT, [scale])
        self.clipped += len(found)
        average = _mean(arrays, plan.examples)
        self.model.step(average)
        self.reference.step(_mean(self._due, plan.examples))
        update, loss = digest("sim-average/1", average.tobytes()), float(average[0])
        clipped = [e.ClippedPart(scale.shard, scale.part, scale.exponent) for scale in found]
        self.manager.apply(update, self.step_parameters(update), loss if np.isfinite(loss) else 0.0, clipped)

    def look(self, plan: Upcoming) -> None:
        """As the manager of a real run does: executes outliers, as far as its budget goes, and what else liars gave."""
        state, manager = self.state, self.manager
        if self._outliers is None:
            self._outliers = OutlierBudget(state.options.clip if state.options.own else 0)
        answers = state.revealed.answers
        given = [next(iter(answers[shard].values())) for shard in range(plan.shards)]
        counts = [stop - start for start, stop in shard_bounds(plan.examples, plan.shards)]

        def is_false(shard: int) -> bool:
            due = self.honest_result(state.task(shard))
            return any(result != due for result in answers[shard].values())

        executed = {j: self.honest_result(state.task(j)) for j in manager.to_execute()}

        def execute(shard: int) -> bool:
            self.looks += 1
            executed[shard] = self.honest_result(state.task(shard))
            manager.suspect(shard)
            return is_false(shard)

        squares = part_squares(self._updates(given), counts, LAYOUT)[0]
        self._outliers.look(squares, {shard: is_false(shard) for shard in executed}, execute)
        self.followed = set(left_by_the_false(answers, executed))
        for shard in self.followed:
            manager.suspect(shard)

    def _updates(self, names: Sequence[bytes]) -> list[Floats]:
        return [self._arrays[each] if each in self._arrays else self._before[each] for each in names]

    def play(self, until: Callable[[World], bool] = lambda world: False) -> None:
        """Plays on until the run is over, or the parameters are not finite: then a real run stops as well."""
        super().play(lambda world: until(world) or not self.model.finite)

    def _collect(self, waiting: deque[Assignment]) -> None:
        super()._collect(waiting)
        for shard, name in enumerate(self.state.in_progress.open.shards):
            if name in self._bad:
                self.manager.suspect(shard)

    def _ask(self, assignment: Assignment) -> list[Assignment]:
        """As any world, but that who is late is asked after its backup."""
        backup = late_backup(self, assignment)
        return super()._ask(assignment) if backup is None else [backup, assignment]

    def _execute(self, task: Task) -> bytes:
        return self._honest[task.shard]

    def _forge(self, task: Task, forger: bytes, kind: str) -> bytes:
        own = digest("sim-forger/1", forger, task.digest())
        chance = np.random.default_rng(int.from_bytes(own[:8], "big"))
        examples = self._examples[task.shard]

        def half() -> Floats:
            count = max(1, len(examples) // 2)
            update = self.model.updates(examples, [(0, count)])[0]
            return np.asarray(np.float32(len(examples) / count) * update, np.float32)

        before = self._stale[int(chance.integers(len(self._stale)))]
        honest = self._arrays[self._honest[task.shard]]
        fake = FAKES[kind](Draft(honest, half, before, self._everybody, chance))
        start = dict(LAYOUT.items())["grad:w1"].offset // 4
        # Who forges alone is found alone: one value says whose fake it is, and harms nothing.
        fake[start + int(chance.integers(64))] = np.float32(2.0**-40 * (1 + chance.random()))
        return self._known(task.shard, fake)

    def _known(self, shard: bytes, update: Floats) -> bytes:
        name = digest("sim-update/1", update.tobytes())
        self._arrays[name] = update
        if not np.isfinite(update).all():
            self._bad.add(shard)
        return name

    def _line(self, place: int) -> int:
        """The example of the training set at a place of the run: it is mixed anew for each pass."""
        number, index = divmod(place, len(digit_examples().labels))
        return int(self._order(number)[index])

    def _order(self, number: int) -> Whole:
        if number not in self._orders:
            chance = np.random.default_rng([self._chance, number])
            self._orders[number] = chance.permutation(len(digit_examples().labels))
        return self._orders[number]
