"""Who is shut out for a while, in memory alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from podlt.access.policy import Refusal

FIRST_PENALTY, LONGEST_PENALTY = 10, 3600


class _Penalty(NamedTuple):
    """How often a worker was shut out, until when it is (seconds, monotonic), and why last."""

    times: int
    until: float
    reason: str


class Penalties:
    """Keys that are shut out for a while.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[bytes, _Penalty] = {}

    def put(self, key: bytes, reason: str, seconds: int | None = None) -> None:
        """Shuts a worker out for so many seconds; by default for longer each time."""
        times = self._known[key].times if key in self._known else 0
        if seconds is None:
            seconds = min(FIRST_PENALTY * 4**times, LONGEST_PENALTY)
        self._known[key] = _Penalty(times + 1, self._clock() + seconds, reason)

    def of(self, key: bytes) -> Refusal | None:
        """What to tell a worker that is shut out at present."""
        penalty = self._known.get(key)
        if penalty is None or (left := penalty.until - self._clock()) <= 0:
            return None
        return Refusal(penalty.reason, int(left) + 1)

    def forget(self) -> None:
        """Forgets what is long over."""
        now = self._clock()
        self._known = {k: v for k, v in self._known.items() if v.until + LONGEST_PENALTY > now}
