"""All that one run needs in a worker process: its program, parameters, lines, updates, for all identities together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError, StorageError
from podlt.network import messages as m
from podlt.network.blobs.client import BlobTransfers
from podlt.network.blobs.transfer import BadBlobError
from podlt.network.run_setup import RunSetup
from podlt.network.worker.hands import Hands
from podlt.network.worker.inputs import Inputs, ProgramInput, Wanted
from podlt.network.worker.replies import Replies, Requested

MAX_PROGRAM = 16 * 2**20

STEP, SHORT_STEP = 0.2, 0.02
"""How long to wait for messages at a time, in seconds; and while something comes beside them."""

LOST = 3
"""After how many fetches in a row that failed the server is thought to be elsewhere."""

USELESS = (InvalidProofError, StorageError, BadBlobError, MemoryError)
"""What messages that are of no use may raise."""


class WorkerRun:
    """One run, as a process works for it.

    Args:
        setup: of the run; keys: of the identities; folder: for large updates; memory: the most bytes that executing
        may take; every: seconds between two signs of life; anybody: gives the key of an identity for what is for all,
        another one for another number of failures; warn: is told what was wrong.

    Attributes:
        answers: what was asked and answered; hands: what computes, once the program is here.

    Raises:
        InvalidProofError: a program that is too long; UsageError: packages are missing.
    """

    def __init__(
        self,
        setup: RunSetup,
        keys: Sequence[SigningKey],
        folder: Path,
        memory: int,
        every: float,
        anybody: Callable[[int], bytes],
        warn: Callable[[str], object],
    ) -> None:
        self.setup = setup
        self._folder, self._memory, self._every, self._warn = folder, memory, every, warn
        self._anybody, self._failures, self._in_a_row = anybody, 0, 0
        self.answers = Replies(setup.message.updates_as_blobs)
        self.hands: Hands | None = None
        said = setup.message
        self._porter = BlobTransfers(said.blobs, said.certificate, keys) if said.blobs else None
        self._intake: Inputs | ProgramInput = ProgramInput(setup, self._porter, keys[0].public, MAX_PROGRAM)

    def begin(self) -> bool:
        """Begins to be of use if the program has come; whether that was so just now.

        Raises:
            InvalidProofError, EngineError: as `Hands`.
        """
        if not isinstance(self._intake, ProgramInput) or not self._intake.program:
            return False
        self.hands = Hands(self.setup, self._intake.program, self._memory, self._folder)
        self._intake = Inputs(
            self.setup,
            self.hands,
            self.answers,
            self._porter,
            lambda: self._anybody(self._failures),
            self._every,
            self._warn,
        )
        return True

    @property
    def held(self) -> bytes:
        """The digest of the parameters that are here, if they are."""
        return self._intake.held if isinstance(self._intake, Inputs) else b""

    def ready(self) -> Requested | None:
        """The next task whose inputs are all here, if there is one."""
        return self.answers.ready(self.held)

    def silence_timeout(self) -> float:
        """How many seconds to wait for messages."""
        if self.ready() is not None:
            return 0.0
        return SHORT_STEP if self._porter is not None and self._porter.busy else STEP

    def announced(self, said: m.Parameters) -> None:
        """Parameters come; errors as `Inputs.announced`."""
        if isinstance(self._intake, Inputs):
            self._intake.announced(said)

    def is_lost(self) -> bool:
        """Whether the server of large blobs seems to be gone: then the manager is asked, now and then, where it is."""
        lost = self._in_a_row >= LOST
        if lost:
            self._in_a_row = 0
        return lost

    def moved(self, setup: RunSetup) -> bool:
        """The manager says where its server of large blobs is now; whether this bench is still of use then."""
        new, old = setup.message, self.setup.message
        if (bool(new.blobs), new.updates_as_blobs) != (bool(old.blobs), old.updates_as_blobs):
            return False
        now, before = (new.blobs, new.certificate), (old.blobs, old.certificate)
        if self._porter is not None and now != before:
            self.setup = setup
            self._porter.move(*now)
        return True

    def piece(self, data: memoryview) -> None:
        """A piece of something came; errors as `Inputs.piece`."""
        self._intake.piece(data)

    def asks(self) -> list[Wanted]:
        """Takes what came beside the messages; returns questions for what should have come."""
        for ended in self._porter.ended() if self._porter is not None else []:
            if ended.error is not None:
                self._failures += 1
                self._in_a_row += 1
                if self._in_a_row == LOST:
                    self._warn(f"what is large does not come: {ended.error}")
            else:
                self._in_a_row = 0
            try:
                if ended.place is not None:
                    self._intake.ended(ended)
            except USELESS as error:
                self._warn(str(error))
        return self._intake.wants()

    def dealt(self, key: bytes, work: m.DealTask) -> list[bytes]:
        """An identity was dealt a task; the messages that answer it, if it was done before.

        Raises:
            InvalidProofError: no task of this run; StorageError: no memory for its lines.
        """
        if self.hands is None or not isinstance(self._intake, Inputs):
            return []
        self.hands.check_work(work)
        self._turn(self._intake, self.hands, work.task.round)
        if answered := self.answers.again(key, work):
            return answered
        asked = Requested(key, work, np.frombuffer(work.lines, np.uint8) if work.lines else None)
        self.answers.ask(asked)
        if asked.lines is None:
            self._intake.lines(asked)
        self._intake.needed(work.task.parameters)
        return []

    def send(self, key: bytes, said: m.ResendUpdate) -> list[bytes]:
        """The manager asks for an update: uploads it, or returns the messages with what it misses."""
        if self._porter is not None and (known := self.answers.large(key, said)) is not None:
            self._porter.send(key, *known)
            return []
        return self.answers.pieces(key, said)

    def close(self) -> None:
        """Ends what is under way."""
        if self._porter is not None:
            self._porter.close()

    def _turn(self, intake: Inputs, hands: Hands, round: int) -> None:
        """A task of a round came: what belongs to the one before is not needed any more."""
        freed = self.answers.turn(round)
        if freed is None:
            return
        intake.turn()
        for key, digest, update in freed:
            if self._porter is not None:
                self._porter.cancel(key, digest)
            hands.give_back(update)
