"""Messages on their way from an event loop's thread to another, handed over in batches."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class MessageBox(Generic[Item]):
    """What has come and was not taken yet."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._lock, self._arrived = threading.Lock(), threading.Event()

    def put(self, items: Iterable[Item]) -> None:
        """Items came."""
        with self._lock:
            self._items.extend(items)
        self.wake()

    def wake(self) -> None:
        """Lets `take` return."""
        if not self._arrived.is_set():
            self._arrived.set()

    def take(self, seconds: float) -> list[Item]:
        """All that has come, waiting for so many seconds at most; possibly nothing."""
        if not self._items and seconds > 0:
            self._arrived.wait(seconds)
        self._arrived.clear()
        with self._lock:
            items, self._items = self._items, []
        return items
