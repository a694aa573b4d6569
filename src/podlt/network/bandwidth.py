"""How fast a worker's bytes may go, by its owner's wish: messages and blobs together, each way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from podlt.network.token_bucket import TokenBucket


class Bandwidth:
    """A bound on bytes a second, each way; a second's worth may go at once. May be used on any thread.

    Args:
        rate: bytes a second; 0 for no bound.
        clock: seconds, monotonic.
    """

    def __init__(self, rate: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._coming, self._going = (TokenBucket(rate, rate) if rate else None for _ in range(2))

    def came(self, nbytes: int) -> float:
        """So many bytes came; returns for how many seconds no more are to be taken."""
        return self._take(self._coming, nbytes)

    def went(self, nbytes: int) -> float:
        """So many bytes went; returns for how many seconds no more are to be sent."""
        return self._take(self._going, nbytes)

    def _take(self, bucket: TokenBucket | None, nbytes: int) -> float:
        if bucket is None:
            return 0.0
        with self._lock:
            return bucket.take(nbytes, self._clock())
