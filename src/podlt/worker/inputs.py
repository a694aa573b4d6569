"""What a worker process needs before it can compute: the program, parameters and examples, on their way in.

They come in messages, or, where they are large, from a server. Whatever is lost, late, or wrong is asked for again:
what counts is the digest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from podlt.crypto import blob_digest
from podlt.engine.isolated.interface import ProgramLoaded
from podlt.engine.isolated.records import HoldParameters, ReleaseParameters
from podlt.errors import InvalidProofError
from podlt.network.blobs.client import TransferEnded
from podlt.network.blobs.jobs import BlobBuffer
from podlt.wire import messages as m
from podlt.worker.effects import CancelTransfer, FetchBlob, Perform
from podlt.worker.identity import NEVER
from podlt.worker.replies import Replies, Requested

Request = tuple[bytes, m.GetParameters]
"""The key of the identity that asks, and what it asks for."""

MAX_PROGRAM = 15 * 2**20
"""Bytes of the longest program that a worker takes."""

PROGRAM_SECONDS = 1.0
"""After how many seconds it is fetched again."""


class Inputs:
    """One run's parameters and examples, for all identities of a process.

    Args:
        loaded: the program, with the memory of the parameters.
        replies: where examples go.
        perform: takes effects.
        any_key: gives the key of an identity, for what is not one's own.
        heartbeat: seconds between two heartbeats: what is missing after half of them is asked for.

    Attributes:
        held: digest of the parameters in memory; empty while they are not whole.
    """

    def __init__(
        self,
        loaded: ProgramLoaded,
        replies: Replies,
        perform: Perform,
        any_key: Callable[[], bytes],
        heartbeat: float,
    ) -> None:
        self._state, self._replies = loaded.state, replies
        self._perform, self._any_key, self._pause = perform, any_key, heartbeat / 2
        self.held = b""
        self._coming: tuple[m.Parameters, BlobBuffer] | None = None
        self._expected, self._since = b"", NEVER
        self._examples: dict[bytes, tuple[bytes, BlobBuffer]] = {}
        self._asked = NEVER

    # -- parameters --------------------------------------------------------------------------------------------------

    def announced(self, coming: m.Parameters, now: float) -> None:
        """Parameters come; what they overwrite is not needed any more.

        Raises:
            InvalidProofError: of another size, or their bytes are not those of their digest.
        """
        size = len(self._state)
        if coming.size != size or len(coming.data) not in (0, size):
            raise InvalidProofError("parameters of another size", expected=size, actual=coming.size)
        if coming.data and blob_digest(coming.data) != coming.digest:
            raise InvalidProofError("parameters do not match their digest")
        if self._expected == coming.digest:
            self._expected = b""
        known = self._coming[0].digest if self._coming is not None else self.held
        if coming.digest == known:
            return
        self._stop()
        self._release()
        if coming.data:
            self._state[:] = np.frombuffer(coming.data, np.uint8)
            self._hold(coming.digest)
        else:
            self._coming, self._asked = (coming, BlobBuffer(self._state)), now
            self._fetch(*self._coming)

    def needed(self, digest: bytes, now: float) -> None:
        """A task names parameters; if they are not announced, it will be asked how they come."""
        coming = self._coming[0].digest if self._coming is not None else b""
        if digest not in (self.held, coming, self._expected):
            self._expected, self._since = digest, now

    def _release(self) -> None:
        """The parameters are about to be overwritten."""
        if self.held:
            self._replies.released()
            self._perform(ReleaseParameters())
        self.held = b""

    def _hold(self, digest: bytes) -> None:
        self.held = digest
        self._perform(HoldParameters(digest=digest))

    def _stop(self) -> None:
        """What was coming is not needed any more."""
        if self._coming is not None:
            self._perform(CancelTransfer(b"", self._coming[0].digest))
        self._coming = None

    def _fetch(self, coming: m.Parameters, buffer: BlobBuffer) -> None:
        self._perform(FetchBlob(self._any_key(), coming.digest, buffer, coming.urls, coming.part))

    # -- examples
    # -------------------------------------------------------------------------------------------------------

    def expect_examples(self, requested: Requested) -> None:
        """The examples of a task are large, and are to be fetched."""
        work = requested.work
        if work.blob not in self._examples:
            buffer = BlobBuffer(np.empty(work.size, np.uint8))
            self._examples[work.blob] = requested.key, buffer
            self._perform(FetchBlob(requested.key, work.blob, buffer))

    def end_round(self) -> None:
        """A round is over: examples that did not come are not needed any more."""
        for digest in self._examples:
            self._perform(CancelTransfer(b"", digest))
        self._examples = {}

    # -- what comes, and what does not -------------------------------------------------------------------------------

    def transferred(self, ended: TransferEnded, now: float) -> None:
        """A fetch ended; one that failed is begun again by `requests`, in a moment."""
        if self._coming is not None and ended.place is self._coming[1]:
            digest = self._coming[0].digest
            if ended.error is None:
                self._coming = None
                self._hold(digest)
            else:  # perhaps they come otherwise now
                self._expected, self._since = digest, NEVER
        elif ended.digest in self._examples and ended.error is None:
            _, buffer = self._examples[ended.digest]
            if buffer is ended.place:
                del self._examples[ended.digest]
                self._replies.examples(ended.digest, buffer.data)

    def requests(self, now: float) -> list[Request]:
        """What should have come: fetches are begun again where they failed, and requests for the rest are returned."""
        if now - self._asked < self._pause:
            return []
        found = []
        if self._expected and now - self._since > self._pause:
            found.append((self._any_key(), m.GetParameters(digest=self._expected)))
        if self._coming is not None:
            self._fetch(*self._coming)
        for digest, (key, buffer) in self._examples.items():
            self._perform(FetchBlob(key, digest, buffer))
        if found or self._coming is not None or self._examples:
            self._asked = now
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
        self._digest, self._perform, self._key, self._asked = message.program_blob, perform, key, NEVER
        self.program = message.program
        self._buffer: BlobBuffer | None = None
        if not self.program:
            self._buffer = BlobBuffer(np.empty(message.program_size, np.uint8))

    def transferred(self, ended: TransferEnded, now: float) -> None:
        """A fetch ended."""
        if self._buffer is not None and ended.place is self._buffer and ended.error is None:
            self.program = self._buffer.data.tobytes()

    def requests(self, now: float) -> list[Request]:
        """Has the program fetched, if it is large; again if that failed."""
        if not self.program and self._buffer is not None and now - self._asked >= PROGRAM_SECONDS:
            self._asked = now
            self._perform(FetchBlob(self._key, self._digest, self._buffer))
        return []
