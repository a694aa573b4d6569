"""What a worker process needs before it can compute: parameters and lines, on their way in.

Parameters come whole or as what changed, in chunks or from a server, and end in the one place where tasks read them.
Whatever is lost, late, or wrong is asked for again, in the end as a whole: what counts is the digest of the result.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from podlt.engine.isolated.interface import ProgramLoaded
from podlt.engine.isolated.records import HoldParameters, ReleaseParameters
from podlt.errors import InvalidProofError
from podlt.network import messages as m
from podlt.network.blobs import delta
from podlt.network.blobs.chunks import Assembler
from podlt.network.blobs.client import Changed, Destination, TransferEnded, Whole
from podlt.network.worker.effects import CancelTransfer, FetchBlob, Perform
from podlt.network.worker.identity import NEVER
from podlt.network.worker.replies import Replies, Requested

ChunkRequest = tuple[bytes, m.GetChunks]
"""The key of the identity that asks, and what it asks for."""

SILENT_HEARTBEATS = 3
"""After how many heartbeats' time without a chunk to ask how the parameters come."""

MAX_PROGRAM = 15 * 2**20
"""Bytes of the longest program that a worker takes."""

PROGRAM_SECONDS = 1.0
"""After how many seconds the chunks of a program are asked for again."""


class Inputs:
    """One run's parameters and lines, for all identities of a process.

    Args:
        loaded: the program, with the memory of the parameters.
        most_lines: how many lines a task can have.
        replies: where lines go.
        has_server: whether there is a server of large blobs.
        perform: takes effects.
        any_key: gives the key of an identity, for what is not one's own.
        heartbeat: seconds between two heartbeats.
        warn: is called with what was wrong.

    Attributes:
        held: digest of the parameters in memory; empty while they are not whole.
    """

    def __init__(
        self,
        loaded: ProgramLoaded,
        most_lines: int,
        replies: Replies,
        has_server: bool,
        perform: Perform,
        any_key: Callable[[], bytes],
        heartbeat: float,
        warn: Callable[[str], object] = lambda reason: None,
    ) -> None:
        self._state, self._replies, self._has_server = loaded.state, replies, has_server
        self._perform, self._any_key, self._heartbeat, self._warn = perform, any_key, heartbeat, warn
        most, whole = loaded.line_bytes * most_lines, delta.bound(len(self._state))
        self._assembler = Assembler(max(whole, most), whole + 4 * most + 2**20)
        self.held = b""
        self._coming: m.Parameters | None = None
        self._destination: Destination | None = None  # of the parameters, if they come from a server
        self._expected, self._since = b"", 0.0
        self._lines: dict[bytes, tuple[bytes, Whole | None]] = {}
        self._heard = self._asked = NEVER

    # -- parameters --------------------------------------------------------------------------------------------------

    def announced(self, coming: m.Parameters, now: float) -> None:
        """Parameters come; what they overwrite is not needed any more.

        Raises:
            InvalidProofError: of another size.
        """
        size = len(self._state)
        if coming.size != size or coming.length > delta.bound(size):
            actual = max(coming.size, coming.length)
            raise InvalidProofError("parameters of another size", expected=size, actual=actual)
        if self._expected == coming.digest:
            self._expected = b""
        if coming.digest == self.held:
            self._stop()
        elif self._is_new(coming):
            if coming.base == self.held and coming.base and coming.length:
                self._begin(coming, now)
            elif not coming.base:
                if (coming.blob, coming.length) != (coming.digest, coming.size):
                    raise InvalidProofError("parameters are announced as another blob", expected=coming.digest)
                self._begin(coming, now)
            else:
                self._begin_whole(coming)

    def needed(self, digest: bytes, now: float) -> None:
        """A task names parameters; if they are not announced, it will be asked how they come."""
        coming = self._coming.digest if self._coming is not None else b""
        if digest not in (self.held, coming, self._expected):
            self._expected, self._since = digest, now

    def _is_new(self, other: m.Parameters) -> bool:
        """Whether an announcement is of something else than what is coming already, or its whole."""
        known = self._coming
        if known is None or (known.digest, known.as_blob) != (other.digest, other.as_blob):
            return True
        return known.blob not in (other.blob, other.digest)

    def _begin(self, coming: m.Parameters, now: float) -> None:
        self._stop()
        self._coming, self._heard = coming, now
        if self._has_server and coming.as_blob:
            base = bool(coming.base)
            self._destination = Changed(self._state, coming.length, coming.digest) if base else Whole(self._state)
        elif coming.base:
            self._assembler.announce(coming.blob, coming.length)
            return  # what is there stays until all of it has come
        else:
            self._assembler.announce(coming.digest, coming.size, self._state)
        self._release()
        self._fetch()

    def _begin_whole(self, changed: m.Parameters) -> None:
        """Asks for the whole, at once."""
        digest, size = changed.digest, len(self._state)
        self._begin(m.Parameters(digest=digest, size=size, blob=digest, length=size, as_blob=changed.as_blob), NEVER)
        self._asked = NEVER

    def _release(self) -> None:
        """The parameters are about to be overwritten."""
        if self.held:
            self._replies.released()
            self._perform(ReleaseParameters())
        self.held = b""

    def _stop(self) -> None:
        """What was coming is not needed any more."""
        if self._coming is None:
            return
        self._assembler.forget(self._coming.blob)
        if self._destination is not None:
            self._perform(CancelTransfer(b"", self._coming.blob))
        self._coming = self._destination = None

    def _fetch(self) -> None:
        if self._destination is not None and self._coming is not None:
            coming = self._coming
            self._perform(FetchBlob(self._any_key(), coming.blob, self._destination, coming.urls, coming.part))

    def _complete(self, coming: m.Parameters, encoded: np.ndarray | None = None) -> None:
        """The parameters, or what changed in them, are there."""
        if encoded is not None and coming.base:
            self._release()
            try:
                delta.decode(encoded, self._state, self._state, coming.digest)
            except InvalidProofError as error:
                self._warn(f"asked for all parameters: {error}")
                self._begin_whole(coming)
                return
        self._coming = self._destination = None
        self.held = coming.digest
        self._perform(HoldParameters(digest=coming.digest))

    # -- lines -------------------------------------------------------------------------------------------------------

    def expect_lines(self, requested: Requested, now: float) -> None:
        """The lines of a task are to come."""
        work = requested.work
        if work.blob in self._lines:
            return
        destination = None
        if self._has_server and work.as_blob:
            destination = Whole(np.empty(work.size, np.uint8))
            self._perform(FetchBlob(requested.key, work.blob, destination))
        else:
            self._assembler.announce(work.blob, work.size)
        self._lines[work.blob] = requested.key, destination
        self._heard = now

    def end_round(self) -> None:
        """A round is over: lines that did not come are not needed any more."""
        for digest, (_, destination) in self._lines.items():
            self._assembler.forget(digest)
            if destination is not None:
                self._perform(CancelTransfer(b"", digest))
        self._lines = {}

    # -- what comes, and what does not -------------------------------------------------------------------------------

    def chunk(self, data: memoryview, now: float) -> None:
        """Takes a chunk.

        Raises:
            InvalidProofError: malformed.
            BadBlobError: a blob is whole and wrong, and will be asked for again.
        """
        self._heard = now
        whole = self._assembler.take(data)
        if whole is None:
            return
        digest = bytes(data[:32])
        if self._coming is not None and digest == self._coming.blob:
            self._complete(self._coming, whole)
        else:
            self._lines.pop(digest, None)
            self._replies.lines(digest, whole)

    def transferred(self, ended: TransferEnded, now: float) -> None:
        """A fetch ended."""
        self._heard = now
        if ended.place is self._destination and self._coming is not None:
            if ended.error is None:
                self._complete(self._coming)
            elif isinstance(ended.place, Changed) and isinstance(ended.error, InvalidProofError):
                self._warn(f"asked for all parameters: {ended.error}")
                self._begin_whole(self._coming)
            else:  # by `requests`, in a moment; perhaps they come otherwise now
                self._expected, self._since = self._coming.digest, NEVER
        elif ended.digest in self._lines and ended.error is None:
            _, destination = self._lines[ended.digest]
            if destination is not None and destination is ended.place:
                del self._lines[ended.digest]
                self._replies.lines(ended.digest, destination.data)

    def requests(self, now: float) -> list[ChunkRequest]:
        """What should have come: fetches are begun again, and requests for the rest are returned."""
        if now - max(self._heard, self._asked) < self._heartbeat / 2:
            return []
        found: list[ChunkRequest] = []
        if self._expected and now - self._since > self._heartbeat / 2:
            found.append((self._any_key(), m.GetChunks(digest=self._expected, ranges=[])))
        if self._coming is not None:
            found += self._parameter_requests(self._coming, now)
            self._fetch()
        for digest, (key, destination) in self._lines.items():
            if destination is not None:
                self._perform(FetchBlob(key, digest, destination))
            elif ranges := self._assembler.missing(digest):
                found.append((key, m.GetChunks(digest=digest, ranges=ranges)))
        if found or self._destination is not None:
            self._asked = now
        return found

    def _parameter_requests(self, coming: m.Parameters, now: float) -> list[ChunkRequest]:
        """Chunks that are missing; and how the parameters come at all, if nothing came for long."""
        ranges = self._assembler.missing(coming.blob)
        if not ranges:
            return []
        found = [(self._any_key(), m.GetChunks(digest=coming.blob, ranges=ranges))]
        if now - self._heard > SILENT_HEARTBEATS * self._heartbeat:
            found.append((self._any_key(), m.GetChunks(digest=coming.digest, ranges=[])))
        return found


class ProgramInput:
    """The program of a run, before anything else can be known.

    Args:
        message: names it.
        perform: takes effects.
        key: of the identity that asks for it.

    Attributes:
        program: its bytes; empty until they have come.

    Raises:
        InvalidProofError: it is longer than `MAX_PROGRAM`.
    """

    def __init__(self, message: m.Setup, perform: Perform, key: bytes) -> None:
        if message.program_size > MAX_PROGRAM:
            raise InvalidProofError(f"a program of {message.program_size} bytes is longer than {MAX_PROGRAM}")
        self._setup, self._perform, self._key = message, perform, key
        self._assembler, self._asked = Assembler(MAX_PROGRAM, MAX_PROGRAM), NEVER
        self._destination: Whole | None = None
        self.program = message.program
        if not self.program and message.blobs and message.program_as_blob:
            self._destination = Whole(np.empty(message.program_size, np.uint8))
        elif not self.program:
            self._assembler.announce(message.program_blob, message.program_size)

    def chunk(self, data: memoryview, now: float) -> None:
        """Takes a chunk; errors as `Inputs.chunk`."""
        whole = self._assembler.take(data)
        if whole is not None:
            self.program = whole.tobytes()

    def transferred(self, ended: TransferEnded, now: float) -> None:
        """A fetch ended."""
        if ended.place is self._destination and ended.error is None and self._destination is not None:
            self.program = self._destination.data.tobytes()

    def requests(self, now: float) -> list[ChunkRequest]:
        """As `Inputs.requests`."""
        if self.program or now - self._asked < PROGRAM_SECONDS:
            return []
        self._asked = now
        if self._destination is not None:
            self._perform(FetchBlob(self._key, self._setup.program_blob, self._destination))
            return []
        ranges = self._assembler.missing(self._setup.program_blob)
        return [(self._key, m.GetChunks(digest=self._setup.program_blob, ranges=ranges))] if ranges else []
