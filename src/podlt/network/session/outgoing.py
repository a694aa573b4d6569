"""Flow control of what the manager sends: nothing large is made before the link has room for it.

Tasks and parameters go first. What workers ask for is owed to each of them as chunks, each once however often it is
asked for, and goes out by turns and by an allowance that follows from what a worker needs: asking costs the asker, and
neither memory here nor the others their turn. Who is not admitted comes last, and all of those share one allowance.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress

import numpy as np

from podlt.network.blobs.chunks import chunk_at, offsets_of
from podlt.network.messages import heading
from podlt.network.session.outbox import Outbox
from podlt.network.session.peers import Peer
from podlt.network.token_bucket import TokenBucket

NEWCOMERS_RATE, NEWCOMERS_BURST = 16 * 2**20, 256 * 2**20
"""Bytes a second, and at once, for all together who are not admitted."""

MOST_OWED = 64
"""Chunks that are owed to one worker at most: as many as one message asks for."""

Make = Callable[[], bytes | None]
"""Makes a message when there is room for it; None if nobody may have it any more."""


class Outgoing:
    """What waits for room on the manager's link.

    Args:
        outbox: takes what is to be sent.
        find: gives a blob (uint8) that a worker asked for by its digest; None if it may not have that (any more).
    """

    def __init__(self, outbox: Outbox, find: Callable[[Peer, bytes], np.ndarray | None]) -> None:
        self._outbox, self._find = outbox, find
        self._first: dict[bytes | None, dict[Hashable, Make]] = {}
        self._owed: dict[bytes, tuple[Peer, dict[tuple[bytes, int], None]]] = {}
        self._newcomers = TokenBucket(NEWCOMERS_RATE, NEWCOMERS_BURST)

    def post(self, key: bytes | None, name: Hashable, make: Make) -> None:
        """Sends something of the manager's own accord, as soon as there is room.

        Args:
            key: whom to; None for everybody.
            name: what it is: the same for the same worker waits only once.
            make: makes the message.
        """
        self._first.setdefault(key, {}).setdefault(name, make)
        self._send_first()

    def owe(self, peer: Peer, digest: bytes, ranges: Sequence[tuple[int, int]]) -> bool:
        """Takes note of chunks that a worker asked for; `step` sends them.

        Returns:
            Whether it may have them, and any of them was not owed to it before.

        Raises:
            InvalidProofError: a range is not one chunk of the blob.
        """
        data = self._find(peer, digest)
        if data is None:
            return False
        _, owed = self._owed.setdefault(peer.key, (peer, {}))
        before = len(owed)
        for offset in offsets_of(len(data), ranges):
            if len(owed) < MOST_OWED:
                owed[digest, offset] = None
        return len(owed) > before

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

    def step(self, now: float) -> None:
        """Sends what there is room for."""
        self._send_first()
        for admitted in (True, False):
            while self._owed and self._outbox.has_room() and self._turn(admitted, now):
                pass

    def clear(self) -> None:
        """A round begins: what was to be sent of the manager's own accord is void."""
        self._first.clear()

    def forget(self, key: bytes) -> None:
        """A worker is gone: nothing is owed to it."""
        self._owed.pop(key, None)
        self._first.pop(key, None)

    def _send_first(self) -> None:
        """What is for all goes first, then each worker's; who does not read keeps nobody else waiting."""
        for key in sorted(self._first, key=lambda key: key is not None):
            waiting = self._first[key]
            while waiting and self._outbox.has_room(key):
                name = next(iter(waiting))
                if (message := waiting.pop(name)()) is not None:
                    self._outbox.send(key, message)
            if not waiting:
                del self._first[key]

    def _turn(self, admitted: bool, now: float) -> bool:
        """Gives each worker of one class one chunk; whether any got one."""
        sent = False
        for key, (peer, owed) in list(self._owed.items()):
            if (peer.number is not None) != admitted or not self._may(peer, now):
                continue
            if not self._outbox.has_room():
                break
            if not self._outbox.has_room(key):
                continue
            with suppress(StopIteration):
                digest, offset = next(iter(owed))
                del owed[digest, offset]
                if (data := self._find(peer, digest)) is not None:
                    message = chunk_at(digest, data, offset, before=heading())
                    self._spend(peer, len(message), now)
                    self._outbox.send(key, message)
                sent = True
            del self._owed[key]
            if owed:  # behind all others
                self._owed[key] = peer, owed
        return sent

    def _may(self, peer: Peer, now: float) -> bool:
        shared = peer.number is not None or self._newcomers.take(0, now) <= 0
        return shared and peer.allowance.has_any(now)

    def _spend(self, peer: Peer, nbytes: int, now: float) -> None:
        peer.allowance.spend(nbytes, now)
        if peer.number is None:
            self._newcomers.take(nbytes, now)
