"""Attacks against no defence, `classic` and `guarded`: real rules, adversaries that know them, real training."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import msgspec

from podlt.crypto import digest
from podlt.economics.formulas import Detection
from podlt.economics.plan import detection
from podlt.economics.seats import Seating
from podlt.protocol.messages import Assignment
from podlt.protocol.options import RuleOptions
from podlt.protocol.plan import Upcoming
from podlt.protocol.shares import SeatWeights
from podlt.recipe import ProtocolSpec
from podlt.sim.attacks import ATTACKS, Attack
from podlt.sim.learning import LearningWorld
from podlt.sim.players import Gossip, Player
from podlt.sim.strategies import COST, Accomplice, Strategist, proof_options
from podlt.sim.world import MemoryLog, Scenario, make_player
from podlt.verify import verify_log
from podlt.verify.documents import Documents

Defence = Literal["none", "classic", "guarded"]

DEFENCES: dict[Defence, ProtocolSpec] = {
    "none": ProtocolSpec(checked=0.0, own=0.0, clip=0),
    "classic": ProtocolSpec(preset="classic"),
    "guarded": ProtocolSpec(),
}
"""The rules by name; with none, nothing is compared, executed again or clipped."""

EXAMPLES = 8
"""Of a task."""


class Score(msgspec.Struct, frozen=True):
    """What came of one attack on one run.

    Attributes:
        attack: by its name.
        defence: whose rules held.
        seed: of the run.
        cheaters: how many there were, each counted once under whatever keys.
        until: fakes until the first conviction, that one included, of each cheater that was convicted.
        trials: fakes that were opened; where only friends hold a shard, such shards.
        hits: those of them that a verdict convicted.
        expected: hits by the formula; None where it has none.
        honest_convicted: honest workers that were convicted.
        applied: shards whose applied update was a fake.
        vested: tasks paid for fakes.
        gain: of a cheater over the median honest worker of the run, in tasks' rewards.
        accuracy: of the trained model on the test set, at the end.
        without_fakes: the same, had the same rounds been trained on true updates.
        withheld: credits of honest workers that are pending, or not returned, at the end.
        cost: executions that were not useful, for each of a worker.
        rescued: withdrawals after a commitment that `verify` counts; None where it was not asked.
        clipped: updates that were scaled down.
        rounds: that were played.
        outcome: "complete", or "stopped"; "" where the model was ruined, and the run given up.
    """

    attack: str
    defence: Defence
    seed: int
    cheaters: int
    until: list[int]
    trials: int
    hits: int
    expected: float | None
    honest_convicted: int
    applied: int
    vested: int
    gain: float
    accuracy: float
    without_fakes: float
    withheld: int
    cost: float
    rescued: int | None
    clipped: int
    rounds: int
    outcome: str


class ArenaWorld(LearningWorld):
    """A run that counts what an attack comes to.

    Args:
        scenario: as of `World`.
        players: likewise.
        seed: likewise.
        attack: who attacks.
        levels: that the workers come to, in turn; all stay equal where there are none.
    """

    def __init__(
        self,
        scenario: Scenario,
        players: Callable[[Gossip], Sequence[Player]],
        seed: bytes,
        attack: Attack,
        levels: Sequence[int] = (),
    ) -> None:
        self.rows = MemoryLog()
        super().__init__(scenario, players, seed, self.rows)
        self.attack, self.levels = attack, levels
        self.trials = self.hits = self.vested_fakes = self.useful = self.executions = self.work = 0
        self.expected = 0.0
        self.given: Counter[int] = Counter()
        self.until: dict[int, int] = {}
        self._paid: dict[int, list[bool]] = {}
        self._escrow: dict[int, deque[bool]] = {}

    def owner(self, number: int) -> int:
        """Who gains by what a key does."""
        player = self.players[number]
        return player.owner if isinstance(player, Strategist) and player.owner >= 0 else number

    def step(self) -> bool:
        """Plays the next round, and follows each fake's pay."""
        self._share()
        ledger = self.state.ledger
        owed = {worker: ledger.owes(worker) for worker in ledger.accounts}
        played = super().step()
        for worker, fakes in self._paid.items():
            self._escrow.setdefault(worker, deque()).extend(fakes[owed[worker] :])
        self._paid = {}
        for worker, held in self._escrow.items():
            while len(held) > len(self.state.ledger.credits(worker)):
                self.vested_fakes += held.popleft()
        return played

    def _share(self) -> None:
        """Has workers come nearer to their levels, a step at a time, as fast as the rules allow."""
        state, levels = self.state, self.levels
        if not levels or state.options.votes or state.pending_levels or state.trained or not state.may_share:
            return
        known = {worker: state.workers[worker].level for worker in state.active()}
        due = {worker: min(level + 1, levels[worker % len(levels)]) for worker, level in known.items()}
        changed = {worker: level for worker, level in due.items() if level != known[worker]}
        if changed and state.roster.is_usual(changed):
            self.manager.share(changed)

    def apply(self, accepted: list[bytes], plan: Upcoming) -> None:
        """Counts what was given, found and paid, then applies the updates."""
        round, convicted = self.state.revealed, self.state.revealed.convicted()
        honest = [self.honest_result(self.state.task(j)) for j in range(plan.shards)]
        hazard = self._hazard()
        for shard, found in round.answers.items():
            fakers = [worker for worker, result in found.items() if result != honest[shard]]
            verdict = round.verdicts.get(shard)
            named = set(verdict.convicted) if verdict is not None and shard not in self.followed else set()
            outlier = verdict is not None and verdict.reason == "suspect" and shard not in self.followed
            if fakers and not outlier:
                self._try(fakers, named, hazard)
            for worker in fakers:
                self.given[self.owner(worker)] += 1
        for worker in convicted:
            self.until.setdefault(self.owner(worker), self.given[self.owner(worker)])
            self._escrow.pop(worker, None)
        for (seat, holder), result in sorted(round.results.items()):
            if holder not in convicted:
                self._paid.setdefault(holder, []).append(result != honest[round.roles.seats[seat]])
        self.useful += plan.shards
        self.work += len(round.results)
        self.executions += len(self.manager.to_execute())
        super().apply(accepted, plan)

    def _try(self, fakers: list[int], named: set[int], hazard: float | None) -> None:
        together = self.attack.formula == "paired"
        found = [worker in named for worker in fakers]
        trials, hits = (1, int(any(found))) if together else (len(found), sum(found))
        self.trials, self.hits = self.trials + trials, self.hits + hits
        self.expected += trials * (hazard or 0.0)

    def _hazard(self) -> float | None:
        if not self.attack.formula:
            return None
        state = self.state
        numbers = [state.roster.number(key) for key in state.roster.order]
        seats = {worker: state.roster.weight(worker) for worker in numbers if worker is not None}
        friends = sorted(seats[worker] for worker in seats if self.players[worker].cheats)
        others = sorted(seats[worker] for worker in seats if not self.players[worker].cheats)
        if not friends:
            return 0.0
        if not others:
            others.append(friends.pop())
        found = _detection(state.options, Seating(tuple(friends), tuple(others)))
        hazard: float = getattr(found, self.attack.formula)
        return hazard

    def _collect(self, waiting: deque[Assignment]) -> None:
        """As any world, but that the manager lets an accomplice go whom the round would compare."""
        super()._collect(waiting)
        while self.attack.rescue and (found := self._exposed()):
            super()._collect(deque(self.manager.withdraw(found[0], "was silent for 15 s")))

    def _exposed(self) -> list[int]:
        roles, round = self.manager.roles, self.state.in_progress
        compared = {*roles.checked, *roles.own}
        seats = [seat for seat, shard in roles.seats.items() if shard in compared]
        looked_at = {holder for seat in seats for holder in round.holders(seat)}
        return [w for w in sorted(looked_at) if isinstance(self.players[w], Accomplice) and self.state.is_active(w)]


def play_attack(
    name: str, defence: Defence, seed: int, workers: int, rounds: int, share: float, levels: Sequence[int] = ()
) -> Score:
    """Plays one run.

    Args:
        name: of the attack.
        defence: whose rules hold.
        seed: decides everything.
        workers: how many there are in all.
        rounds: of the run, about.
        share: of the workers that attack; at least one does.
        levels: of unequal machines: those of the workers, in turn.
    """
    attack = ATTACKS[name]
    count = 0 if attack.player is Player else 1 if attack.alone else max(1, int(share * workers))
    cycle = [levels[i % len(levels)] if levels else 0 for i in range(workers)]
    seats = workers if DEFENCES[defence].options.votes else SeatWeights(Counter(cycle)).total
    scenario = Scenario(
        examples=seats * rounds * EXAMPLES,
        batch_size=seats * EXAMPLES,
        shard_size=EXAMPLES,
        protocol=DEFENCES[defence],
        deposit=attack.deposit * EXAMPLES,
    )
    own = digest("arena/1", seed.to_bytes(8, "big"))

    def players(gossip: Gossip) -> list[Player]:
        cast = [make_player(attack.player, i, own, gossip, attack.rate) for i in range(count)]
        for player in cast:
            player.kind = attack.kind  # type: ignore[attr-defined]
        return cast + [make_player(Player, i, own, gossip) for i in range(count, workers)]

    world = ArenaWorld(scenario, players, own, attack, levels)
    world.begin()
    world.play()
    return _score(world, defence, seed, count)


def _score(world: ArenaWorld, defence: Defence, seed: int, count: int) -> Score:
    attackers = {player.number for player in world.players if world.owner(player.number) < count}
    cheats = {number for number in attackers if world.players[number].cheats}
    owners = {world.owner(number) for number in cheats}
    honest = sorted(_net(world, [n]) for n in range(len(world.players)) if n not in attackers)
    gains = [_net(world, [n for n in attackers if world.owner(n) == owner]) for owner in range(count)]
    typical = honest[len(honest) // 2] if honest else 0.0
    rescued = None
    if world.attack.rescue:
        rescued = verify_log(world.rows, Documents(world.recipe, world.program), jobs=1).counts["rescued"]
    wasted = world.work - world.useful + world.executions
    return Score(
        attack=world.attack.name,
        defence=defence,
        seed=seed,
        cheaters=len(owners),
        until=[fakes for owner, fakes in sorted(world.until.items()) if owner in owners],
        trials=world.trials,
        hits=world.hits,
        expected=world.expected if world.attack.formula else None,
        honest_convicted=len(set(world.convicted_in) - cheats),
        applied=world.fakes_applied,
        vested=world.vested_fakes,
        gain=sum(gains) / len(gains) - typical if gains else 0.0,
        accuracy=world.model.accuracy(),
        without_fakes=world.reference.accuracy(),
        withheld=_withheld(world, set(range(len(world.players))) - attackers),
        cost=wasted / max(1, world.work),
        rescued=rescued,
        clipped=world.clipped,
        rounds=world.state.round,
        outcome=world.state.closed.outcome if world.state.closed is not None else "",
    )


def _withheld(world: ArenaWorld, honest: set[int]) -> int:
    """Credits of honest workers that are not theirs although the run is complete."""
    if world.state.closed is None or world.state.closed.outcome != "complete":
        return 0
    accounts = [world.state.ledger.accounts[number] for number in honest]
    return sum(account.pending + account.deposit for account in accounts)


def _net(world: ArenaWorld, keys: Sequence[int]) -> float:
    """What somebody's keys gained, in tasks' rewards: pay that is its own, less deposits lost, less its work."""
    reward = EXAMPLES * world.scenario.protocol.reward
    accounts = [world.state.ledger.accounts[key] for key in keys]
    credits = sum(account.vested - account.seized for account in accounts)
    fakes = world.attack.work * sum(world.given[owner] for owner in {world.owner(key) for key in keys})
    return credits / reward - COST * (sum(world.players[key].executed for key in keys) + fakes)


@cache
def _detection(options: RuleOptions, seating: Seating) -> Detection:
    unequal = seating if {*seating.friends, *seating.others} != {1} else None
    return detection(proof_options(options), seating.workers, len(seating.friends), seating=unequal)
