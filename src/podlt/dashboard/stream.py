"""What a page gets: messages that stay, by number, and the newest of each kind that does not; both as JSON."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable
from typing import Any

import msgspec

Batch = tuple[int, list[bytes], dict[str, tuple[int, bytes]]]
"""The number of the next message; messages; and the newest of each kind that does not stay, with its version."""


class MessageStream:
    """Messages of one run, written by one thread and read by many.

    Attributes:
        name: differs for each stream: a reader that knows numbers of another one starts again.
    """

    def __init__(self) -> None:
        self.name = secrets.token_hex(6)
        self._messages: list[bytes] = []
        self._newest: dict[str, tuple[int, bytes]] = {}
        self._version, self._closed = 0, False
        self._changed = threading.Condition()

    def add(self, messages: Iterable[Any]) -> None:
        """Appends messages that stay."""
        encoded = [msgspec.json.encode(message) for message in messages]
        if encoded:
            with self._changed:
                self._messages += encoded
                self._changed.notify_all()

    def show(self, kind: str, **fields: Any) -> None:
        """Replaces the message of a kind that does not stay; nothing happens if it is the same."""
        encoded = msgspec.json.encode({"t": kind, **fields})
        with self._changed:
            if self._newest.get(kind, (0, b""))[1] != encoded:
                self._version += 1
                self._newest[kind] = self._version, encoded
                self._changed.notify_all()

    def close(self) -> None:
        """Nothing comes any more: readers are woken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether nothing comes any more."""
        return self._closed

    def after(self, number: int, version: int, seconds: float) -> Batch:
        """The messages from a number on, and what does not stay and is newer than a version.

        Args:
            number: of the first message that is wanted.
            version: the newest that is known of what does not stay.
            seconds: how long to wait where there is nothing yet.
        """
        with self._changed:
            if not self._news(number, version):
                self._changed.wait_for(lambda: self._closed or self._news(number, version), seconds)
            newest = {kind: found for kind, found in self._newest.items() if found[0] > version}
            return len(self._messages), self._messages[number:], newest

    def _news(self, number: int, version: int) -> bool:
        return len(self._messages) > number or self._version > version
