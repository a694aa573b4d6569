"""What the manager sent and no connection has taken yet: how much it is, for whom, and when there is room again."""

from __future__ import annotations

import enum
import threading
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

MOST_QUEUED = 16 * 2**20
"""Bytes that may wait, for all together, before what is large waits to be made."""


class Recipients(enum.Enum):
    """For whom a message is that is not for one worker."""

    EVERYBODY = enum.auto()
    MEMBERS = enum.auto()


class QueuedMessage(NamedTuple):
    """A message on its way.

    Attributes:
        to: a worker's public key, or recipients.
        release: is to be called once it is written, or lost.
    """

    to: bytes | Recipients
    message: bytes
    release: Callable[[], None]


class SendQueue:
    """Messages from any thread for the server's.

    Args:
        drained: is called when half of what may wait is free again.
    """

    def __init__(self, drained: Callable[[], None]) -> None:
        self._drained, self._lock = drained, threading.Lock()
        self._messages: list[QueuedMessage] = []
        self._waiting, self._waiting_for = 0, Counter[bytes]()

    def __bool__(self) -> bool:
        """Whether messages wait to be taken."""
        return bool(self._messages)

    @property
    def room(self) -> int:
        """How many bytes more may wait."""
        return max(0, MOST_QUEUED - self._waiting)

    def waiting_for(self, key: bytes) -> int:
        """Bytes that were sent to one worker and not taken yet."""
        return self._waiting_for[key]

    def put(self, to: bytes | Recipients, message: bytes) -> bool:
        """Adds a message; whether it is the first since the last `take`."""
        with self._lock:
            is_first = not self._messages
            self._messages.append(QueuedMessage(to, message, self._releasing(len(message))))
            self._waiting += len(message)
            if isinstance(to, bytes):
                self._waiting_for[to] += len(message)
        return is_first

    def take(self) -> list[QueuedMessage]:
        """All messages since the last call."""
        with self._lock:
            messages, self._messages = self._messages, []
            self._waiting_for.clear()
        return messages

    def _releasing(self, nbytes: int) -> Callable[[], None]:
        def release() -> None:
            with self._lock:
                before = self._waiting
                self._waiting -= nbytes
            if self._waiting <= MOST_QUEUED // 2 < before:
                self._drained()

        return release


def after_half(count: int, release: Callable[[], None]) -> Callable[[], None]:
    """What is to be called by each of so many connections: half of them release a message, so that none holds it up.

    Where there is no connection, it is released at once.
    """
    left = (count + 1) // 2
    if not left:
        release()

    def sent() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            release()

    return sent
