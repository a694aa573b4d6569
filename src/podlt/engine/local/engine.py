"""The engine `local`: workers on this machine, in as many processes as there are cores.

Parameters, the batch in work and all updates lie in memory that the processes share. A process that dies is replaced;
its workers keep their identities, and what they were dealt in this round is dealt to them again.
"""

from __future__ import annotations

import selectors
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from podlt.engine.interface import Event, Job, Member, Restarted
from podlt.engine.local import frames
from podlt.engine.local.process import HostProcess
from podlt.engine.members import FixedMembers, host_setup, hosted_workers, run_memory
from podlt.engine.shared_memory import RunMemory
from podlt.engine.timeouts import LEAST_TIMEOUT, ReplyTimeout
from podlt.errors import EngineError
from podlt.protocol.entries import Begin
from podlt.protocol.messages import Assignment, JoinSignatures, TreeSize
from podlt.protocol.receipt import Bound

MAX_DEATHS = 3
"""How often a process may die within one round before the run stops: then it is the task that kills it."""


class _Host:
    """What hosts some workers: a process, or the one that took over from it.

    Args:
        number: its place among the hosts.
        workers: those that it hosts.
        process: that is there now.
        now: seconds, monotonic.

    Attributes:
        deals: of this round, to be sent again to a process that takes over.
        working: the tasks' seats that were sent and not answered yet, and how often.
        deaths: how many processes died here in this round.
        openings: what it shows of this round so far.
        hides: whether that was not given to the manager yet.
        heard: when it last was given something to do, or replied (seconds, monotonic).
    """

    def __init__(self, number: int, workers: Sequence[frames.Hosted], process: HostProcess, now: float) -> None:
        self.number, self.workers, self.process = number, list(workers), process
        self.deals: list[frames.Deal] = []
        self.working: Counter[int] = Counter()
        self.deaths = 0
        self.openings: frames.HostOpenings | None = None
        self.hides = False
        self.heard = now

    def begin_round(self) -> None:
        """Forgets the round before."""
        self.deals, self.working, self.deaths, self.openings, self.hides = [], Counter(), 0, None, False

    def give(self, deal: frames.Deal, now: float) -> None:
        """Sends a deal, and remembers it."""
        self.deals.append(deal)
        if not self.working:
            self.heard = now
        self.working.update(dealt.seat for dealt in deal.tasks)
        self.process.send(deal)

    def drop(self, seats: set[int]) -> None:
        """Forgets tasks that others have now: a process that takes over must not execute them."""
        self.deals = [rest for deal in self.deals if (rest := _without(deal, seats)).tasks]

    def replied(self, message: frames.Results | frames.ExecutionFailed) -> None:
        """Takes note of tasks that are done, or that failed."""
        self.working.subtract(set(message.done) if isinstance(message, frames.Results) else [message.seat])
        self.working = +self.working


def _without(deal: frames.Deal, seats: set[int]) -> frames.Deal:
    """A deal without some of its tasks."""
    return msgspec.structs.replace(deal, tasks=[dealt for dealt in deal.tasks if dealt.seat not in seats])


class LocalEngine(FixedMembers):
    """Carries tasks to workers on this machine, which neither come nor go.

    Args:
        setup: what every process needs, without its workers.
        workers: all identities.
        memory: shared with the processes; closed with the engine.
        processes: that host the workers; taken out of the list, and ended when the engine is closed.
        clock: seconds, monotonic.
    """

    trusted = True

    def __init__(
        self,
        setup: frames.HostSetup,
        workers: Sequence[frames.Hosted],
        memory: RunMemory,
        processes: list[HostProcess],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(setup, workers, memory)
        self._clock = clock
        taken, processes[:] = list(processes), []
        count, now = len(taken), clock()
        self._hosts = [_Host(i, workers[i::count], process, now) for i, process in enumerate(taken)]
        self._home = {hosted.number: host for host in self._hosts for hosted in host.workers}
        self._selector = selectors.DefaultSelector()
        self._round = -1
        self._opening = False
        self._waiting: list[tuple[_Host, frames.Deal]] = []
        self._timeout = ReplyTimeout(LEAST_TIMEOUT)

    @classmethod
    def for_job(cls, job: Job, cheats: Mapping[str, str], processes: list[HostProcess]) -> LocalEngine:
        """The engine of a run.

        Args:
            job: of the run.
            cheats: worker number (as text) -> what it does.
            processes: that host the workers; taken out of the list.

        Raises:
            EngineError: there is not enough memory for parameters, examples and updates.
        """
        return cls(host_setup(job), hosted_workers(job, cheats), run_memory(job), processes)

    @property
    def processes(self) -> int:
        """How many processes there are."""
        return len(self._hosts)

    @property
    def pids(self) -> list[int]:
        """Their process numbers."""
        return [host.process.pid for host in self._hosts]

    def members(self, begin: Begin, seen: TreeSize) -> list[Member]:
        """Has the processes host their workers in a run; they are all there, in the order of their numbers.

        Args:
            begin: the run's first entry.
            seen: the last tree head, which is signed too.

        Raises:
            EngineError: a process did not start; says what it wrote.
        """
        self._enter_run(begin, seen)
        for host in self._hosts:
            self._set_up(host)
        joins: dict[int, JoinSignatures] = {}
        for host in self._hosts:
            joins.update(self._await_ready(host))
        return self._signed(joins)

    def deal(
        self,
        buffer: int,
        examples: int,
        bounds: Sequence[tuple[int, int]],
        assignments: Sequence[Assignment],
        *,
        again: bool = False,
        proof: bool = True,
    ) -> None:
        """Sends tasks to their holders.

        Args:
            buffer: which of the two batch buffers holds the round's examples.
            examples: how many they are.
            bounds: where each shard begins and ends among them.
            assignments: the tasks, at least one.
            again: whether these tasks come on top of others of the same round.
            proof: false only for measuring.
        """
        self._opening = False  # what is dealt now must be committed to before anything else is opened
        if again:
            seats = {a.seat for a in assignments}
            for host in self._hosts:
                host.drop(seats)
            self._waiting = [(host, rest) for host, deal in self._waiting if (rest := _without(deal, seats)).tasks]
        else:
            self._round, self._waiting = assignments[0].task.round, []
            for host in self._hosts:
                host.begin_round()
        tasks: dict[int, list[frames.DealtTask]] = {}
        for a in assignments:
            dealt = frames.DealtTask(a.seat, a.holder, *bounds[a.shard], a.task)
            tasks.setdefault(self._home[a.holder].number, []).append(dealt)
        for number, given in tasks.items():
            deal = frames.Deal(buffer=buffer, examples=examples, tasks=given, proof=proof)
            self._waiting.append((self._hosts[number], deal))
        self._give_waiting()

    def open(self, bound: Bound) -> None:
        """Has `events` give what opens the commitments of a round.

        A process sends that behind its commitments, and here it waits until they are logged: it has nothing to hide
        from this machine, and nobody waits for it to be asked.
        """
        self._opening = True
        for host in self._hosts:
            host.hides = bool(host.deals)

    def idle(self) -> bool:
        """Whether every task was answered: until then a process may still write to its slots."""
        return not self._waiting and not any(host.working for host in self._hosts)

    def events(self) -> Iterator[Event]:
        """Waits for a while until something comes, and gives it. What is about another round is old, and left out.

        Raises:
            EngineError: a process dies, or hangs, again and again.
        """
        for hiding in self._hosts if self._opening else ():
            if hiding.hides and hiding.openings is not None:
                hiding.hides = False
                yield hiding.openings
                return
        found = self._selector.select(timeout=self._timeout.least / 4)
        for hung in [] if found else self._hung():
            yield self._replace(hung)
        for key, _ in found:
            host: _Host = key.data
            message = host.process.receive()
            if not isinstance(message, frames.Results | frames.ExecutionFailed | frames.HostOpenings):
                yield self._replace(host)
            elif isinstance(message, frames.ExecutionFailed) and self._home.get(message.holder) is not host:
                continue  # nobody fails in another's name
            elif message.round != self._round:
                continue
            elif isinstance(message, frames.HostOpenings):
                host.openings = message
            else:
                now = self._clock()
                self._timeout.replied(now - host.heard)
                host.heard = now
                host.replied(message)
                yield message
                self._give_waiting()

    def close(self) -> None:
        """Ends all processes: those that execute tasks at once, as nobody wants their results any more."""
        for host in self._hosts:
            if host.working:
                host.process.kill()
            else:
                host.process.stop()
        for host in self._hosts:
            host.process.close()
        self._selector.close()
        self._memory.close()

    def _set_up(self, host: _Host) -> None:
        host.process.set_up(msgspec.structs.replace(self._setup, workers=host.workers), self._memory.descriptors)

    def _await_ready(self, host: _Host) -> dict[int, JoinSignatures]:
        ready = host.process.ready()
        ready.conformance.require(f"worker process {host.number}")
        joins = ready.joins
        if len(joins) != len(host.workers):
            raise EngineError(
                f"worker process {host.number} hosts {len(host.workers)} workers, and {len(joins)} joined"
            )
        self._selector.register(host.process.connection, selectors.EVENT_READ, host)
        return {hosted.number: join for hosted, join in zip(host.workers, joins, strict=True)}

    def _hung(self) -> list[_Host]:
        """Where tasks wait for a process that has said nothing for much longer than any took so far."""
        now = self._clock()
        return [host for host in self._hosts if host.working and now - host.heard > self._timeout.seconds]

    def _replace(self, host: _Host) -> Restarted:
        self._selector.unregister(host.process.connection)
        status, complaint = host.process.kill(), host.process.complaint()
        host.process.close()
        host.deaths += 1
        if host.deaths >= MAX_DEATHS:
            raise EngineError(
                f"worker process {host.number} died {host.deaths} times in one round (status {status}): "
                f"{complaint or 'no message'}"
            )
        host.process = HostProcess.start()
        self._set_up(host)
        self._await_ready(host)
        deals, host.deals, host.working = host.deals, [], Counter()
        host.openings, host.hides = None, self._opening
        for deal in deals:
            host.give(deal, self._clock())
        self._give_waiting()
        return Restarted(host.number, status, [hosted.number for hosted in host.workers])

    def _give_waiting(self) -> None:
        """Deals what waits, except tasks that another process still executes: it would write to the same slot."""
        still: list[tuple[_Host, frames.Deal]] = []
        for host, deal in self._waiting:
            seats = {dealt.seat for dealt in deal.tasks}
            if any(other.working.keys() & seats for other in self._hosts if other is not host):
                still.append((host, deal))
            else:
                host.give(deal, self._clock())
        self._waiting = still
