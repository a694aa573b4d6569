"""The arena over a simulated network: the real manager, workers and sessions, with dishonest processes among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from podlt.crypto import SigningKey, blob_digest, digest
from podlt.economics.formulas import likely_count
from podlt.economics.plan import detection
from podlt.errors import UsageError
from podlt.protocol import entries as e
from podlt.protocol.messages import Assignment, Committed, Opened
from podlt.protocol.plan import Upcoming
from podlt.recipe import ProtocolSpec
from podlt.remote.session.facts import LATE_SECONDS
from podlt.sim.faults import NetworkFaults
from podlt.sim.host import UPDATE_BYTES, Machine, SimulatedHost, update_of
from podlt.sim.network_attacks import NETWORK_ATTACKS, NetworkAttack, Outcome
from podlt.sim.networked import NetworkedWorld
from podlt.sim.networks import broken_promises
from podlt.sim.players import Gossip, Player, forged_update
from podlt.sim.strategies import Accomplice, Strategist, proof_options
from podlt.sim.world import make_player
from podlt.verify import verify_log
from podlt.verify.documents import Documents
from podlt.worker.books import WorkerBooks

RULES = ProtocolSpec(checked=0.2, own=0.1, own_most=2, escrow=10)
"""More is checked than by default, and less in escrow, so that runs of a few rounds tell."""

COMPUTE, EXAMPLES, SHARE = 0.1, 16, 0.25
"""Seconds of a task of so many examples; the share of workers that attack."""

LATE = LATE_SECONDS
"""Seconds after which a task is late, at least."""

WITHHELD = 0.95 * LATE
"""After so many who answers at the last moment does."""


class CheatedWorld(NetworkedWorld):
    """A run over a simulated network, a process for each worker, some of which attack.

    Args:
        attack: what they do.
        workers: how many there are.
        rounds: of training.
        seed: decides everything.

    Attributes:
        trials: fakes that were opened.
        hits: those that a verdict named.
        expected: hits by the formula.
    """

    def __init__(self, attack: NetworkAttack, workers: int, rounds: int, seed: int) -> None:
        self.attack = attack
        self.count = 0 if attack.name == "nobody" else 1 if attack.alone else max(1, int(SHARE * workers))
        self.trials = self.hits = 0
        self.expected = 0.0
        self._arrays: dict[bytes, np.ndarray] = {}
        faults = NetworkFaults(compute=COMPUTE, delay=0.005, until=0.0)
        super().__init__([1] * workers, rounds, seed, faults, examples=EXAMPLES, rules=RULES)

    def prepare(self) -> None:
        """Players find updates that there are."""
        self.gossip.execute = lambda task: self._known(update_of(task))
        self.gossip.forge = lambda task, forger, kind: self._known(_expanded(forged_update(task, forger, kind)))
        for player in self.players:
            if isinstance(player, Strategist):
                player.world = self

    def cast(self, gossip: Gossip, count: int, name: bytes) -> list[Player]:
        """Those who attack, then the honest."""
        kinds = [self.attack.player] * self.count + [Player] * (count - self.count)
        return [make_player(kind, i, name, gossip) for i, kind in enumerate(kinds)]

    def behind(self, host: int, keys: Sequence[SigningKey]) -> dict[str, Any]:
        """What is behind a process' session."""
        if host >= self.count:
            return {"machine": Machine(COMPUTE, EXAMPLES)}
        return self._behind(self.players[host], lambda: self.hosts[host])

    def _behind(self, player: Player, host: Callable[[], SimulatedHost]) -> dict[str, Any]:
        def crash(seconds: float) -> None:
            if host().session is not None:
                host().crash(seconds)

        vice = self.attack.vice(player, lambda name: self._arrays[name], crash)
        seconds, withheld = {"at once": (COMPUTE / 100, 0.0), "last moment": (COMPUTE, WITHHELD)}.get(
            vice.machine, (COMPUTE, 0.0)
        )
        machine = Machine(seconds, EXAMPLES, withheld)
        return {"bend": vice.says, "answer": vice.answer, "heard": vice.heard, "machine": machine}

    # -- what players may do between rounds --------------------------------------------------------------------------

    def admit(self, player: Player) -> None:
        """A player connects: it returns, or comes under a key that nobody knows."""
        for host in self.hosts:
            if player.key.public in host.keys:
                if host.session is None:
                    host.start()
                return
        number = len(self.hosts)
        books = partial(WorkerBooks, self.bound, [player.key.public], self.key.public)
        behind = self._behind(player, lambda: self.hosts[number])
        host = SimulatedHost([player.key], self.key.public, self.packets, self.faults, self.dice, books, **behind)
        self.hosts.append(host)
        host.start()

    def depart(self, player: Player) -> None:
        """A player leaves: its process says so."""
        next(host for host in self.hosts if player.key.public in host.keys).leave()

    def between_rounds(self) -> None:
        """Players learn their numbers, and strategists look at their accounts."""
        by_key = {player.key.public: player for player in self.players}
        for number, worker in self.state.workers.items():
            by_key[worker.key].number = number
        joined = {worker.key for worker in self.state.workers.values()}
        for player in list(self.players):
            if isinstance(player, Strategist) and player.key.public in joined:
                player.before_round()

    # -- a round -----------------------------------------------------------------------------------------------------

    def _round(self, plan: Upcoming) -> None:
        self._arrays = {name: self._arrays[name] for name in self.gossip.revealed if name in self._arrays}
        super()._round(plan)

    def _spread(self, dealt: Sequence[Assignment]) -> None:
        """Those who attack compare their tasks."""
        self.gossip.shared.clear()
        self.gossip.commitments.clear()
        for assignment in dealt:
            if self._attacks(assignment.holder):
                task = assignment.task.digest()
                self.gossip.shared[task] = self.gossip.shared.get(task, 0) + 1

    def _take(self, answer: Committed | Opened) -> None:
        super()._take(answer)
        if isinstance(answer, Committed):
            self.gossip.commitments.append(answer)

    def _collect(self, waiting: deque[Assignment]) -> None:
        super()._collect(waiting)
        while self.attack.rescue and (found := self._exposed()):
            key = self.state.workers[found[0]].key
            self._lose(found[0], "was silent for 15 s")
            host = next(host for host in self.hosts if key in host.keys)
            if host.connection is not None:  # it comes back as soon as the round is over
                self.packets.reset(host.connection)
            self._finish_collecting()

    def _exposed(self) -> list[int]:
        roles, round = self.manager.roles, self.state.in_progress
        compared = {*roles.checked, *roles.own}
        seats = [seat for seat, shard in roles.seats.items() if shard in compared]
        holders = {holder for seat in seats for holder in round.holders(seat)}
        accomplices = {p.key.public for p in self.players if isinstance(p, Accomplice)}
        return [w for w in sorted(holders) if self.state.workers[w].key in accomplices and self.state.is_active(w)]

    def apply(self, accepted: list[bytes], plan: Upcoming) -> None:
        """Counts what was given and found."""
        round, state = self.state.revealed, self.state
        members = sum(self._attacks(worker) for worker in state.active())
        hazard = 0.0
        if self.attack.formula and 0 < members < round.size:
            found = detection(proof_options(state.options), round.seats, members)
            hazard = getattr(found, self.attack.formula)
        for shard, results in round.answers.items():
            due = self._known(update_of(state.task(shard)))
            named = set(round.verdicts[shard].convicted) if shard in round.verdicts else set()
            for worker, result in results.items():
                if result != due:
                    self.trials, self.hits = self.trials + 1, self.hits + (worker in named)
                    self.expected += hazard
        super().apply(accepted, plan)

    def _attacks(self, worker: int) -> bool:
        return self.state.workers[worker].key in self.attackers

    @property
    def attackers(self) -> set[bytes]:
        """The keys of those who attack."""
        first = {player.key.public for player in self.players[: self.count]}
        return first | {player.key.public for player in self.players if player.cheats}

    @property
    def honest(self) -> set[bytes]:
        """The others' keys."""
        return {player.key.public for player in self.players} - self.attackers

    def _known(self, update: np.ndarray) -> bytes:
        name = blob_digest(update.data)
        self._arrays[name] = update
        return name


def _expanded(name: bytes) -> np.ndarray:
    parts = [digest("sim-fake/1", name, bytes([part])) for part in range(UPDATE_BYTES // 32)]
    return np.frombuffer(b"".join(parts), np.uint8)


class NetworkRow(msgspec.Struct, frozen=True):
    """What came of one attack over the network, in all runs together.

    Attributes:
        attack: by its name.
        what: in a few words.
        expected: what was to come of it.
        outcome: what did.
        convicted: attackers, each once a run, under whatever key.
        let_go: withdrawals of attackers.
        honest_convicted: honest workers that were convicted.
        honest_let_go: withdrawals of honest workers.
        trials: fakes that were opened.
        hits: of them, named by a verdict.
        low: of the formula's 95 % interval for `hits`; None where there is no formula.
        high: of the same.
        applied: fakes that were applied.
        pay: what an attacker's keys earned for good, for each credit of an honest worker.
        pace: seconds of a round, for each of the run that nobody attacks.
        rescued: withdrawals after a commitment that `verify` counts.
        broken: what must hold at a run's end, and did not; empty if all did.
    """

    attack: str
    what: str
    expected: Outcome
    outcome: Outcome
    convicted: int
    let_go: int
    honest_convicted: int
    honest_let_go: int
    trials: int
    hits: int
    low: int | None
    high: int | None
    applied: int
    pay: float
    pace: float
    rescued: int
    broken: str

    @property
    def is_as_expected(self) -> bool:
        """Whether it came out as it was to, no honest worker suffered, and everything held."""
        inside = self.low is None or self.high is None or self.low <= self.hits <= self.high
        unharmed = not self.honest_convicted and not self.honest_let_go and not self.broken
        return self.outcome == self.expected and unharmed and inside


def play_network_arena(
    names: Sequence[str], seeds: int = 3, workers: int = 12, rounds: int = 30
) -> Iterator[NetworkRow]:
    """Plays attacks over simulated networks.

    Args:
        names: of attacks, or none for all.
        seeds: runs of each.
        workers: of each run, a process each.
        rounds: of each run.

    Raises:
        UsageError: an unknown attack.
    """
    for name in names:
        if name not in NETWORK_ATTACKS:
            raise UsageError(f"unknown attack {name!r}; available: {', '.join(NETWORK_ATTACKS)}")
    usual = [_pace(_played(NETWORK_ATTACKS["nobody"], workers, rounds, seed)) for seed in range(seeds)]
    for name, attack in NETWORK_ATTACKS.items():
        if not names or name in names:
            yield _row(attack, [_played(attack, workers, rounds, seed) for seed in range(seeds)], usual)


def _played(attack: NetworkAttack, workers: int, rounds: int, seed: int) -> CheatedWorld:
    world = CheatedWorld(attack, workers, rounds, seed)
    world.run()
    return world


def _pace(world: CheatedWorld) -> float:
    return sum(world.took) / max(1, len(world.took))


def _row(attack: NetworkAttack, worlds: Sequence[CheatedWorld], usual: Sequence[float]) -> NetworkRow:
    convicted = honest_convicted = let_go = honest_let_go = shut_out = rescued = 0
    mine = theirs = 0.0
    broken: list[str] = []
    for world in worlds:
        state, attackers = world.state, world.attackers
        convicted += len({_owner(world, worker) for worker in world.convicted_in if world._attacks(worker)})
        honest_convicted += sum(not world._attacks(worker) for worker in world.convicted_in)
        for _, _, body in world.memory_log.rows:
            entry = e.decode(body)
            if isinstance(entry, e.Withdraw):
                left = entry.reason == "left"
                let_go += world._attacks(entry.worker) and not left
                honest_let_go += not world._attacks(entry.worker)
                shut_out += "useless messages" in entry.reason
        vested = {worker.key: state.ledger.accounts[number].vested for number, worker in state.workers.items()}
        mine += sum(vested.get(key, 0) for key in attackers) / max(1, world.count)
        theirs += sum(vested[key] for key in world.honest if key in vested) / len(world.honest)
        broken += broken_promises(world)
        found = verify_log(world.memory_log, Documents(world.recipe, world.program), jobs=1)
        rescued += found.counts["rescued"]
        broken += [f"verify: {found.failure}"] if found.failure is not None else []
    trials, hits, applied = (sum(getattr(w, n) for w in worlds) for n in ("trials", "hits", "fakes_applied"))
    low = high = None
    if attack.formula and trials:
        low, high = likely_count(trials, min(1.0, sum(world.expected for world in worlds) / trials))
    outcome: Outcome = "harmless"
    if convicted:
        outcome = "caught"
    elif applied and rescued:
        outcome = "rescued"
    elif shut_out:
        outcome = "shut out"
    elif let_go:
        outcome = "let go"
    return NetworkRow(
        attack=attack.name,
        what=attack.what,
        expected=attack.expected,
        outcome=outcome,
        convicted=convicted,
        let_go=let_go,
        honest_convicted=honest_convicted,
        honest_let_go=honest_let_go,
        trials=trials,
        hits=hits,
        low=low,
        high=high,
        applied=applied,
        pay=mine / theirs if theirs else 0.0,
        pace=sum(map(_pace, worlds)) / sum(usual),
        rescued=rescued,
        broken="; ".join(broken),
    )


def _owner(world: CheatedWorld, worker: int) -> bytes:
    """The first key of whoever is behind a worker."""
    player = next(p for p in world.players if p.key.public == world.state.workers[worker].key)
    while isinstance(player, Strategist) and player.owner >= 0 and player.owner != player.number:
        player = next(p for p in world.players if p.number == player.owner)
    return player.key.public
