"""The engine of workers on machines of strangers: drives a `ManagerSession` by a link, a clock, and a run's files."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from podlt.engine.interface import DurableEntries, Event, Lost, Member, WorkerPace
from podlt.engine.shared_memory import BatchBuffer, Region
from podlt.events import NetworkEvent
from podlt.network.link import ManagerLink
from podlt.protocol import fingerprint as fp
from podlt.protocol.entries import Begin
from podlt.protocol.messages import Assignment, JoinTerms, TreeSize
from podlt.protocol.receipt import Bound
from podlt.remote.session.facts import (
    DEFAULT_TIMING,
    ONLY_MESSAGES,
    Chance,
    LargeBlobs,
    ServedRun,
    Timing,
)
from podlt.remote.session.manager import ManagerSession
from podlt.remote.session.outbox import Announce, Drop, Send, Subscribe
from podlt.remote.session.receipts import PastReceipts
from podlt.remote.session.shards import Pack, ShardExamples, examples_of

STEP, SHORT_STEP = 0.25, 0.02
"""How long the engine waits for messages at a time, in seconds; and while updates are uploaded."""

FAREWELL_SECONDS = 5.0
"""Seconds at the run's end in which workers can still ask for what they have missed."""

SYSTEM = Chance(secrets.token_bytes, lambda: time.time_ns() // 10**6, time.perf_counter)
"""This machine's."""


class NetworkEngine:
    """Carries tasks to workers that come and go.

    Args:
        run: that it serves.
        link: to the workers.
        past: the log, for receipts that workers missed; closed with the engine.
        timing: how long to wait.
        large: what goes outside the messages.
        tell: as of `ManagerSession`.
        clock: seconds, monotonic.
        chance: randomness, the time of day, and a stopwatch.
        aggregates: whether workers are asked for fingerprints of their updates.
        pack: makes examples shorter that go with tasks.

    Raises:
        EngineError: there is not enough memory for the parameters and the batch.
    """

    elastic = True
    trusted = False

    def __init__(
        self,
        run: ServedRun,
        link: ManagerLink,
        past: PastReceipts,
        *,
        timing: Timing = DEFAULT_TIMING,
        large: LargeBlobs = ONLY_MESSAGES,
        tell: Callable[[NetworkEvent], None] = lambda event: None,
        clock: Callable[[], float] = time.monotonic,
        chance: Chance = SYSTEM,
        aggregates: bool = False,
        pack: Pack = lambda data: data.data,
    ) -> None:
        self._pack = pack
        self._fields, self._link, self._timing, self._large = run.fields, link, timing, large
        self.aggregates = aggregates
        self._clock, self._lock, self._complete = clock, threading.Lock(), False
        self._state = Region(run.state_bytes)
        self._batch = BatchBuffer(run.fields, run.batch_size)
        self._session = ManagerSession(
            run,
            self._state.bytes[: run.state_bytes],
            link,
            past,
            clock(),
            chance,
            timing=timing,
            large=large,
            tell=tell,
        )
        link.allow(self._session.backlog, timing.absence)
        self._perform: Mapping[type, Callable[[Any], None]] = {
            Send: lambda effect: link.publish(effect.message) if effect.key is None else link.send(*effect),
            Announce: lambda effect: link.announce(effect.message),
            Subscribe: lambda effect: link.subscribe(*effect),
            Drop: lambda effect: link.drop(effect.key),
        }

    # -- who is there ------------------------------------------------------------------------------------------------

    @property
    def processes(self) -> int:
        """How many processes host the workers that are there."""
        return self._session.processes

    def members(self, begin: Begin, seen: TreeSize) -> list[Member]:
        """Begins to work for a run; who is there already will join again."""
        self._do(lambda: self._session.begin(begin, seen))
        return []

    def offer(self, member: Member, terms: JoinTerms) -> None:
        """Asks somebody to sign the terms on which it may join."""
        self._do(lambda: self._session.offer(member, terms))

    def arrivals(self, seconds: float) -> list[Member]:
        """Who asked to be admitted, or signed the terms for it, and is not yet."""
        self._do(self._session.end_round)
        self._pump(seconds)
        return self._session.arrived()

    def departures(self) -> list[Lost]:
        """Admitted workers that are gone."""
        return self._session.departed()

    def admitted(self, member: Member, number: int) -> None:
        """A member is worker `number` from now on."""
        self._do(lambda: self._session.admitted(member, number))

    def refused(self, member: Member, reason: str) -> None:
        """A member may not work for this run."""
        self._do(lambda: self._session.refused(member, reason))

    def released(self, number: int, reason: str) -> None:
        """A worker was withdrawn for a fault: it may come again, later each time."""
        self._do(lambda: self._session.released(number, reason))

    # -- a round -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> np.ndarray:
        """The parameters' bytes; the manager alone writes them, between rounds."""
        return self._state.bytes

    def batch(self, buffer: int, examples: int) -> dict[str, np.ndarray]:
        """Where the examples of a batch go, field by field."""
        return self._batch.views(buffer, examples)

    def slot(self, seat: int, holder: int) -> np.ndarray:
        """The update that `holder` gave to the task of `seat`."""
        return self._session.slot(seat, holder)

    def digest(self, seat: int, holder: int) -> bytes:
        """The digest of that update."""
        return self._session.digest(seat, holder)

    def deal(
        self,
        buffer: int,
        examples: int,
        bounds: Sequence[tuple[int, int]],
        assignments: Sequence[Assignment],
        *,
        again: bool = False,
    ) -> None:
        """Publishes the round's parameters, and sends tasks to their holders."""
        batch = self._batch.views(buffer, examples)
        shards: dict[int, ShardExamples] = {}
        for shard in dict.fromkeys(assignment.shard for assignment in assignments):
            start, stop = bounds[shard]
            shards[shard] = examples_of(self._fields, batch, start, stop, self._large, self._pack)
        self._do(lambda: self._session.deal(assignments, shards, self._clock(), again=again))

    def gone(self, number: int) -> None:
        """A worker was withdrawn within the round."""
        self._session.gone(number)

    def open(self, bound: Bound) -> None:
        """Gives workers receipts for their commitments, and asks to open them."""
        self._do(lambda: self._session.open(bound))

    def idle(self) -> bool:
        """Whether every task was answered, or its holder is gone."""
        return self._session.idle()

    def paces(self) -> list[WorkerPace]:
        """How long each worker took in the round that was opened last."""
        return self._session.paces()

    def events(self) -> Iterator[Event]:
        """Waits for a while until something comes, and gives it; errors as `ManagerSession.tick`."""
        self._pump(SHORT_STEP if self._large.server is not None and self._large.server.waiting else STEP)
        yield from self._session.events()

    def ask_fingerprints(
        self,
        terms: fp.SumTerms,
        scaled: Sequence[fp.ScaledPart],
        expected: Mapping[tuple[int, int], fp.Fingerprint | None],
    ) -> None:
        """Asks for the fingerprints of a round that is over: see `Engine.ask_fingerprints`."""
        self._do(lambda: self._session.fingerprints.ask(terms, scaled, expected))

    def fingerprints(self, seconds: float = 0.0) -> list[fp.SignedFingerprint]:
        """What has come of them, or comes within so many seconds."""
        until = self._clock() + seconds
        while self._session.fingerprints.missing and self._clock() < until:
            self._pump(SHORT_STEP)
        return self._session.fingerprints.take()

    # -- the end -----------------------------------------------------------------------------------------------------

    def receipt(self, receipt: DurableEntries) -> None:
        """Tells all workers what is in the log now; on any thread."""
        self._do(lambda: self._session.receipt(receipt))

    def finish(self, outcome: str, reason: str) -> None:
        """Tells all workers that the run ended; who has missed something may ask for it until everybody has left."""
        self._complete = outcome == "complete"
        self._do(lambda: self._session.finish(outcome, reason))
        until, said = self._clock() + FAREWELL_SECONDS, self._clock()
        while self._complete and self._session.members and self._clock() < until:
            self._pump(STEP)
            if self._clock() > said + self._timing.heartbeat:
                said = self._clock()
                self._do(lambda: self._session.finish(outcome, reason))

    def close(self) -> None:
        """Ends the link."""
        self._link.close()
        self._session.close()
        if self._large.server is not None:
            self._large.server.close(complete=self._complete)
        for region in (self._state, self._batch.region):
            region.close()

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _pump(self, seconds: float) -> None:
        """Takes what has come, or comes within so many seconds, and does what is due."""
        taken = self._link.receive(seconds)

        def step() -> None:
            for key, raw in taken:
                self._session.receive(key, raw, self._clock())
            self._session.tick(self._clock(), self._link.connected)

        self._do(step)

    def _do(self, what: Callable[[], None]) -> None:
        """Has the session do something, and does what follows; receipts come from another thread."""
        with self._lock:
            what()
            for effect in self._session.effects():
                self._perform[type(effect)](effect)
