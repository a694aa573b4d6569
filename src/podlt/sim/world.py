"""A run of the real manager over simulated workers: the same entries, the same signatures, the same tree heads.

One seed decides everything (keys, chance, the clock), so the same seed gives the same log, byte for byte.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from podlt.canonical import encode, to_json
from podlt.crypto import HashChain, SigningKey, digest
from podlt.data.spec import DataSpec
from podlt.dice import Dice
from podlt.errors import PeerError, TooFewWorkersError
from podlt.log.merkle import Tree, leaf_hash
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.protocol import entries as e
from podlt.protocol.families.membership import may_return
from podlt.protocol.manager import Manager
from podlt.protocol.messages import Assignment, Task, TreeSize
from podlt.protocol.plan import Upcoming, shard_bounds
from podlt.protocol.rules import RunState
from podlt.recipe import SIMULATED, ModelSpec, ProtocolSpec, Recipe, TrainingSpec, terms_of
from podlt.sim.players import Gossip, Player

EPOCH_MILLIS = 1_700_000_000_000
"""Where the simulated clock starts; it goes on by a millisecond each time that somebody looks."""


class Log(Protocol):
    """What a world writes to: `MemoryLog`, or the real `LogStore`."""

    def append(self, first: int, bodies: Sequence[bytes], note: str) -> None:
        """Writes entries and the head over all."""


class MemoryLog:
    """A log in memory, read as a `LogStore` is."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, bytes, bytes]] = []
        self.notes: list[tuple[int, str]] = []

    def append(self, first: int, bodies: Sequence[bytes], note: str) -> None:
        """Writes entries and the head over all."""
        self.rows += [(first + i, leaf_hash(body), body) for i, body in enumerate(bodies)]
        self.notes.append((first + len(bodies), note))

    def entries(self, first: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        """Number, leaf hash and bytes of each entry."""
        return iter(self.rows[first:])

    def heads(self, above: int = 0, most: int | None = None) -> list[tuple[int, str]]:
        """Size and note of each head over more than so many entries; `most` of them."""
        return [head for head in self.notes if head[0] > above][:most]

    def close(self) -> None:
        """Nothing to close."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulated run is about; the numbers are those of a recipe. Everybody who joins brings the deposit.

    Args:
        tested: whether there is a test set, whose (simulated) figures are logged after each epoch.
    """

    examples: int
    epochs: int = 1
    batch_size: int
    shard_size: int = 0
    protocol: ProtocolSpec = ProtocolSpec()
    deposit: int = 0
    tested: bool = False


def recipe_of(scenario: Scenario, workers: int, seed: bytes) -> Recipe:
    """The recipe that a simulated run follows; it says that the run was simulated."""
    return Recipe(
        data=DataSpec(SIMULATED),
        model=ModelSpec("podlt.sim:update"),
        training=TrainingSpec(
            epochs=scenario.epochs,
            workers=max(scenario.protocol.options.min_workers, workers),
            batch_size=scenario.batch_size,
            shard_size=scenario.shard_size,
            seed=int.from_bytes(digest("sim-seed/1", seed)[:5], "big"),
        ),
        protocol=scenario.protocol,
        digits=2,  # nothing is computed: what it says only fixes the draws, and so the golden transcripts
    )


class World:
    """One run: a manager, and players who answer it.

    Args:
        scenario: the run's numbers.
        players: makes the players, given what they can learn of each other.
        seed: decides everything.
        log: where the entries go.
        spare_secrets: how many secrets the chain has beyond those that the first entry promises.
    """

    def __init__(
        self,
        scenario: Scenario,
        players: Callable[[Gossip], Sequence[Player]],
        seed: bytes,
        log: Log,
        *,
        spare_secrets: int = 0,
    ) -> None:
        self.scenario = scenario
        self.gossip = Gossip()
        self.players = list(players(self.gossip))
        self.log = log
        self.seed = seed
        recipe = recipe_of(scenario, len(self.players), seed)
        self.recipe = recipe.to_bytes()
        self.program = to_json({"arithmetic": recipe.program_arithmetic, "simulation": "sim-update/1"})
        self.key = SigningKey(digest("sim-manager/1", seed))
        self.terms = terms_of(recipe, scenario.examples)
        self.chain = HashChain(digest("sim-chain/1", seed), self.terms.chain_length + spare_secrets)
        self._now = EPOCH_MILLIS
        self.tree = Tree()
        self.head = ""
        self.manager = Manager(RunState(), self.chain, self._clock)
        self.fakes_applied = self.fakes_opened = self.fakes_caught = 0
        self.convicted_in: dict[int, int] = {}
        self.prepare()

    def prepare(self) -> None:
        """What a kind of run has besides: nothing here."""

    @property
    def state(self) -> RunState:
        """The run so far."""
        return self.manager.state

    def begin(self) -> None:
        """Writes the first entry, and lets everybody join."""
        self.manager.begin(self.first_entry(digest("sim-parameters/1", self.seed)))
        for player in self.players:
            self.admit(player)
        self.write()

    def first_entry(self, parameters: bytes) -> e.Begin:
        """The first entry of a run that starts from parameters of this digest."""
        return e.Begin(
            at=self._clock(),
            manager=self.key.public,
            nonce=digest("sim-nonce/1", self.seed),
            recipe=digest("recipe/1", self.recipe),
            program=digest("program/1", self.program),
            arithmetic=digest("sim-arithmetic/1"),
            data=digest("sim-data/1", self.seed),
            test=digest("sim-test/1", self.seed) if self.scenario.tested else e.NO_TEST,
            parameters=parameters,
            examples=self.scenario.examples,
            chain_end=self.chain.end,
            **msgspec.structs.asdict(self.terms),
        )

    def admit(self, player: Player) -> None:
        """A player joins, or joins again, with whatever of its deposit the manager does not hold yet."""
        known = self.state.workers.get(player.number)
        if known is not None and known.joined >= self.tree.size:
            self.write()  # who comes back signs a head over its last joining
        accounts = self.state.ledger.accounts
        held = accounts[player.number].deposit if player.number in accounts else 0
        deposit = max(0, self.scenario.deposit - held)
        seen = TreeSize(self.tree.size, self.tree.root())
        terms = self.manager.join_terms(player.key.public, deposit, seen, operator=player.operator)
        self.manager.join(player.key.public, terms, player.join(self.state.run, terms))

    def depart(self, player: Player) -> None:
        """A player leaves between rounds."""
        self.manager.withdraw(player.number, "left")

    def play(self, until: Callable[[World], bool] = lambda world: False) -> None:
        """Plays rounds until the run is complete, stops for want of workers, or `until` is true."""
        while not until(self):
            self.readmit()
            if not self.step():
                return

    def step(self) -> bool:
        """Plays the next round; False if there is none: the run is complete, or stopped for want of workers."""
        self.write()
        try:
            plan = self.manager.upcoming()
            if plan is not None:
                self._round(plan)
                return True
            self.manager.close("complete")
        except TooFewWorkersError as error:
            self.stop(str(error))
        self.write()
        return False

    def stop(self, reason: str) -> None:
        """Closes the log so that it can be resumed; a round that cannot be ended is forgotten."""
        self.manager.roll_back_round()
        self.manager.close("stopped", reason)
        self.write()

    def _round(self, plan: Upcoming) -> None:
        manager = self.manager
        self.gossip.left = -(-(self.state.epochs * self.scenario.examples - self._used(plan)) // plan.examples)
        dealt = manager.open(plan, self.shards(plan))
        self._spread(dealt)
        self._collect(deque(dealt))
        manager.reveal()
        round = self.state.revealed
        self.gossip.revealed[:] = [result for _, result in sorted(round.results.items())]
        tasks = [self.state.task(shard) for shard in range(plan.shards)]
        self.look(plan)
        manager.judge({shard: self.honest_result(tasks[shard]) for shard in manager.to_execute()})
        for worker in round.convicted():
            self.convicted_in.setdefault(worker, round.open.round)
        accepted = [round.accepted(shard) for shard in range(plan.shards)]
        honest = [self.honest_result(task) for task in tasks]
        self.fakes_applied += sum(a != h for a, h in zip(accepted, honest, strict=True))
        fakes = [who for j, found in round.answers.items() for who, result in found.items() if result != honest[j]]
        self.fakes_opened, self.fakes_caught = (
            self.fakes_opened + len(fakes),
            self.fakes_caught + sum(who in round.convicted() for who in fakes),
        )
        self.apply(accepted, plan)
        manager.pay()
        if self.state.measure_due:
            manager.measure({"accuracy": 0.5, "loss": 1.0})
        self.write()

    def look(self, plan: Upcoming) -> None:
        """What the manager executes besides what it must: nothing, where updates have no size."""

    def honest_result(self, task: Task) -> bytes:
        """The digest of the one right update of a task."""
        return self.gossip.execute(task)

    def apply(self, accepted: list[bytes], plan: Upcoming) -> None:
        """Applies the average of the updates of these digests."""
        update = digest("sim-average/1", *accepted)
        self.manager.apply(update, self.step_parameters(update), 1.0)

    def step_parameters(self, update: bytes) -> bytes:
        """The digest of the parameters after the averaged update of this digest."""
        return digest("sim-step/1", self.state.parameters, update)

    def write(self) -> list[e.Entry]:
        """Writes what was proposed, and signs the tree head over it; returns what was written."""
        entries = self.manager.take()
        if entries:
            bodies = [encode(entry) for entry in entries]
            first = self.tree.size
            for body in bodies:
                self.tree.append(leaf_hash(body))
            name = origin_of(self.state.run)
            self.head = sign_head(Head(name, self.tree.size, self.tree.root()), self.key)
            self.log.append(first, bodies, self.head)
        return entries

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _used(self, plan: Upcoming) -> int:
        return plan.epoch * self.scenario.examples + plan.offset

    def _collect(self, waiting: deque[Assignment]) -> None:
        """Brings tasks to players and answers back until every task is answered and opened."""
        manager = self.manager
        while True:
            while waiting:
                waiting.extend(self._ask(waiting.popleft()))
            missing = manager.uncommitted()
            if missing:
                holders = self.state.in_progress.holders
                for holder in dict.fromkeys(holder for seat in missing for holder in holders(seat)):
                    waiting.extend(self._lose(holder, "no commitment"))
                continue
            manager.commit()
            hidden: dict[int, set[int]] = {}
            for seat, holder in manager.unopened():
                hidden.setdefault(holder, set()).add(seat)
            if not hidden:
                return
            for sender, due in hidden.items():
                if self.state.is_active(sender):
                    waiting.extend(self._ask_opening(sender, due))

    def _ask(self, assignment: Assignment) -> list[Assignment]:
        """Takes a player's commitments. Who sent a message is known from the link, whatever the message says."""
        sender = assignment.holder
        if self.state.workers[sender].status != "active":
            return []
        for message in self.players[sender].commit(assignment):
            if message.holder != sender:
                return self._lose(sender, "a message in another's name")
            try:
                self.manager.committed(message)
            except PeerError as error:
                return self._lose(sender, error.reason)
            self.gossip.commitments.append(message)
        return []

    def _ask_opening(self, sender: int, due: set[int]) -> list[Assignment]:
        """Takes a player's openings of the tasks that are due from it."""
        for message, uploaded in self.players[sender].open(self.state.round):
            try:
                self.manager.opened(message, uploaded)
            except PeerError as error:
                return self._lose(sender, error.reason)
            due.discard(message.seat)
        return self._lose(sender, "no opening") if due else []

    def _lose(self, worker: int, reason: str) -> list[Assignment]:
        again = self.manager.withdraw(worker, reason)
        self._count_shared(again)
        return again

    def _spread(self, dealt: Sequence[Assignment]) -> None:
        self.gossip.shared.clear()
        self.gossip.commitments.clear()
        self._count_shared(dealt)

    def _count_shared(self, dealt: Sequence[Assignment]) -> None:
        for assignment in dealt:
            if self.players[assignment.holder].cheats:
                task = assignment.task.digest()
                self.gossip.shared[task] = self.gossip.shared.get(task, 0) + 1

    def readmit(self) -> None:
        """Has the players that withdrew join again, but for those that never return."""
        for number, worker in list(self.state.workers.items()):
            if worker.status == "withdrawn" and self.players[number].returns and may_return(worker):
                self.admit(self.players[number])

    def shards(self, plan: Upcoming) -> list[bytes]:
        """The digests of a round's shards; which examples they are is the seed's affair."""
        bounds = shard_bounds(plan.examples, plan.shards)
        place = plan.epoch.to_bytes(8, "big") + plan.offset.to_bytes(8, "big")
        return [
            digest("sim-shard/1", self.seed, place, start.to_bytes(8, "big"), stop.to_bytes(8, "big"))
            for start, stop in bounds
        ]

    def _clock(self) -> int:
        self._now += 1
        return self._now


def make_player(kind: type[Player], number: int, seed: bytes, gossip: Gossip, rate: float | None = None) -> Player:
    """A player whose key and chance follow from the seed."""
    name = number.to_bytes(8, "big")
    dice = Dice(digest("sim-dice/1", seed, name))
    return kind(number, SigningKey(digest("sim-key/1", seed, name)), dice, gossip, rate)
