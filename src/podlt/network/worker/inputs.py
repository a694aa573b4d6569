"""What a worker process needs before it can compute: parameters and lines, on their way in.

Parameters come whole or as what changed, in pieces or from a server, and end in the one place where tasks read them.
Whatever is lost, late, or wrong is asked for again, in the end as a whole: what counts is the digest of the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from podlt.errors import InvalidProofError
from podlt.network import messages as m
from podlt.network.blobs import delta
from podlt.network.blobs.chunks import Assembler
from podlt.network.blobs.client import BlobTransfers, Changed, Destination, TransferEnded, Whole
from podlt.network.run_setup import RunSetup
from podlt.network.worker.hands import Hands
from podlt.network.worker.replies import Replies, Requested

Wanted = tuple[bytes, m.GetChunks]
"""Whose question it is, and the question."""

PATIENCE = 3
"""After how many signs of life without a piece to ask how the parameters come."""


PROGRAM_SECONDS = 1.0
"""After how many seconds the pieces of a program are asked for again."""


class Inputs:
    """One run's parameters and lines, for all identities of a process.

    Args:
        setup: of the run; hands: where parameters go; answers: where lines go; porter: for large blobs, if there is a
        server of them; anybody: gives the key of an identity, for what is not one's own; every: seconds between two
        signs of life; tell: is told of what was wrong.

    Attributes:
        held: the digest of the parameters that are there, whole; empty while they are not.
    """

    def __init__(
        self,
        setup: RunSetup,
        hands: Hands,
        answers: Replies,
        porter: BlobTransfers | None,
        anybody: Callable[[], bytes],
        every: float,
        tell: Callable[[str], object] = lambda line: None,
    ) -> None:
        self._setup, self._hands, self._answers, self._porter = setup, hands, answers, porter
        self._anybody, self._every, self._tell = anybody, every, tell
        most, size = hands.line_bytes * setup.most_lines, len(hands.state)
        self._assembler = Assembler(max(delta.bound(size), most), delta.bound(size) + 4 * most + 2**20)
        self.held = b""
        self._said: m.Parameters | None = None  # what is coming, and in which form
        self._place: Destination | None = None  # where it goes, if it comes from a server
        self._expected, self._since = b"", 0.0
        self._lines: dict[bytes, tuple[bytes, Whole | None]] = {}
        self._heard = time.monotonic()
        self._asked = -1e9

    # -- parameters --------------------------------------------------------------------------------------------------

    def announced(self, said: m.Parameters) -> None:
        """Parameters come; what they overwrite is not needed any more.

        Raises:
            InvalidProofError: of another size.
        """
        size = len(self._hands.state)
        if said.size != size or said.length > delta.bound(size):
            raise InvalidProofError("parameters of another size", expected=size, actual=max(said.size, said.length))
        if self._expected == said.digest:
            self._expected = b""
        if said.digest == self.held:
            self._stop()
        elif (
            self._said is None
            or (self._said.digest, self._said.as_blob) != (said.digest, said.as_blob)
            or self._said.blob not in (said.blob, said.digest)
        ):
            if said.base == self.held and said.base and said.length:
                self._begin(said)
            elif not said.base:
                if (said.blob, said.length) != (said.digest, said.size):
                    raise InvalidProofError("parameters are announced as another blob", expected=said.digest)
                self._begin(said)
            else:
                self._begin_whole(said)

    def needed(self, digest: bytes) -> None:
        """A task names parameters; if nothing is heard of them, it will be asked how they come."""
        coming = self._said.digest if self._said is not None else b""
        if digest not in (self.held, coming, self._expected):
            self._expected, self._since = digest, time.monotonic()

    def _begin(self, said: m.Parameters) -> None:
        self._stop()
        self._said, self._heard = said, time.monotonic()
        state, porter = self._hands.state, self._porter
        if porter is not None and said.as_blob:
            self._place = Changed(state, said.length, said.digest) if said.base else Whole(state)
        elif said.base:
            self._assembler.announce(said.blob, said.length)
            return  # what is there stays until all of it has come
        else:
            self._assembler.announce(said.digest, said.size, state)
        self._hands.let_go()
        self.held = b""
        self._fetch()

    def _begin_whole(self, said: m.Parameters) -> None:
        """Asks for the whole, at once."""
        digest, size = said.digest, len(self._hands.state)
        self._begin(m.Parameters(digest=digest, size=size, blob=digest, length=size, as_blob=said.as_blob))
        self._heard = self._asked = -1e9

    def _stop(self) -> None:
        """What was coming is not needed any more."""
        if self._said is None:
            return
        self._assembler.forget(self._said.blob)
        if self._place is not None and self._porter is not None:
            self._porter.cancel(b"", self._said.blob)
        self._said = self._place = None

    def _fetch(self) -> None:
        if self._place is not None and self._porter is not None and self._said is not None:
            self._porter.fetch(self._anybody(), self._said.blob, self._place, self._said.urls, self._said.part)

    def _complete(self, encoded: np.ndarray | None = None) -> None:
        """The parameters, or what changed in them, are there."""
        assert self._said is not None
        said, state = self._said, self._hands.state
        if encoded is not None and said.base:
            self._hands.let_go()
            self.held = b""
            try:
                delta.decode(encoded, state, state, said.digest)
            except InvalidProofError as error:
                self._tell(f"asked for all parameters: {error}")
                self._begin_whole(said)
                return
        self._said = self._place = None
        self.held = said.digest
        self._hands.hold()

    # -- lines -------------------------------------------------------------------------------------------------------

    def lines(self, asked: Requested) -> None:
        """The lines of a task are to come."""
        work = asked.work
        if work.blob in self._lines:
            return
        place = None
        if self._porter is not None and work.as_blob:
            place = Whole(np.empty(work.size, np.uint8))
            self._porter.fetch(asked.key, work.blob, place)
        else:
            self._assembler.announce(work.blob, work.size)
        self._lines[work.blob] = asked.key, place
        self._heard = time.monotonic()

    def turn(self) -> None:
        """A round is over: lines that did not come are not needed any more."""
        for digest, (_, place) in self._lines.items():
            self._assembler.forget(digest)
            if place is not None and self._porter is not None:
                self._porter.cancel(b"", digest)
        self._lines = {}

    # -- what comes, and what does not -------------------------------------------------------------------------------

    def piece(self, data: memoryview) -> None:
        """Takes a piece.

        Raises:
            InvalidProofError: malformed; BadBlobError: a blob is whole and wrong, and will be asked for again.
        """
        self._heard = time.monotonic()
        whole = self._assembler.take(data)
        if whole is None:
            return
        digest = bytes(data[:32])
        if self._said is not None and digest == self._said.blob:
            self._complete(whole)
        else:
            self._lines.pop(digest, None)
            self._answers.lines(digest, whole)

    def ended(self, ended: TransferEnded) -> None:
        """A fetch ended."""
        self._heard = time.monotonic()
        if ended.place is self._place and self._said is not None:
            if ended.error is None:
                self._complete()
            elif isinstance(ended.place, Changed) and isinstance(ended.error, InvalidProofError):
                self._tell(f"asked for all parameters: {ended.error}")
                self._begin_whole(self._said)
            else:  # by `wants`, in a moment; perhaps they come otherwise now
                self._expected, self._since = self._said.digest, 0.0
        elif ended.digest in self._lines and self._lines[ended.digest][1] is ended.place and ended.error is None:
            _, place = self._lines.pop(ended.digest)
            assert place is not None
            self._answers.lines(ended.digest, place.data)

    def wants(self) -> list[Wanted]:
        """What should have come: fetches are begun again, and for the rest the questions are returned."""
        now = time.monotonic()
        if now - max(self._heard, self._asked) < self._every / 2:
            return []
        found = []
        if self._expected and now - self._since > self._every / 2:
            found.append((self._anybody(), m.GetChunks(digest=self._expected, ranges=[])))
        if self._said is not None:
            if ranges := self._assembler.missing(self._said.blob):
                found.append((self._anybody(), m.GetChunks(digest=self._said.blob, ranges=ranges)))
                if now - self._heard > PATIENCE * self._every:
                    found.append((self._anybody(), m.GetChunks(digest=self._said.digest, ranges=[])))
            self._fetch()
        for digest, (key, place) in self._lines.items():
            if place is not None and self._porter is not None:
                self._porter.fetch(key, digest, place)
            elif ranges := self._assembler.missing(digest):
                found.append((key, m.GetChunks(digest=digest, ranges=ranges)))
        if found or self._place is not None:
            self._asked = now
        return found


class ProgramInput:
    """The program of a run, before anything else can be known.

    Args:
        setup: names it; porter: for a large one; limit: the longest that is taken.

    Raises:
        InvalidProofError: it is longer than that.
    """

    def __init__(self, setup: RunSetup, porter: BlobTransfers | None, key: bytes, limit: int) -> None:
        said = setup.message
        if said.program_size > limit:
            raise InvalidProofError(f"a program of {said.program_size} bytes is longer than {limit}")
        self._setup, self._porter, self._key = said, porter, key
        self._assembler, self._asked = Assembler(limit, limit), -1e9
        self._place: Whole | None = None
        self.program = said.program
        if not self.program and porter is not None and said.program_as_blob:
            self._place = Whole(np.empty(said.program_size, np.uint8))
        elif not self.program:
            self._assembler.announce(said.program_blob, said.program_size)

    def piece(self, data: memoryview) -> None:
        """Takes a piece; errors as `Inputs.piece`."""
        whole = self._assembler.take(data)
        if whole is not None:
            self.program = whole.tobytes()

    def ended(self, ended: TransferEnded) -> None:
        """A fetch ended."""
        if ended.place is self._place and ended.error is None and self._place is not None:
            self.program = self._place.data.tobytes()

    def wants(self) -> list[Wanted]:
        """As `Inputs.wants`."""
        now = time.monotonic()
        if self.program or now - self._asked < PROGRAM_SECONDS:
            return []
        self._asked = now
        if self._place is not None and self._porter is not None:
            self._porter.fetch(self._key, self._setup.program_blob, self._place)
            return []
        ranges = self._assembler.missing(self._setup.program_blob)
        return [(self._key, m.GetChunks(digest=self._setup.program_blob, ranges=ranges))] if ranges else []
