"""What a worker may be sent on request: a token bucket of bytes whose size follows from what the worker needs."""

from __future__ import annotations

from podlt.network.token_bucket import TokenBucket

TIMES = 3.0
"""How many times a worker may be sent, at once, all that it needs."""

AGAIN_SECONDS = 10.0
"""In how many seconds it may be sent all of that once more, on average, besides once each round."""

SMALLEST_NEED = 256 * 1024
"""Bytes that a worker is thought to need at least."""


class Allowance:
    """The bytes that one worker may be sent on request.

    Args:
        need: bytes of all that it needs, once.
    """

    def __init__(self, need: int) -> None:
        self._need = max(need, SMALLEST_NEED)
        self._bucket = TokenBucket(self._need / AGAIN_SECONDS, TIMES * self._need)

    def has_any(self, now: float) -> bool:
        """Whether anything may be sent at this time (seconds, monotonic)."""
        return self._bucket.take(0, now) <= 0

    def spend(self, nbytes: int, now: float) -> None:
        """So many bytes are sent."""
        self._bucket.take(nbytes, now)

    def change(self, need: int) -> None:
        """It needs so many bytes from now on; what was sent stays spent."""
        self._need = max(need, SMALLEST_NEED)
        self._bucket.resize(self._need / AGAIN_SECONDS, TIMES * self._need)

    def renew(self, need: int) -> None:
        """A round begins, in which it needs so many bytes: it may be sent them once more."""
        self.change(need)
        self._bucket.refill(self._need)
