"""The engine `ray`: workers of one's own cluster, in actors, with keys that the run keeps.

Parameters and lines go into Ray's object store once a round, and every actor gets the same reference. An actor that
dies, or hangs, is replaced wherever the cluster has room, and if it has none, another actor takes its workers in: they
keep their identities, and what they were dealt in this round is dealt to them again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np

from podlt.crypto import SigningKey, blob_digest
from podlt.engine.interface import Event, Job, Member
from podlt.engine.local import frames
from podlt.engine.local.engine import FIRST_PATIENCE, LEAST_PATIENCE, MAX_DEATHS, PATIENCE_TIMES, Restarted
from podlt.engine.members import FixedMembers
from podlt.engine.ray.actors import (
    Actor,
    ActorOptions,
    ActorSlot,
    Died,
    Fault,
    PendingCall,
    fetched,
    label_of,
    logger,
    shared,
    shares,
    waited_for,
)
from podlt.engine.ray.host import pack_lines, read_answer, read_here, tasks_a_call
from podlt.engine.shared_memory import BlockBuffer, Region
from podlt.errors import EngineError, InvalidProofError
from podlt.execution.setup import ExecutionSetup
from podlt.log.merkle import EMPTY_ROOT
from podlt.program.layout import state_layout, update_layout
from podlt.protocol.entries import Begin, identity
from podlt.protocol.messages import Assignment, JoinSignatures, TreeSize

STEP = 0.25
"""How long the engine waits for answers at a time, in seconds."""

ROOM_SECONDS, START_SECONDS = 60.0, 300.0
"""How long an actor may take until it has a place, and then until it is ready: it imports PyTorch, and may compile."""

KILLED = -9
UNKNOWN = -1
"""What stands for the exit status of an actor: it was ended because it hung; Ray does not say."""


class RayEngine(FixedMembers):
    """Carries tasks to workers in actors.

    Args:
        job: of the run; cheats: worker number (as text) -> what it does; terms: on which actors are made;
        actors: those that were begun, taken out of the list; silence_timeout: the least seconds after which an actor
            that says nothing is taken for hung; clock: seconds, monotonic.

    Raises:
        EngineError: there is not enough memory for parameters, lines and updates.
    """

    def __init__(
        self,
        job: Job,
        cheats: Mapping[str, str],
        terms: ActorOptions,
        actors: list[Actor],
        *,
        silence_timeout: float = LEAST_PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terms, self._silence_timeout, self._clock = terms, silence_timeout, clock
        self._setup = frames.HostSetup(
            execution=ExecutionSetup(b"", job.fields, job.block_lines, job.local_steps, job.local_lr),
            program=job.program.to_bytes(),
            seen=TreeSize(0, EMPTY_ROOT),
            workers=[],
            slots=len(job.seeds),
        )
        self._update_bytes = update_layout(job.program).nbytes
        self._state = Region(state_layout(job.program).nbytes)
        self._slots = Region(len(job.seeds) * self._update_bytes)
        self._block = BlockBuffer(job.fields, job.block_lines)
        self._keys = [SigningKey(seed).public for seed in job.seeds]
        hosted = [frames.Hosted(number, seed, cheats.get(str(number), "")) for number, seed in enumerate(job.seeds)]
        taken, actors[:] = list(actors), []
        self._actor_slots: list[ActorSlot] = []
        for i, (actor, share) in enumerate(zip(taken, shares(len(hosted), len(taken)), strict=True)):
            self._actor_slots.append(ActorSlot(i, [hosted[n] for n in share], actor, label_of(share)))
        self._home = {h.number: slot_ for slot_ in self._actor_slots for h in slot_.workers}
        self._joins: dict[int, JoinSignatures] = {}
        self._round, self._opening = -1, False
        self._holders: dict[int, int] = {}
        self._lines = 0
        self._inputs: list[object] = []
        self._time, self._looked = 0.0, clock()
        self._longest = 0.0

    # -- who is there ------------------------------------------------------------------------------------------------

    @property
    def processes(self) -> int:
        """How many actors there are."""
        return len(self._actor_slots)

    def members(self, begin: Begin, seen: TreeSize) -> list[Member]:
        """Has the actors host their workers; they are all there, in the order of their numbers.

        Raises:
            EngineError: the cluster has no room for any actor, or none can host a worker; says why.
        """
        execution = msgspec.structs.replace(self._setup.execution, run=identity(begin))
        self._setup = msgspec.structs.replace(self._setup, execution=execution, seen=seen)
        for slot_ in self._actor_slots:
            self._welcome(slot_)
        while any(slot_.calls for slot_ in self._actor_slots):
            for _ in self.events():
                pass  # nothing was dealt yet
        return self._signed(self._joins, seen)

    # -- a round -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> np.ndarray:
        """The parameters' bytes (uint8); the manager alone writes them, between rounds."""
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
    ) -> None:
        """Puts the round's parameters and lines into the object store, once, and sends tasks to their holders.

        Raises:
            EngineError: the object store has no room.
        """
        self._opening = False  # what is dealt now must be committed to before anything else is opened
        if again:
            for slot_ in self._actor_slots:
                slot_.drop({a.seat for a in assignments})
        else:
            self._round, self._lines = assignments[0].task.round, lines
            self._holders, self._inputs = {}, []  # the store may have the memory of the last round's
            self._inputs = [
                shared(self._state.bytes),
                shared(pack_lines(self._setup.execution.fields, self.block(buffer, lines))),
            ]
            for slot_ in self._actor_slots:
                slot_.deals, slot_.deaths = [], 0
        self._holders.update({a.seat: a.holder for a in assignments})
        pieces: dict[int, list[frames.DealtTask]] = {}
        for a in assignments:
            piece = frames.DealtTask(a.seat, a.holder, *bounds[a.fragment], a.task)
            pieces.setdefault(self._home[a.holder].number, []).append(piece)
        size = tasks_a_call(self._update_bytes)
        for slot_ in self._actor_slots:
            dealt = pieces.get(slot_.number, [])
            for i in range(0, len(dealt), size):
                self._give(slot_, frames.Deal(buffer=buffer, lines=lines, tasks=dealt[i : i + size]))

    def open(self, round: int) -> None:
        """Asks all workers to open their commitments of a round."""
        self._opening = True
        for slot_ in self._actor_slots:
            self._ask_to_open(slot_)

    def idle(self) -> bool:
        """Always: slots are written by `events`, and only with answers of those who have the tasks."""
        return True

    def events(self) -> Iterator[Event]:
        """Waits for a while until something comes, and gives it. What speaks of another round is old, and left out.

        Raises:
            EngineError: an actor dies, or hangs, again and again; no node has room for any; nothing can come.
        """
        waiting = {slot_.calls[0].refs[-1]: slot_ for slot_ in self._actor_slots if slot_.calls}
        if not waiting:
            raise EngineError(f"round {self._round}: a worker said neither what it committed to nor that it failed")
        ready = waited_for(list(waiting), STEP)
        self._listen()
        for ref, slot_ in waiting.items():
            call = slot_.calls[0] if slot_.calls else None
            if call is None or call.refs[-1] is not ref:
                continue  # an event before this one had the seat replaced
            try:
                if ref in ready:
                    events = self._take(slot_, call)
                    slot_.calls.popleft()
                    self._start_next(slot_)
                    yield from events
                elif self._time - call.since > self._limit(call):
                    raise Fault(self._silence(call))
            except (Fault, InvalidProofError) as fault:
                yield from self._lose(slot_, fault, UNKNOWN if ref in ready else KILLED)

    def close(self) -> None:
        """Ends all actors."""
        for slot_ in self._actor_slots:
            slot_.actor.kill()
            slot_.calls.clear()
        self._inputs = []
        for region in (self._state, self._slots, self._block.region):
            region.close()

    # -- calls -------------------------------------------------------------------------------------------------------

    def _welcome(self, slot_: ActorSlot) -> None:
        """What an actor is asked first: whether there was room for it, and to host the seat's workers."""
        self._call(slot_, PendingCall("hello", slot_.actor.call("hello", name=f"{slot_.label}: hello")))
        self._host(slot_, slot_.workers)

    def _host(self, slot_: ActorSlot, workers: list[frames.Hosted]) -> None:
        raw = frames.pack(msgspec.structs.replace(self._setup, workers=workers))
        refs = slot_.actor.call("set_up", raw, name=f"{slot_.label}: set up")
        self._call(slot_, PendingCall("set_up", refs, workers=list(workers)))

    def _give(self, slot_: ActorSlot, deal: frames.Deal) -> None:
        """Sends a deal, after the round's inputs, and remembers it."""
        at = f"{slot_.label}: round {self._round}"
        if slot_.begun != self._round:
            slot_.begun = self._round
            begun = slot_.actor.call("begin", self._round, *self._inputs, self._lines, name=at)
            self._call(slot_, PendingCall("begin", begun, self._round))
        slot_.deals.append(deal)
        origins = [piece.seat for piece in deal.tasks]
        name = f"{at}, {len(origins)} tasks from {origins[0]}"
        refs = slot_.actor.call("work", frames.pack(deal), name=name, returns=2)
        self._call(slot_, PendingCall("work", refs, self._round, list(deal.tasks)))

    def _ask_to_open(self, slot_: ActorSlot) -> None:
        if slot_.deals:
            refs = slot_.actor.call("open", self._round, name=f"{slot_.label}: round {self._round}, open")
            self._call(slot_, PendingCall("open", refs, self._round))

    def _call(self, slot_: ActorSlot, call: PendingCall) -> None:
        slot_.calls.append(call)
        if len(slot_.calls) == 1:
            self._start_next(slot_)

    def _start_next(self, slot_: ActorSlot) -> None:
        if slot_.calls:
            slot_.calls[0].since = self._time

    def _listen(self) -> None:
        """Lets time pass, but no more than the engine looked: while the manager stood still nobody was late."""
        now = self._clock()
        self._time += min(now - self._looked, 4 * STEP)
        self._looked = now

    def _limit(self, call: PendingCall) -> float:
        """Seconds that a call may take: many times what the slowest took so far."""
        if call.method == "hello":
            return ROOM_SECONDS
        if call.method == "set_up":
            return START_SECONDS
        if not self._longest:
            return self._silence_timeout * FIRST_PATIENCE / LEAST_PATIENCE
        return max(self._silence_timeout, PATIENCE_TIMES * self._longest)

    def _silence(self, call: PendingCall) -> str:
        if call.method == "hello":
            return f"no node had room for it within {ROOM_SECONDS:.0f} s ({self._terms.words()})"
        return f"said nothing for {self._limit(call):.0f} s"

    # -- answers -----------------------------------------------------------------------------------------------------

    def _take(self, slot_: ActorSlot, call: PendingCall) -> list[Event]:
        """What a call gave.

        Raises:
            Fault, InvalidProofError: the actor failed, or says what no actor says.
        """
        values = fetched(call.refs, self._silence_timeout)
        if call.method == "begin":
            return []
        if not isinstance(values[0], bytes):
            raise Fault(f"answered {call.method} with no record")
        if call.method == "work":
            self._longest = max(self._longest, self._time - call.since)
            return self._take_work(call, values[0], values[1])
        if call.method == "hello":
            here = read_here(values[0])
            logger.info("%s is process %d of %s", slot_.label, here.pid, here.host)
            return []
        message = frames.unpack(values[0])
        if call.method == "set_up" and isinstance(message, frames.Ready):
            self._take_joins(slot_, call, message)
            return []
        if call.method == "open" and isinstance(message, frames.HostOpenings) and message.round == call.round:
            return [message] if call.round == self._round else []
        raise Fault(f"answered {call.method} with {type(message).__name__.lower()}")

    def _take_joins(self, slot_: ActorSlot, call: PendingCall, ready: frames.Ready) -> None:
        try:
            ready.conformance.require(slot_.label)
        except EngineError as error:
            raise Fault(str(error)) from None
        if len(ready.joins) != len(call.workers):
            raise Fault(f"hosts {len(call.workers)} workers, and {len(ready.joins)} joined")
        self._joins.update({h.number: join for h, join in zip(call.workers, ready.joins, strict=True)})
        slot_.ready = True

    def _take_work(self, call: PendingCall, raw: bytes, updates: object) -> list[Event]:
        """Copies updates to their slots, if whoever made them has the tasks still."""
        answer, size = read_answer(raw), self._update_bytes
        if not isinstance(updates, np.ndarray) or updates.dtype != np.uint8 or len(updates) != len(call.pieces) * size:
            raise Fault("answered with updates of another size")
        said: list[frames.Results | frames.ExecutionFailed] = [*answer.results, *answer.failed]
        done = {(c.seat, c.holder) for r in answer.results for c in r.committed}
        failed = {(f.seat, f.holder) for f in answer.failed}
        asked = {(p.seat, p.holder) for p in call.pieces}
        if done | failed != asked or done & failed or any(m.round != call.round for m in said):
            raise Fault("answered other tasks than it was dealt")
        if call.round != self._round:
            return []
        for i, piece in enumerate(call.pieces):
            if (piece.seat, piece.holder) in done and self._holders[piece.seat] == piece.holder:
                self.slot(piece.seat)[:] = updates[i * size : (i + 1) * size]
        return list(said)

    # -- actors that are lost ----------------------------------------------------------------------------------------

    def _lose(self, slot_: ActorSlot, fault: Exception, status: int) -> Iterator[Event]:
        """Replaces an actor; where none can be had, or it cannot do the work, another one takes its workers in."""
        logger.warning("%s: %s", slot_.label, fault)
        slot_.actor.kill()
        slot_.deaths += 1
        if not slot_.ready and (slot_.deaths >= MAX_DEATHS or not isinstance(fault, Died)):
            self._dissolve(slot_, str(fault))  # it never worked: nothing that it was dealt can be the cause
            return
        if slot_.deaths >= MAX_DEATHS:
            raise EngineError(f"{slot_.label} was lost {slot_.deaths} times in one round: {fault}")
        numbers = [h.number for h in slot_.workers]
        deals, slot_.deals = slot_.deals, []
        slot_.renew(self._terms)
        self._welcome(slot_)
        self._give_again(slot_, deals)
        yield Restarted(slot_.number, status, numbers)

    def _dissolve(self, slot_: ActorSlot, reason: str) -> None:
        """Gives a seat's workers, and what they were dealt, to the actor that has the fewest."""
        self._actor_slots.remove(slot_)
        if not self._actor_slots:
            raise EngineError(f"no actor of the Ray cluster hosts workers; the last, {slot_.label}: {reason}")
        heir = min(self._actor_slots, key=lambda other: (not other.ready, len(other.workers)))
        heir.workers.extend(slot_.workers)
        self._home.update({h.number: heir for h in slot_.workers})
        self._host(heir, slot_.workers)
        self._give_again(heir, slot_.deals)

    def _give_again(self, slot_: ActorSlot, deals: list[frames.Deal]) -> None:
        for deal in deals:
            self._give(slot_, deal)
        if self._opening and deals:
            self._ask_to_open(slot_)
