"""The engine `ray`: workers of one's own cluster, in actors, with keys that are in the run's directory.

Parameters and examples go into Ray's object store once a round, and every actor gets the same reference. An actor that
dies, or hangs, is replaced wherever the cluster has room, and if it has none, another actor takes its workers in: they
keep their identities, and what they were dealt in this round is dealt to them again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from podlt.engine.interface import Event, Job, Member, Restarted
from podlt.engine.local import frames
from podlt.engine.local.engine import MAX_DEATHS
from podlt.engine.members import FixedMembers, host_setup, hosted_workers, run_memory
from podlt.engine.ray.actor_host import ActorHost, PendingCall, RoundInputs, host_all
from podlt.engine.ray.actors import Actor, ActorOptions, Died, Fault, fetched, logger, shared, waited_for
from podlt.engine.ray.host import HostReply, pack_examples, read_here, read_reply, tasks_a_call
from podlt.engine.shared_memory import RunMemory
from podlt.engine.timeouts import LEAST_TIMEOUT, ReplyTimeout
from podlt.errors import EngineError, InvalidProofError
from podlt.protocol.entries import Begin
from podlt.protocol.messages import Assignment, JoinSignatures, TreeSize
from podlt.protocol.receipt import Bound

STEP = 0.25
"""How long the engine waits for replies at a time, in seconds."""

ROOM_SECONDS, START_SECONDS = 60.0, 300.0
"""How long an actor may take until it has a place, and then until it is ready: it imports PyTorch, and may compile."""

KILLED = -9
UNKNOWN = -1
"""What stands for the exit status of an actor: it was ended because it hung; Ray does not say."""


class RayEngine(FixedMembers):
    """Carries tasks to workers in actors.

    Args:
        setup: what every actor needs, without its workers.
        workers: all identities.
        memory: of the manager; closed with the engine.
        options: how actors are made.
        actors: those that were begun; taken out of the list, and ended when the engine is closed.
        silence_timeout: the least seconds after which an actor that says nothing is taken for hung.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        setup: frames.HostSetup,
        workers: Sequence[frames.Hosted],
        memory: RunMemory,
        options: ActorOptions,
        actors: list[Actor],
        *,
        silence_timeout: float = LEAST_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(setup, workers, memory)
        self._options, self._clock = options, clock
        self._timeout = ReplyTimeout(silence_timeout)
        self._hosts, actors[:] = host_all(actors, workers), []
        self._home = {hosted.number: host for host in self._hosts for hosted in host.workers}
        self._joins: dict[int, JoinSignatures] = {}
        self._inputs, self._opening = RoundInputs(), False
        self._holders: dict[int, int] = {}
        self._now, self._looked = 0.0, clock()

    @classmethod
    def for_job(
        cls,
        job: Job,
        cheats: Mapping[str, str],
        options: ActorOptions,
        actors: list[Actor],
        *,
        silence_timeout: float = LEAST_TIMEOUT,
    ) -> RayEngine:
        """The engine of a run.

        Args:
            job: of the run.
            cheats: worker number (as text) -> what it does.
            options: how actors are made.
            actors: those that were begun; taken out of the list.
            silence_timeout: as of the class.

        Raises:
            EngineError: there is not enough memory for parameters, examples and updates.
        """
        setup, workers, memory = host_setup(job), hosted_workers(job, cheats), run_memory(job)
        return cls(setup, workers, memory, options, actors, silence_timeout=silence_timeout)

    # -- who is there ------------------------------------------------------------------------------------------------

    @property
    def processes(self) -> int:
        """How many actors there are."""
        return len(self._hosts)

    def members(self, begin: Begin, seen: TreeSize) -> list[Member]:
        """Has the actors host their workers; they are all there, in the order of their numbers.

        Args:
            begin: the run's first entry.
            seen: the last tree head, which is signed too.

        Raises:
            EngineError: the cluster has no room for any actor, or none can host a worker; says why.
        """
        self._enter_run(begin, seen)
        for host in self._hosts:
            host.welcome(self._setup, self._now)
        while any(host.calls for host in self._hosts):
            for _ in self.events():
                pass  # nothing was dealt yet
        return self._signed(self._joins)

    # -- a round -----------------------------------------------------------------------------------------------------

    def deal(
        self,
        buffer: int,
        examples: int,
        bounds: Sequence[tuple[int, int]],
        assignments: Sequence[Assignment],
        *,
        again: bool = False,
    ) -> None:
        """Puts the round's parameters and examples into the object store, once, and sends tasks to their holders.

        Args:
            buffer: which of the two batch buffers holds the round's examples.
            examples: how many they are.
            bounds: where each shard begins and ends among them.
            assignments: the tasks, at least one.
            again: whether these tasks come on top of others of the same round.

        Raises:
            EngineError: the object store has no room.
        """
        self._opening = False  # what is dealt now must be committed to before anything else is opened
        if again:
            for host in self._hosts:
                host.drop({a.seat for a in assignments})
        else:
            self._begin_round(assignments[0].task.round, buffer, examples)
        self._holders.update({a.seat: a.holder for a in assignments})
        tasks: dict[int, list[frames.DealtTask]] = {}
        for a in assignments:
            dealt = frames.DealtTask(a.seat, a.holder, *bounds[a.shard], a.task)
            tasks.setdefault(self._home[a.holder].number, []).append(dealt)
        size = tasks_a_call(self._memory.update_bytes)
        for host in self._hosts:
            given = tasks.get(host.number, [])
            for i in range(0, len(given), size):
                deal = frames.Deal(buffer=buffer, examples=examples, tasks=given[i : i + size])
                host.give(deal, self._inputs, self._now)

    def open(self, bound: Bound) -> None:
        """Asks all workers to open their commitments of a round."""
        self._opening = True
        for host in self._hosts:
            host.ask_to_open(self._inputs.round, self._now)

    def idle(self) -> bool:
        """Always: slots are written by `events`, and only with replies of those who have the tasks."""
        return True

    def events(self) -> Iterator[Event]:
        """Waits for a while until something comes, and gives it. What is about another round is old, and left out.

        Raises:
            EngineError: an actor dies, or hangs, again and again; no node has room for any; nothing can come.
        """
        waiting = {host.calls[0].refs[-1]: host for host in self._hosts if host.calls}
        if not waiting:
            raise EngineError(
                f"round {self._inputs.round}: every call was answered, and a worker neither opened its commitment nor "
                "failed: it is broken, or lies; resume the run with others"
            )
        ready = waited_for(list(waiting), STEP)
        self._let_time_pass()
        for ref, host in waiting.items():
            call = host.calls[0] if host.calls else None
            if call is None or call.refs[-1] is not ref:
                continue  # an event before this one had the actor replaced
            try:
                if ref in ready:
                    events = self._take(host, call)
                    host.answered(self._now)
                    yield from events
                elif self._now - call.since > self._limit(call):
                    raise Fault(self._timed_out(call))
            except (Fault, InvalidProofError) as fault:
                yield from self._lose(host, fault, UNKNOWN if ref in ready else KILLED)

    def close(self) -> None:
        """Ends all actors."""
        for host in self._hosts:
            host.actor.kill()
            host.calls.clear()
        self._inputs = RoundInputs()
        self._memory.close()

    def _begin_round(self, round: int, buffer: int, examples: int) -> None:
        """Puts a round's inputs into the object store, which may have the memory of the last round's."""
        self._holders, self._inputs = {}, RoundInputs()
        packed = pack_examples(self._setup.execution.fields, self.batch(buffer, examples))
        self._inputs = RoundInputs(round, [shared(self.state), shared(packed)], examples)
        for host in self._hosts:
            host.begin_round()

    # -- time --------------------------------------------------------------------------------------------------------

    def _let_time_pass(self) -> None:
        """Time passes no more than the engine looked: while the manager stood still nobody was late."""
        now = self._clock()
        self._now += min(now - self._looked, 4 * STEP)
        self._looked = now

    def _limit(self, call: PendingCall) -> float:
        """Seconds that a call may take."""
        return {"hello": ROOM_SECONDS, "set_up": START_SECONDS}.get(call.method, self._timeout.seconds)

    def _timed_out(self, call: PendingCall) -> str:
        if call.method == "hello":
            return f"no node had room for it within {ROOM_SECONDS:.0f} s ({self._options.description()})"
        return f"timed out: no reply to {call.method} after {self._limit(call):.0f} s"

    # -- replies -----------------------------------------------------------------------------------------------------

    def _take(self, host: ActorHost, call: PendingCall) -> list[Event]:
        """What a call gave.

        Raises:
            Fault: the actor failed, or replied what no actor replies.
            InvalidProofError: a malformed reply.
        """
        values = fetched(call.refs, self._timeout.least)
        if call.method == "begin":
            return []
        if not isinstance(values[0], bytes):
            raise Fault(f"malformed reply to {call.method}: expected bytes, got {type(values[0]).__name__}")
        if call.method == "work":
            self._timeout.replied(self._now - call.since)
            return self._take_work(call, read_reply(values[0]), values[1])
        if call.method == "hello":
            here = read_here(values[0])
            logger.info("%s is process %d of %s", host.label, here.pid, here.host)
            return []
        message = frames.unpack(values[0])
        if call.method == "set_up" and isinstance(message, frames.Ready):
            self._take_joins(host, call, message)
            return []
        if call.method == "open" and isinstance(message, frames.HostOpenings) and message.round == call.round:
            return [message] if call.round == self._inputs.round else []
        raise Fault(f"unexpected reply to {call.method}: {type(message).__name__}")

    def _take_joins(self, host: ActorHost, call: PendingCall, ready: frames.Ready) -> None:
        try:
            ready.conformance.require(host.label)
        except EngineError as error:
            raise Fault(str(error)) from None
        if len(ready.joins) != len(call.workers):
            raise Fault(f"hosts {len(call.workers)} workers, and {len(ready.joins)} joined")
        self._joins.update({hosted.number: join for hosted, join in zip(call.workers, ready.joins, strict=True)})
        host.ready = True

    def _take_work(self, call: PendingCall, reply: HostReply, updates: object) -> list[Event]:
        """Copies updates to their slots, if whoever made them has the tasks still."""
        size, expected = self._memory.update_bytes, len(call.tasks) * self._memory.update_bytes
        if not isinstance(updates, np.ndarray) or updates.dtype != np.uint8 or len(updates) != expected:
            raise Fault(f"malformed updates: expected {expected} bytes for {len(call.tasks)} tasks")
        messages: list[frames.Results | frames.ExecutionFailed] = [*reply.results, *reply.failed]
        done = {(c.seat, c.holder) for r in reply.results for c in r.committed}
        failed = {(f.seat, f.holder) for f in reply.failed}
        asked = {(dealt.seat, dealt.holder) for dealt in call.tasks}
        if done | failed != asked or done & failed or any(m.round != call.round for m in messages):
            raise Fault("replied for other tasks than it was dealt")
        if call.round != self._inputs.round:
            return []
        for i, dealt in enumerate(call.tasks):
            if (dealt.seat, dealt.holder) in done and self._holders[dealt.seat] == dealt.holder:
                self.slot(dealt.seat, dealt.holder)[:] = updates[i * size : (i + 1) * size]
        return list(messages)

    # -- actors that are lost ----------------------------------------------------------------------------------------

    def _lose(self, host: ActorHost, fault: Exception, status: int) -> Iterator[Event]:
        """Replaces an actor; where none can be had, or it cannot do the work, another one takes its workers in."""
        logger.warning("%s: %s", host.label, fault)
        host.actor.kill()
        host.deaths += 1
        if not host.ready and (host.deaths >= MAX_DEATHS or not isinstance(fault, Died)):
            self._dissolve(host, str(fault))  # it never worked: nothing that it was dealt can be the cause
            return
        if host.deaths >= MAX_DEATHS:
            raise EngineError(f"{host.label} was lost {host.deaths} times in one round: {fault}")
        numbers = [hosted.number for hosted in host.workers]
        deals = host.renew(Actor.start(self._options, host.label, host.attempt + 1))
        host.welcome(self._setup, self._now)
        self._give_again(host, deals)
        yield Restarted(host.number, status, numbers)

    def _dissolve(self, host: ActorHost, reason: str) -> None:
        """Gives a host's workers, and what they were dealt, to the one that has the fewest."""
        self._hosts.remove(host)
        if not self._hosts:
            raise EngineError(f"no actor of the Ray cluster hosts workers; the last, {host.label}: {reason}")
        heir = min(self._hosts, key=lambda other: (not other.ready, len(other.workers)))
        heir.workers.extend(host.workers)
        self._home.update({hosted.number: heir for hosted in host.workers})
        heir.host(self._setup, host.workers, self._now)
        self._give_again(heir, host.deals)

    def _give_again(self, host: ActorHost, deals: list[frames.Deal]) -> None:
        for deal in deals:
            host.give(deal, self._inputs, self._now)
        if self._opening and deals:
            host.ask_to_open(self._inputs.round, self._now)
