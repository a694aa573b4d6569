"""A token bucket: how much somebody may take, as a function of time."""

from __future__ import annotations


class TokenBucket:
    """Lets through `rate` units a second on average, and `burst` at once.

    Whoever takes more than there is has to wait until it has come in: large takes are slow, never refused.

    Args:
        rate: units a second, above 0.
        burst: units that may be taken at once; the bucket begins full.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst, self._level = rate, burst, burst
        self._then: float | None = None

    def take(self, amount: float, now: float) -> float:
        """Takes an amount; returns for how many seconds to wait before going on. A clock set back gains nothing."""
        passed = 0.0 if self._then is None else max(0.0, now - self._then)
        self._then = now
        self._level = min(self._burst, self._level + passed * self._rate) - amount
        return max(0.0, -self._level / self._rate)

    def refill(self, amount: float) -> None:
        """Adds an amount, up to a full bucket."""
        self._level = min(self._burst, self._level + amount)

    def resize(self, rate: float, burst: float) -> None:
        """Changes rate and burst; what was taken stays taken."""
        self._level += burst - self._burst
        self._rate, self._burst = rate, burst
