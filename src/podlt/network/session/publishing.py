"""The parameters of a round on their way to all workers: what changed or the whole, in messages or as a blob."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from podlt import crypto
from podlt.errors import PodltError, StorageError
from podlt.events import Published
from podlt.network import messages as m
from podlt.network.blobs import delta
from podlt.network.blobs.chunks import chunk_at, offsets
from podlt.network.blobs.disk import flat, read_exactly, said
from podlt.network.blobs.server import Stored
from podlt.network.session.facts import LargeBlobs
from podlt.network.session.outbox import Outbox
from podlt.network.session.outgoing import Outgoing

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


class Publisher:
    """Publishes the parameters of each round.

    Args:
        state: their bytes (uint8), which change only between rounds.
        outbox: takes what is to be sent at once.
        outgoing: takes what waits for room.
        large: decides what goes as a blob.
        choice: decides what is tried.
        stopwatch: seconds, for measuring what encoding takes.
        tell: called for each round.

    Attributes:
        allowance: how many bytes of the last publication each worker has to fetch.
        nbytes: how many of it are in messages, if a worker asks for the whole.
    """

    def __init__(
        self,
        state: np.ndarray,
        outbox: Outbox,
        outgoing: Outgoing,
        large: LargeBlobs,
        choice: DeltaChoice,
        stopwatch: Callable[[], float],
        tell: Callable[[Published], None] = lambda published: None,
    ) -> None:
        self._state, self._outbox, self._outgoing = state, outbox, outgoing
        self._blob_server, self._as_blob = large.server, large.carries(state.nbytes)
        self._choice, self._stopwatch, self._tell = choice, stopwatch, tell
        self._base: _File | _Memory = _Memory(state.nbytes)
        if large.server is not None and self._as_blob:
            self._base = _File(large.server.store.folder / "base", state.nbytes)
        self._last = b""  # what workers have, if the base is it as well
        self._now = b""  # what they may have now
        self._said: m.Parameters | None = None
        self._encoded: dict[bytes, np.ndarray] = {}
        self._pending: tuple[m.Parameters, Future[Stored], Published] | None = None
        self.allowance = self.nbytes = 0

    def publish(self, digest: bytes) -> None:
        """Publishes the parameters, as they are now, under their digest."""
        self._encoded.clear()
        size, started = self._state.nbytes, self._stopwatch()
        record = m.Parameters(digest=digest, size=size, blob=digest, length=size, as_blob=self._as_blob)
        form = "whole"
        if digest == self._last:
            record, form = msgspec.structs.replace(record, length=0, base=digest), "same"
        elif self._last and self._choice.planned and (shorter := self._difference(record)) is not None:
            record, form = shorter, "delta"
        seconds = self._stopwatch() - started if form == "delta" else 0.0
        self._now = digest
        if self._as_blob and self._blob_server is not None:
            self._blob_server.offer(digest, self._state)  # also for those who do not have the base
        self.allowance = size if self._as_blob else 0
        self.nbytes = 0 if self._as_blob else size
        self._carry(record, form, seconds)
        self._keep(digest)

    def step(self) -> None:
        """Says where the parameters are, once they are in the object store."""
        if self._pending is None or not self._pending[1].done():
            return
        record, future, published = self._pending
        self._pending = None
        try:
            stored = future.result()
            record = msgspec.structs.replace(record, urls=stored.urls, part=stored.part)
        except PodltError:  # from this machine, then
            published = msgspec.structs.replace(published, way="https")
        self._say(record)
        self._tell(published)

    def withdraw(self) -> None:
        """The parameters may be about to change: nobody is given them any more."""
        if self._pending is not None:
            record, future, _ = self._pending
            self._pending = None
            future.cancel()
            if self._blob_server is not None:
                self._blob_server.spoiled(record.blob)
        if self._blob_server is not None:
            for digest in (self._now, *([self._said.blob] if self._said is not None else [])):
                self._blob_server.withdraw(digest)
        self._now, self._said = b"", None

    def about(self, digest: bytes) -> m.Parameters | None:
        """How the parameters of this digest come, if they do."""
        return self._said if digest == self._now else None

    def blob(self, digest: bytes) -> np.ndarray | None:
        """A blob that comes in chunks, if workers may have it now."""
        if digest == self._now:
            return self._state
        return self._encoded.get(digest)

    def carried(self, seconds: float) -> None:
        """A worker had the parameters after so many seconds, or less."""
        self._choice.carried(seconds)

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _difference(self, whole: m.Parameters) -> m.Parameters | None:
        """What changed, if that is shorter than the whole."""
        size, started = self._state.nbytes, self._stopwatch()
        try:
            if self._as_blob:
                assert self._blob_server is not None
                blob = self._blob_server.store.put_stream(self._base.renewed(self._state), delta.bound(size))
                length = self._blob_server.store.size(blob)
            else:
                data = b"".join(self._base.renewed(self._state))
                blob, length = crypto.blob_digest(data), len(data)
                self._encoded[blob] = np.frombuffer(data, np.uint8)
        except StorageError:  # no room for it: the whole needs none
            self._last = b""
            return None
        self._choice.tried(length, self._stopwatch() - started)
        if length >= size:
            return None
        return msgspec.structs.replace(whole, blob=blob, length=length, base=self._last)

    def _carry(self, record: m.Parameters, form: str, seconds: float) -> None:
        way = "https" if self._as_blob else "messages"
        published = Published(size=record.size, sent=record.length, form=form, way=way, seconds=seconds)
        if not self._as_blob or self._blob_server is None or not record.length:
            self._say(record)
            if record.length:
                for offset in offsets(record.length):
                    self._outgoing.post(None, (record.blob, offset), partial(self._chunk, record.blob, offset))
            self._tell(published)
            return
        data = self._state if form == "whole" else self._encoded.get(record.blob)
        self._blob_server.offer(record.blob, data)
        stored = self._blob_server.carry(record.blob, data)
        if stored is None:
            self._say(record)
            self._tell(published)
        else:
            self._pending = record, stored, msgspec.structs.replace(published, way="store")

    def _chunk(self, digest: bytes, offset: int) -> bytes | None:
        data = self.blob(digest)
        return None if data is None else chunk_at(digest, data, offset, before=m.heading())

    def _say(self, record: m.Parameters) -> None:
        self._said = record
        self._outbox.send(None, m.record(record))

    def _keep(self, digest: bytes) -> None:
        """Keeps what was published, if the next round is to say what changed since."""
        self._choice.published(self._state.nbytes)
        if digest == self._last:
            return
        self._last = b""
        if self._choice.planned:
            try:
                self._base.take(self._state)
                self._last = digest
            except StorageError:  # the whole next time
                pass


class DeltaChoice:
    """Decides a round ahead whether to try.

    Args:
        policy: "auto" as it pays, or "always" or "never".
        clock: seconds, monotonic.

    Attributes:
        planned: whether the next round's parameters are to be encoded as what changed.
    """

    def __init__(self, policy: Policy, clock: Callable[[], float]) -> None:
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


class _Memory:
    """The parameters of before, in memory."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._data: np.ndarray | None = None

    def take(self, state: np.ndarray) -> None:
        if self._data is None:
            self._data = np.empty(self._nbytes, np.uint8)
        self._data[:] = state

    def renewed(self, state: np.ndarray) -> Iterator[bytes]:
        """The encoding of what changed; they are not needed after that."""
        yield from delta.encode(state, self._data)


class _File:
    """The parameters of before, in a file that is read and written part by part: they take no memory."""

    def __init__(self, path: Path, nbytes: int) -> None:
        self._path, self.nbytes = path, nbytes

    def take(self, state: np.ndarray) -> None:
        with said(self._path, "written"), self._path.open("wb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, self.nbytes)
            for start in range(0, self.nbytes, delta.PART):
                file.write(flat(state[start : start + delta.PART]))

    def renewed(self, state: np.ndarray) -> Iterator[bytes]:
        """The encoding of what changed."""
        with said(self._path, "read"), self._path.open("rb", buffering=0) as file:
            yield from delta.encode(state, _Ranges(file.fileno(), self.nbytes))


class _Ranges:
    """A file that looks like an array."""

    def __init__(self, descriptor: int, nbytes: int) -> None:
        self._descriptor, self.nbytes = descriptor, nbytes

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.nbytes)
        return np.frombuffer(read_exactly(self._descriptor, start, stop - start), np.uint8)
