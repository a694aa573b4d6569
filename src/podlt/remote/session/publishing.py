"""The parameters of a round on their way to all workers: in a message, as a blob, or by an object store."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import msgspec
import numpy as np

from podlt.errors import PodltError
from podlt.events import Published
from podlt.network.blobs.server import Stored
from podlt.remote.session.facts import LargeBlobs
from podlt.remote.session.outgoing import Outgoing
from podlt.wire import messages as m


class Publisher:
    """Publishes the parameters of each round.

    Args:
        state: their bytes (uint8), which change only between rounds.
        outgoing: takes what is to be sent.
        large: decides what is large.
        tell: called for each round.

    Attributes:
        fetched: how many bytes of it a worker fetches.
        inline: how many of it are in the message.
    """

    def __init__(
        self,
        state: np.ndarray,
        outgoing: Outgoing,
        large: LargeBlobs,
        tell: Callable[[Published], None] = lambda published: None,
    ) -> None:
        self._state, self._outgoing, self._tell = state, outgoing, tell
        self._server = large.server if large.carries(state.nbytes) else None
        self._said: m.Parameters | None = None
        self._pending: tuple[m.Parameters, Future[Stored]] | None = None
        self.fetched, self.inline = (0, state.nbytes) if self._server is None else (state.nbytes, 0)

    def publish(self, digest: bytes) -> None:
        """Publishes the parameters, as they are now, under their digest."""
        size = self._state.nbytes
        record = m.Parameters(digest=digest, size=size)
        if self._server is None:
            record = msgspec.structs.replace(record, data=self._state.data)
            self._say(record, "message")
            return
        self._server.offer(digest, self._state)
        stored = self._server.carry(digest, self._state)
        if stored is None:
            self._say(record, "https")
        else:
            self._pending = record, stored

    def step(self) -> None:
        """Says where the parameters are, once they are in the object store."""
        if self._pending is None or not self._pending[1].done():
            return
        record, future = self._pending
        self._pending = None
        try:
            stored = future.result()
        except PodltError:  # from this machine, then
            self._say(record, "https")
        else:
            self._say(msgspec.structs.replace(record, urls=stored.urls, part=stored.part), "store")

    def withdraw(self) -> None:
        """The parameters may be about to change: nobody is given them any more."""
        if self._pending is not None:
            record, future = self._pending
            self._pending = None
            future.cancel()
            if self._server is not None:
                self._server.spoiled(record.digest)
                self._server.withdraw(record.digest)
        if self._said is not None and self._server is not None:
            self._server.withdraw(self._said.digest)
        self._said = None

    def about(self, digest: bytes) -> m.Parameters | None:
        """What was said of the parameters of this digest, if they are those of now."""
        return self._said if self._said is not None and self._said.digest == digest else None

    def _say(self, record: m.Parameters, way: str) -> None:
        self._said = record
        message = m.record(record)
        self._outgoing.post(None, "parameters", lambda: message)
        self._tell(Published(size=record.size, way=way))
