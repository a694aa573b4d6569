"""What a session of the manager wants done: messages to be sent, workers to be cut off. The engine does it."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, Protocol


class Send(NamedTuple):
    """A message goes to the worker of this public key; to the process of each member, if there is no key."""

    key: bytes | None
    message: bytes


class Announce(NamedTuple):
    """A message goes to every process, whether it has members or not."""

    message: bytes


class Subscribe(NamedTuple):
    """What goes to all members goes to this worker too, or not any more."""

    key: bytes
    is_member: bool


class Drop(NamedTuple):
    """Nothing more is taken from a worker."""

    key: bytes


Effect = Send | Announce | Subscribe | Drop


class Capacity(Protocol):
    """How much a link takes."""

    @property
    def room(self) -> int:
        """How many bytes may be sent now, to all workers together."""

    def room_for(self, key: bytes) -> int:
        """How many bytes may be sent to one worker now."""


class Outbox:
    """Effects in their order, until somebody takes them.

    Args:
        capacity: of the link that will carry the messages.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._effects: list[Effect] = []
        self._pending: Counter[bytes | None] = Counter()
        self._total = 0

    def send(self, key: bytes | None, message: bytes) -> None:
        """A message is to go to one worker, or to all members."""
        self._effects.append(Send(key, message))
        self._pending[key] += len(message)
        self._total += len(message)

    def announce(self, message: bytes) -> None:
        """A message is to go to every process."""
        self._effects.append(Announce(message))
        self._total += len(message)

    def subscribe(self, key: bytes, *, is_member: bool) -> None:
        """What goes to all members is to go to this worker too, or not any more."""
        self._effects.append(Subscribe(key, is_member))

    def drop(self, key: bytes) -> None:
        """A worker is to be cut off."""
        self._effects.append(Drop(key))

    def has_room(self, key: bytes | None = None) -> bool:
        """Whether more may be sent to a worker (or to all), beyond what waits here."""
        if self._capacity.room <= self._total:
            return False
        return key is None or self._capacity.room_for(key) > self._pending[key]

    def take(self) -> list[Effect]:
        """All effects since the last call."""
        effects, self._effects = self._effects, []
        self._pending.clear()
        self._total = 0
        return effects
