"""A run of the real manager and the real workers over a simulated network: one seed decides everything.

The rules, the membership, the engine and the sessions of both sides are those of a run between machines; only what
carries messages, tells the time and computes is simulated. So a run that went wrong is repeated by its seed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from podlt.canonical import encode
from podlt.crypto import SigningKey, blob_digest, digest
from podlt.data.field import Field
from podlt.engine.interface import DurableEntries, Lost, Moved, TaskLate
from podlt.engine.local import frames
from podlt.errors import PeerError, TooFewWorkersError
from podlt.log.merkle import Tree, leaf_hash
from podlt.manager.fleet import FleetKeeper
from podlt.manager.roster import Membership
from podlt.protocol import entries as e
from podlt.protocol.manager import Manager
from podlt.protocol.messages import Assignment, Committed, Opened, Task, TreeSize
from podlt.protocol.plan import Upcoming, shard_bounds
from podlt.protocol.rules import RunState
from podlt.receipts.history import ReceiptHistory
from podlt.recipe import ProtocolSpec
from podlt.remote.engine import NetworkEngine
from podlt.remote.session.facts import Chance, ServedRun
from podlt.sim.faults import NetworkFaults
from podlt.sim.host import (
    ARITHMETIC,
    EXAMPLE_BYTES,
    STATE_BYTES,
    UPDATE_BYTES,
    Machine,
    ReceiptStore,
    SimulatedHost,
    update_of,
)
from podlt.sim.liars import liar
from podlt.sim.packets import EventQueue, ManagerKilledError, PacketSimulator
from podlt.sim.players import Gossip, Player
from podlt.sim.trouble import Trouble
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.worker.books import WorkerBooks

FIELDS = [Field("line", "u8", (EXAMPLE_BYTES,), "input", None)]

STALLED_SECONDS = 6000.0
"""Simulated seconds without a round, after all faults have ended, that no run may take."""


class StalledError(Exception):
    """A simulated run does not go on."""


class NetworkedWorld(World):
    """One run over a simulated network.

    Args:
        processes: how many identities each worker process has.
        rounds: of training.
        seed: decides everything.
        faults: what goes wrong; drawn from the seed, unless given.
        deposit: that each worker brings.
        examples: of each worker's share of a round.
        shares: of the recipe.
        rules: of the recipe, in place of the defaults and `shares`.

    Attributes:
        bound: has every receipt that a worker kept.
        packets: carries the messages.
        hosts: the worker processes.
        liars: numbers of those among them that lie.
        withdrawn: why workers were let go, in order.
        kills: how often the manager died.
        took: seconds of each round.
    """

    def __init__(
        self,
        processes: Sequence[int],
        rounds: int,
        seed: int,
        faults: NetworkFaults | None = None,
        *,
        deposit: int = 0,
        examples: int = 1,
        shares: Literal["measured", "equal"] = "measured",
        rules: ProtocolSpec | None = None,
    ) -> None:
        name = digest("sim-network/1", seed.to_bytes(16, "big", signed=True))
        self.dice = random.Random(name)
        self.faults = NetworkFaults.drawn(self.dice) if faults is None else faults
        count = sum(processes)
        batch, protocol = count * examples, rules if rules is not None else ProtocolSpec(shares=shares)
        scenario = Scenario(examples=batch * rounds, batch_size=batch, deposit=deposit, protocol=protocol)
        super().__init__(
            scenario,
            lambda gossip: self.cast(gossip, count, name),
            name,
            log := MemoryLog(),
            spare_secrets=1000,
        )
        self.memory_log, self.bound = log, ReceiptStore()
        self.schedule = EventQueue()
        self.packets = PacketSimulator(self.schedule, self.faults, self.dice)
        self._trouble = Trouble(self.packets, self.faults, self.dice)
        self.hosts: list[SimulatedHost] = []
        self.liars = set(range(len(processes))[: self.faults.liars])
        self.withdrawn: list[str] = []
        self.kills = 0
        self.took: list[float] = []
        self._states: dict[bytes, bytes] = {}
        self._plan: Upcoming | None = None
        self._stalled = 0.0
        self.packets.watch = self._check_progress
        keys = deque(player.key for player in self.players)
        for host, size in enumerate(processes):
            mine = [keys.popleft() for _ in range(size)]
            bend: dict[str, Any] = {"bend": liar(self.dice, self.schedule, self.faults)} if host in self.liars else {}
            withheld = self.faults.withheld_seconds if host < self.faults.withheld else 0.0
            if self.faults.machines:
                bend["machine"] = Machine(self.faults.compute * self.faults.machines[host], examples, withheld)
            elif withheld:
                bend["machine"] = Machine(self.faults.compute, withheld=withheld)
            bend |= self.behind(host, mine)
            books = partial(WorkerBooks, self.bound, [key.public for key in mine], self.key.public)
            self.hosts.append(SimulatedHost(mine, self.key.public, self.packets, self.faults, self.dice, books, **bend))

    def cast(self, gossip: Gossip, count: int, name: bytes) -> list[Player]:
        """Who is behind the identities: honest workers."""
        return [make_player(Player, number, name, gossip) for number in range(count)]

    def behind(self, host: int, keys: Sequence[SigningKey]) -> dict[str, Any]:
        """What a process is made with besides: nothing here."""
        return {}

    def between_rounds(self) -> None:
        """What else happens between rounds: nothing here."""

    # -- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Plays the run to its end.

        Raises:
            StalledError: it does not go on.
        """
        self._begin()
        for host in self.hosts:
            self.schedule.after(self.dice.random(), host.start)
            self._trouble.of_host(host)
        self._trouble.of_manager()
        wanted = len(self.honest)
        while self.state.closed is None or self.state.closed.outcome != "complete":
            try:
                self._open_engine(wanted)
                while self._next_round():
                    pass
            except ManagerKilledError:
                self.kills += 1
                self._come_back()
                wanted = 0

    @property
    def honest(self) -> set[bytes]:
        """The public keys of those that do not lie."""
        hosts = [host for number, host in enumerate(self.hosts) if number not in self.liars]
        return {key for host in hosts for key in host.keys}

    def _begin(self) -> None:
        state = self._expanded(digest("sim-parameters/1", self.seed))
        self._states[blob_digest(state)] = state
        self.manager.begin(self.first_entry(blob_digest(state)))
        self.write()

    def _open_engine(self, expected: int) -> None:
        """The engine of this life of the manager, and whoever comes to it."""
        run = ServedRun(
            key=self.key,
            program=self.program,
            fields=FIELDS,
            arithmetic=ARITHMETIC,
            state_bytes=STATE_BYTES,
            update_bytes=UPDATE_BYTES,
            batch_size=self.scenario.batch_size,
        )
        chance = Chance(self.dice.randbytes, self._clock, lambda: self.schedule.now)
        self.engine = NetworkEngine(
            run,
            self.packets,
            ReceiptHistory(lambda: self.memory_log),
            clock=lambda: self.schedule.now,
            chance=chance,
        )
        self.engine.state[:STATE_BYTES] = np.frombuffer(self._states[self.state.parameters], np.uint8)
        self.members = Membership(
            self.manager,
            self.engine,
            lambda event: None,
            head=self._head,
            held=lambda key: self.scenario.deposit,
            clock=lambda: self.schedule.now,
        )
        shares = self.scenario.protocol.shares
        self._fleet = FleetKeeper(
            self.manager, self.engine, self._let_go, lambda event: None, is_equal=shares == "equal"
        )
        self._stalled = self._limit()
        self.members.begin(expected)

    def _next_round(self) -> bool:
        """Plays a round; False once the run is complete."""
        self.write()
        self._stalled = self._limit()
        self.members.update()
        self.between_rounds()
        self._fleet.decide()
        if not self.state.trained:
            self.members.await_more()
        try:
            plan = self.manager.upcoming()
        except TooFewWorkersError as error:  # whoever owns the run resumes it
            self.stop(str(error))
            self.engine.finish("stopped", str(error))
            self.manager.resume()
            self.write()
            self.members.begin(len(self.state.active()))
            return True
        if plan is None:
            self.manager.close("complete")
            self.write()
            self.engine.finish("complete", "")
            return False
        self._plan, began, levels = plan, self.schedule.now, self._fleet.levels()
        try:
            self._round(plan)
            self._fleet.measured(self.schedule.now - began, levels)
            self.took.append(self.schedule.now - began)
        except TooFewWorkersError:
            self.manager.roll_back_round()
            self.manager.resume(anew=True)
            self.write()
        return True

    def _let_go(self, worker: int, reason: str) -> None:
        self.withdrawn.append(reason)
        self.members.let_go(worker, reason)

    def _come_back(self) -> None:
        """The manager is there again after a while, with what is in its log."""
        self.packets.killed = False
        self.packets.cut_all(seconds := self.dice.random() * self.faults.manager_seconds)
        self.schedule.run(self.schedule.now + seconds, lambda: False)
        self.packets.restart()
        self.state_from_log()
        self.manager.resume(anew=True)
        self.write()
        self._trouble.of_manager()

    def state_from_log(self) -> None:
        """The rules' side as it is after the log, as a manager that is resumed has it."""
        state, tree = RunState(), Tree()
        for _, leaf, body in self.memory_log.rows:
            state.apply(e.decode(body))
            tree.append(leaf)
        self.manager, self.tree = Manager(state, self.chain, self._clock), tree

    # -- a round -----------------------------------------------------------------------------------------------------

    def _collect(self, waiting: deque[Assignment]) -> None:
        """Has the tasks executed over the network, and their commitments opened."""
        plan, engine = self._plan, self.engine
        assert plan is not None
        self._tasks = {(a.seat, a.holder): a for a in waiting}
        self._bounds = shard_bounds(plan.examples, plan.shards)
        engine.deal(0, plan.examples, self._bounds, list(waiting))
        self._finish_collecting()

    def _finish_collecting(self) -> None:
        """Takes answers until all tasks have theirs."""
        manager, engine = self.manager, self.engine
        while not (manager.all_opened and engine.idle()):
            while not manager.all_committed:
                self._take_events()
            engine.open(manager.commit())
            while manager.all_committed and not (manager.all_opened and engine.idle()):
                self._take_events()

    def _take_events(self) -> None:
        for event in self.engine.events():
            if isinstance(event, frames.Results):
                for committed in event.committed:
                    self._take(committed)
            elif isinstance(event, frames.HostOpenings):
                for opened in event.opened:
                    self._take(opened)
            elif isinstance(event, frames.ExecutionFailed):
                if (event.seat, event.holder) in self._tasks:
                    self._lose(event.holder, f"failed: {event.message}")
            elif isinstance(event, TaskLate) and self.state.is_active(event.holder):
                self._deal_again(self.manager.back_up(event.seat))
            elif isinstance(event, Lost):
                self._lose(event.worker, event.reason)

    def _take(self, answer: Committed | Opened) -> None:
        if (answer.seat, answer.holder) not in self._tasks:
            return
        try:
            if isinstance(answer, Committed):
                self.manager.committed(answer)
            else:
                self.manager.opened(answer, self.engine.digest(answer.seat, answer.holder))
        except PeerError as error:
            self._lose(answer.holder, error.reason)

    def _lose(self, worker: int, reason: str) -> list[Assignment]:
        if self.state.workers[worker].status != "active":
            return []
        self.withdrawn.append(reason)
        self.engine.gone(worker)
        again = self.manager.withdraw(worker, reason)
        self._deal_again(*again)
        return again

    def _deal_again(self, *tasks: Assignment | None) -> None:
        again = [task for task in tasks if task is not None]
        self._tasks.update({(task.seat, task.holder): task for task in again})
        if again:
            assert self._plan is not None
            self.engine.deal(0, self._plan.examples, self._bounds, again, again=True)

    def _spread(self, dealt: Sequence[Assignment]) -> None:
        """Nobody overhears anything."""

    def honest_result(self, task: Task) -> bytes:
        """See `World`."""
        return blob_digest(update_of(task).data)

    def step_parameters(self, update: bytes) -> bytes:
        """See `World`: the parameters are bytes here, as workers fetch them."""
        state = self._expanded(super().step_parameters(update))
        self.engine.state[:STATE_BYTES] = np.frombuffer(state, np.uint8)
        self._states[blob_digest(state)] = state
        return blob_digest(state)

    def write(self) -> list[e.Entry]:
        """See `World`: workers hear of what is in the log."""
        before = self.tree.copy()
        entries = super().write()
        if entries and getattr(self, "engine", None) is not None:
            bodies = [encode(entry) for entry in entries]
            leaves = [leaf_hash(body) for body in bodies]
            first = before.size
            moved = [
                Moved(first + i, bodies[i], before.proof(leaves, first + i))
                for i, entry in enumerate(entries)
                if e.moves_credits(entry)
            ]
            self.engine.receipt(DurableEntries(first, first + len(entries), self.head, moved))
        return entries

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _head(self, over: int) -> TreeSize:
        if self.tree.size < over:
            self.write()
        return TreeSize(self.tree.size, self.tree.root())

    def _expanded(self, name: bytes) -> bytes:
        return b"".join(digest("sim-state/1", name, bytes([part])) for part in range(STATE_BYTES // 32))

    def _limit(self) -> float:
        return max(self.schedule.now, self.faults.until) + STALLED_SECONDS

    def _check_progress(self) -> None:
        if self.schedule.now > self._stalled:
            raise StalledError(f"no round for {STALLED_SECONDS:.0f} simulated seconds")
