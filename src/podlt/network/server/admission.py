"""Decides who may log in to a run's server, and what one key may take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from podlt.access.invitation import name_of
from podlt.access.penalties import Penalties
from podlt.access.policy import Refusal
from podlt.access.registry import Registry
from podlt.errors import PodltError
from podlt.wire.control import Login

MOST_LOGINS = 8
"""Of one key between two looks, a second apart: who comes back waits longer each time."""

SMALL = 64 * 1024
MESSAGES_PER_SECOND = 1000
"""Messages shorter than `SMALL` that no honest worker sends. Bytes are bounded by credit."""

AGAIN_SECONDS = 3
"""After how long a worker may try again that was refused for nothing of its own."""

CUT_OFF_SECONDS = 600


class Admission:
    """The run's policy, and penalties for what keys did.

    Args:
        registry: of the run.
        tell: takes a line for the operator.
        clock: milliseconds since 1970.
    """

    def __init__(
        self,
        registry: Registry,
        tell: Callable[[str], None],
        clock: Callable[[], int] = lambda: time.time_ns() // 10**6,
    ) -> None:
        self._registry, self._tell, self._clock = registry, tell, clock
        self._penalties = Penalties()
        self._logins, self._small = Counter[bytes](), Counter[bytes]()

    def login(self, login: Login) -> Refusal | None:
        """Why a key is not let in, whose signature holds; None if it is."""
        if (penalty := self._penalties.of(login.key)) is not None:
            return penalty
        self._logins[login.key] += 1
        if self._logins[login.key] > MOST_LOGINS:
            refused = self.punish(login.key, f"too many logins of one key (limit {MOST_LOGINS} a second)")
            self._tell(f"worker {login.key.hex()[:16]} is kept out for {refused.seconds} s: {refused.reason}")
            return refused
        invitation = name_of(login.secret) if login.secret else ""
        try:
            found = self._registry.admit(login.key, invitation, self._clock(), login.deposit)
        except PodltError as error:  # a full disk, a spoiled file: nobody comes in, and those inside work on
            self._tell(f"no worker can be admitted: {error}")
            return Refusal("the manager cannot decide", AGAIN_SECONDS)
        return found if isinstance(found, Refusal) else None

    def barred(self, key: bytes) -> Refusal | None:
        """Why a key that was let in may not stay; None if it may.

        Raises:
            StorageError: the run's file cannot be read.
        """
        return self._registry.state.barred(key)

    def came(self, key: bytes, size: int) -> bool:
        """A message came; whether the key has not sent too many small ones."""
        if size >= SMALL:
            return True
        self._small[key] += 1
        return self._small[key] <= 2 * MESSAGES_PER_SECOND

    def punish(self, key: bytes, reason: str, seconds: int | None = None) -> Refusal:
        """Shuts a key out, for so many seconds or for longer each time; what it is told."""
        self._penalties.put(key, reason, seconds)
        self._small.pop(key, None)  # one flood is one fault
        return self._penalties.of(key) or Refusal(reason, AGAIN_SECONDS)

    def look(self, seconds: float) -> list[tuple[bytes, str]]:
        """Counts anew; who sent too many small messages meanwhile, in so many seconds, and what to say of it."""
        found = [
            (key, f"rate limit: {count} small messages in {seconds:.1f} s (limit {MESSAGES_PER_SECOND} a second)")
            for key, count in self._small.items()
            if count > MESSAGES_PER_SECOND * max(1.0, seconds)
        ]
        self._small.clear()
        self._logins.clear()
        self._penalties.forget()
        return found
