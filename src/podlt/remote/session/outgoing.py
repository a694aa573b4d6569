"""Flow control of what the manager sends: nothing waits in memory for a link that has no room, but how to make it.

Tasks and parameters go first. What workers ask for is answered by an allowance that follows from what a worker needs:
asking costs the asker, and neither memory here nor the others their turn. All who are not admitted share one more.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from podlt.network.token_bucket import TokenBucket
from podlt.remote.session.outbox import Outbox
from podlt.remote.session.peers import Peer

NEWCOMERS_RATE, NEWCOMERS_BURST = 16 * 2**20, 256 * 2**20
"""Bytes a second, and at once, for all together who are not admitted."""

Make = Callable[[], bytes]
"""Makes a message when there is room for it."""


class Outgoing:
    """What waits for room on the manager's link.

    Args:
        outbox: takes what is to be sent.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: dict[bytes | None, dict[Hashable, Make]] = {}
        self._newcomers = TokenBucket(NEWCOMERS_RATE, NEWCOMERS_BURST)

    def post(self, key: bytes | None, name: Hashable, make: Make) -> None:
        """Sends something of the manager's own accord, as soon as there is room.

        Args:
            key: whom to; None for everybody.
            name: what it is: the same for the same worker waits only once.
            make: makes the message.
        """
        self._waiting.setdefault(key, {}).setdefault(name, make)
        self.step()

    def repeat(self, peer: Peer, name: Hashable, make: Make, size: int, now: float) -> bool:
        """Sends something of so many bytes once more, as `post`, if the worker's allowance has room.

        Returns:
            Whether it will be sent.
        """
        if not self._may(peer, now):
            return False
        self._spend(peer, size, now)
        self.post(peer.key, name, make)
        return True

    def reply(self, peer: Peer, message: bytes, now: float) -> bool:
        """Answers a worker at once, if its allowance and the link have room; it asks again if not.

        Returns:
            Whether it was sent.
        """
        if not self._outbox.has_room(peer.key) or not self._may(peer, now):
            return False
        self._spend(peer, len(message), now)
        self._outbox.send(peer.key, message)
        return True

    def step(self) -> None:
        """Sends what there is room for: first what is for all, then each worker's.

        Who does not read keeps nobody else waiting.
        """
        for key in sorted(self._waiting, key=lambda key: key is not None):
            waiting = self._waiting[key]
            while waiting and self._outbox.has_room(key):
                self._outbox.send(key, waiting.pop(next(iter(waiting)))())
            if not waiting:
                del self._waiting[key]

    def clear(self) -> None:
        """A round begins: what was to be sent of the manager's own accord is void."""
        self._waiting.clear()

    def forget(self, key: bytes) -> None:
        """A worker is gone: nothing waits for it."""
        self._waiting.pop(key, None)

    def _may(self, peer: Peer, now: float) -> bool:
        shared = peer.number is not None or self._newcomers.take(0, now) <= 0
        return shared and peer.allowance.has_any(now)

    def _spend(self, peer: Peer, nbytes: int, now: float) -> None:
        peer.allowance.spend(nbytes, now)
        if peer.number is None:
            self._newcomers.take(nbytes, now)
