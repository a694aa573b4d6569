"""After how long a host that says nothing counts as hung."""

from __future__ import annotations

LEAST_TIMEOUT = 60.0
"""Seconds, however fast replies came so far."""

FIRST_TIMES = 10.0
"""Until the first reply a host has so many times the least."""

LONGEST_TIMES = 20.0
"""After that, so many times the longest wait for a reply that there was."""


class ReplyTimeout:
    """The timeout of replies, which follows how long they took so far.

    Args:
        least: seconds that a host has in any case.
    """

    def __init__(self, least: float = LEAST_TIMEOUT) -> None:
        self.least = least
        self._longest = 0.0

    def replied(self, seconds: float) -> None:
        """A reply came after so many seconds."""
        self._longest = max(self._longest, seconds)

    @property
    def seconds(self) -> float:
        """How long to wait for a reply."""
        if not self._longest:
            return FIRST_TIMES * self.least
        return max(self.least, LONGEST_TIMES * self._longest)
