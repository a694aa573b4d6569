"""Is the run alive, and does it train? Decided from its events and a clock alone."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from podlt.manager import events as ev

STARTING = 1800.0
"""Seconds that a step before the first round may take without a word: fetching data, compiling arithmetic."""

LEAST = 300.0
"""Seconds without a round after which nothing is wrong yet, however short the rounds were."""

TIMES = 10.0
"""How many times as long as the longest of the last rounds the next one may take."""

AWAITING = 60.0
"""Seconds after which a manager that awaits workers, and says so twice a second, is taken for stuck."""

RECENT = 20


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer: `ok`, why, and what for (as JSON, for whoever asks).

    Attributes:
        ok: whether all is well.
        state: "starting", "waiting", "training" or "finished".
        reason: for people.
        since: seconds since the last sign of progress.
        limit: how many of them are allowed.
        run: the run's identity, hexadecimal.
        round: the last one that is done; -1 before.
    """

    ok: bool
    state: str
    reason: str
    since: float
    limit: float
    run: str = ""
    round: int = -1


class HealthCheck:
    """A listener that knows how the run is.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._state, self._what, self._last = "starting", "starting", clock()
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._run, self._round, self._started = "", -1, False
        self._handlers: ev.Handlers = {
            ev.Preparing: lambda event: self._at("starting", event.what),
            ev.Waiting: lambda event: self._at("waiting", f"{event.workers} of {event.wanted} workers are there"),
            ev.Gathered: lambda event: self._at(
                "training" if self._started else "starting", f"{event.workers} workers are there"
            ),
            ev.Started: self._start,
            ev.RoundDone: self._add_round,
            ev.Measured: lambda event: self._at("training", f"epoch {event.epoch} is measured"),
            ev.Finished: lambda event: self._at("finished", "the run is complete"),
        }

    def __call__(self, event: ev.Event) -> None:
        """Takes an event."""
        with self._lock:
            ev.handle(self._handlers, event)

    def _start(self, event: ev.Started) -> None:
        self._run, self._started = event.run, True
        self._at("training", "the first round")

    def _add_round(self, event: ev.RoundDone) -> None:
        self._round = event.round
        self._recent.append(event.seconds)
        self._at("training", f"round {event.round} is done")

    def alive(self) -> Health:
        """Whether the manager does something: a round was done, or a worker is awaited, within a sensible time."""
        with self._lock:
            since, limit = self._clock() - self._last, self._limit()
            if since <= limit:
                return self._health(True, self._what, since, limit)
            missing = "no round" if self._state == "training" else "no progress"
            return self._health(False, f"{missing} for {since:.0f} s ({self._what})", since, limit)

    def ready(self) -> Health:
        """Whether it trains now: started, alive, and with enough workers."""
        health = self.alive()
        if not health.ok:
            return health
        return msgspec.structs.replace(health, ok=self._started and health.state == "training")

    def _at(self, state: str, what: str) -> None:
        self._state, self._what, self._last = state, what, self._clock()

    def _limit(self) -> float:
        if self._state == "finished":
            return float(2**31)  # what is left is to write the model, and to end
        if self._state == "waiting":
            return AWAITING
        if self._state == "training" and self._recent:
            return max(LEAST, TIMES * max(self._recent))
        return STARTING

    def _health(self, ok: bool, reason: str, since: float, limit: float) -> Health:
        return Health(ok, self._state, reason, round(since, 3), limit, self._run, self._round)
