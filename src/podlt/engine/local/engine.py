"""The engine `local`: workers on this machine, in as many processes as there are cores.

Parameters, the block in work and all updates lie in memory that the processes share. A process that dies is replaced;
its workers keep their identities, and what they were dealt in this round is dealt to them again.
"""

from __future__ import annotations

import selectors
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from podlt.crypto import blob_digest
from podlt.engine.local import frames
from podlt.engine.local.process import HostProcess
from podlt.engine.shared_memory import BlockBuffer, Region
from podlt.errors import EngineError
from podlt.protocol.messages import Assignment, JoinSignatures, TreeSize

FIRST_PATIENCE, LEAST_PATIENCE, PATIENCE_TIMES = 600.0, 60.0, 20.0
"""Seconds without an answer after which a process that has tasks is taken for hung: until the first answer, and at
least; then so many times the longest wait between answers that there was."""

MAX_DEATHS = 3
"""How often a process may die within one round before the run stops: then it is the task that kills it."""


class Restarted(msgspec.Struct, frozen=True):
    """A worker process had died (with this exit status) or hung, and was replaced."""

    process: int
    status: int
    workers: list[int]


Event = frames.Results | frames.ExecutionFailed | frames.HostOpenings | Restarted


class _Seat:
    """The place of one process: whose workers it hosts, what it was dealt this round, and who sits there now.

    Attributes:
        deals: of this round, to be sent again to a process that takes over; working: the tasks' origins that were sent
            and not answered yet, and how often; deaths: how many processes died here in this round; late: whether
            one took over that was not asked to open yet, although the others were; heard: when it last was given
            something to do, or answered (seconds, monotonic).
    """

    def __init__(self, number: int, workers: list[frames.Hosted], host: HostProcess) -> None:
        self.number = number
        self.workers = workers
        self.host = host
        self.deals: list[frames.Deal] = []
        self.working: Counter[int] = Counter()
        self.deaths = 0
        self.late = False
        self.heard = time.monotonic()

    def give(self, deal: frames.Deal) -> None:
        """Sends a deal, and remembers it."""
        self.deals.append(deal)
        if not self.working:
            self.heard = time.monotonic()
        self.working.update(piece.seat for piece in deal.tasks)
        self.host.send(deal)

    def drop(self, origins: set[int]) -> None:
        """Forgets tasks that others have now: a process that takes over must not execute them."""
        self.deals = [rest for deal in self.deals if (rest := _without(deal, origins)).tasks]

    def answered(self, message: frames.Results | frames.ExecutionFailed) -> None:
        """Takes note of tasks that are done, or that failed."""
        self.working.subtract(set(message.done) if isinstance(message, frames.Results) else [message.seat])
        self.working = +self.working


def _without(deal: frames.Deal, origins: set[int]) -> frames.Deal:
    """A deal without some of its tasks."""
    return msgspec.structs.replace(deal, tasks=[p for p in deal.tasks if p.seat not in origins])


class LocalEngine:
    """Carries tasks to workers on this machine.

    Args:
        setup: what every process needs, without its workers; state_bytes, update_bytes: the sizes of the parameters'
            and an update's layout; workers: all identities; hosts: the processes, which the engine takes out of the
            list and ends when it is closed.

    Raises:
        EngineError: there is not enough memory for the shared regions.
    """

    def __init__(
        self,
        setup: frames.HostSetup,
        state_bytes: int,
        update_bytes: int,
        workers: Sequence[frames.Hosted],
        hosts: list[HostProcess],
    ) -> None:
        self._state = Region(state_bytes)
        self._slots = Region(setup.slots * update_bytes)
        self._block = BlockBuffer(setup.execution.fields, setup.execution.block_lines)
        self._update_bytes = update_bytes
        self._setup = setup
        taken, hosts[:] = list(hosts), []
        count = len(taken)
        self._seats = [_Seat(i, list(workers[i::count]), host) for i, host in enumerate(taken)]
        self._home = {h.number: seat for seat in self._seats for h in seat.workers}
        self._selector = selectors.DefaultSelector()
        self._round = -1
        self._longest = 0.0
        self._opening = False
        self._waiting: list[tuple[_Seat, frames.Deal]] = []

    @property
    def processes(self) -> int:
        """How many processes there are."""
        return len(self._seats)

    @property
    def pids(self) -> list[int]:
        """Their process numbers."""
        return [seat.host.pid for seat in self._seats]

    def start(self, run: bytes, seen: TreeSize) -> dict[int, JoinSignatures]:
        """Has the processes host their workers in a run (its identity); returns each worker's signatures on joining it.

        Args:
            seen: the last tree head, which is signed too.

        Raises:
            EngineError: a process did not start; says what it wrote.
        """
        execution = msgspec.structs.replace(self._setup.execution, run=run)
        self._setup = msgspec.structs.replace(self._setup, execution=execution, seen=seen)
        for seat in self._seats:
            self._set_up(seat)
        joins: dict[int, JoinSignatures] = {}
        for seat in self._seats:
            joins.update(self._await_ready(seat))
        return joins

    @property
    def state(self) -> np.ndarray:
        """The parameters' bytes (uint8) that all workers see; the manager alone writes them, between rounds."""
        return self._state.bytes

    def block(self, buffer: int, lines: int) -> dict[str, np.ndarray]:
        """Where the lines of a block go, field by field."""
        return self._block.views(buffer, lines)

    def slot(self, seat: int) -> np.ndarray:
        """The update (uint8 bytes) of the task that was dealt to `seat`."""
        return self._slots.bytes[seat * self._update_bytes : (seat + 1) * self._update_bytes]

    def digest(self, seat: int) -> bytes:
        """The digest of that update."""
        return blob_digest(self.slot(seat).data)

    def deal(
        self,
        buffer: int,
        lines: int,
        bounds: Sequence[tuple[int, int]],
        assignments: Sequence[Assignment],
        *,
        again: bool = False,
        proof: bool = True,
    ) -> None:
        """Sends tasks to their holders.

        Args:
            buffer, lines: where the round's lines lie; bounds: where each fragment begins and ends among them;
            again: whether these tasks come on top of others of the same round; proof: false only for measuring.
        """
        self._opening = False  # what is dealt now must be committed to before anything else is opened
        if again:
            origins = {a.seat for a in assignments}
            for seat in self._seats:
                seat.drop(origins)
            self._waiting = [(seat, rest) for seat, deal in self._waiting if (rest := _without(deal, origins)).tasks]
        else:
            self._round, self._waiting = assignments[0].task.round, []
            for seat in self._seats:
                seat.deals, seat.working, seat.deaths, seat.late = [], Counter(), 0, False
        pieces: dict[int, list[frames.DealtTask]] = {}
        for a in assignments:
            piece = frames.DealtTask(a.seat, a.holder, *bounds[a.fragment], a.task)
            pieces.setdefault(self._home[a.holder].number, []).append(piece)
        for number, dealt in pieces.items():
            self._waiting.append(
                (self._seats[number], frames.Deal(buffer=buffer, lines=lines, tasks=dealt, proof=proof))
            )
        self._give_waiting()

    def open(self, round: int) -> None:
        """Asks all workers to open their commitments of a round."""
        self._opening = True
        for seat in self._seats:
            seat.late = False
            if seat.deals:
                seat.host.send(frames.OpenRound(round=round))

    def idle(self) -> bool:
        """Whether every task was answered: until then a process may still write to its slots."""
        return not self._waiting and not any(seat.working for seat in self._seats)

    def events(self) -> Iterator[Event]:
        """Waits for a while until something comes, and gives it. What speaks of another round is old, and left out.

        Raises:
            EngineError: a process dies, or hangs, again and again.
        """
        found = self._selector.select(timeout=LEAST_PATIENCE / 4)
        for hung in [] if found else self._hung():
            yield self._replace(hung)
        for key, _ in found:
            seat: _Seat = key.data
            message = seat.host.receive()
            if not isinstance(message, frames.Results | frames.ExecutionFailed | frames.HostOpenings):
                yield self._replace(seat)
            elif isinstance(message, frames.ExecutionFailed) and self._home.get(message.holder) is not seat:
                continue  # nobody fails in another's name
            elif message.round == self._round:
                if not isinstance(message, frames.HostOpenings):
                    self._longest = max(self._longest, time.monotonic() - seat.heard)
                    seat.heard = time.monotonic()
                    seat.answered(message)
                yield message
                self._go_on(seat)

    def close(self) -> None:
        """Ends all processes."""
        for seat in self._seats:
            seat.host.stop()
        for seat in self._seats:
            seat.host.close()
        self._selector.close()
        for region in (self._state, self._slots, self._block.region):
            region.close()

    def _set_up(self, seat: _Seat) -> None:
        regions = (self._state, self._block.region, self._slots)
        setup = msgspec.structs.replace(self._setup, workers=seat.workers)
        seat.host.set_up(setup, [region.descriptor for region in regions])

    def _await_ready(self, seat: _Seat) -> dict[int, JoinSignatures]:
        ready = seat.host.ready()
        ready.conformance.require(f"worker process {seat.number}")
        joins = ready.joins
        if len(joins) != len(seat.workers):
            raise EngineError(
                f"worker process {seat.number} hosts {len(seat.workers)} workers, and {len(joins)} joined"
            )
        self._selector.register(seat.host.connection, selectors.EVENT_READ, seat)
        return {h.number: join for h, join in zip(seat.workers, joins, strict=True)}

    def _hung(self) -> list[_Seat]:
        """Where tasks wait for a process that has said nothing for much longer than any took so far."""
        silence_timeout = max(LEAST_PATIENCE, PATIENCE_TIMES * self._longest) if self._longest else FIRST_PATIENCE
        now = time.monotonic()
        return [seat for seat in self._seats if seat.working and now - seat.heard > silence_timeout]

    def _replace(self, seat: _Seat) -> Restarted:
        self._selector.unregister(seat.host.connection)
        status, complaint = seat.host.kill(), seat.host.complaint()
        seat.host.close()
        seat.deaths += 1
        if seat.deaths >= MAX_DEATHS:
            raise EngineError(
                f"worker process {seat.number} died {seat.deaths} times in one round (status {status}): "
                f"{complaint or 'no message'}"
            )
        seat.host = HostProcess()
        self._set_up(seat)
        self._await_ready(seat)
        deals, seat.deals, seat.working, seat.late = seat.deals, [], Counter(), True
        for deal in deals:
            seat.give(deal)
        self._give_waiting()
        return Restarted(seat.number, status, [h.number for h in seat.workers])

    def _go_on(self, seat: _Seat) -> None:
        """After an answer was handled: deals what waited for it."""
        self._give_waiting()
        if self._opening and seat.late and not seat.working:
            seat.late = False
            seat.host.send(frames.OpenRound(round=self._round))

    def _give_waiting(self) -> None:
        """Deals what waits, except tasks that another process still executes: it would write to the same slot."""
        still: list[tuple[_Seat, frames.Deal]] = []
        for seat, deal in self._waiting:
            origins = {piece.seat for piece in deal.tasks}
            if any(other.working.keys() & origins for other in self._seats if other is not seat):
                still.append((seat, deal))
            else:
                seat.give(deal)
        self._waiting = still
