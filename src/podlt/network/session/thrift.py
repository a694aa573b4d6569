"""Whether it pays to find out what changed in the parameters: it takes time, and saves bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

FIRST_COST = 1 / 200e6
"""Seconds a byte that encoding and decoding are thought to take until they were measured."""

FIRST_RATIO = 0.7
"""How long a difference is thought to be, in parts of the whole."""

WORTH = 0.9
"""A difference that is longer than this part of the whole is not worth its trouble."""

SHARE = 0.01
"""A part of a round that finding out may take in any case: bytes cost somebody something."""

GAIN = 2.0
"""How many times as many seconds must be saved, beyond that part, as it takes: they are guessed."""

REST = 16
"""After how many rounds it is tried again where it was not worth it."""

Policy = Literal["auto", "always", "never"]


class DeltaChoice:
    """Decides a round ahead whether to try.

    Args:
        policy: "auto" as it pays, or "always" or "never"; clock: seconds, monotonic.

    Attributes:
        planned: whether the next round's parameters are to be encoded as what changed.
    """

    def __init__(self, policy: Policy = "auto", clock: Callable[[], float] = time.monotonic) -> None:
        self._policy, self._clock = policy, clock
        self._cost, self._ratio = FIRST_COST, FIRST_RATIO
        self._carry = self._round = 0.0
        self._then: float | None = None
        self._rest = 0
        self._size = 1
        self.planned = False

    def tried(self, length: int, seconds: float) -> None:
        """An encoding has this length, and took so long."""
        self._cost, self._ratio = 1.5 * seconds / self._size, length / self._size  # to decode takes half as long
        self._rest = REST if self._ratio > WORTH else 0

    def carried(self, seconds: float) -> None:
        """The last publication was with a worker after so many seconds, or less."""
        self._carry = seconds

    def published(self, size: int) -> None:
        """Parameters of this size were published: decides about the next."""
        now = self._clock()
        self._round = now - self._then if self._then is not None else 0.0
        self._then, self._size = now, max(1, size)
        self._rest = max(0, self._rest - 1)
        self.planned = self._policy == "always" or (self._policy == "auto" and not self._rest and self._pays())

    def _pays(self) -> bool:
        seconds = self._cost * self._size
        saved = self._carry * (1 - self._ratio)
        return seconds < SHARE * self._round or GAIN * seconds < saved
