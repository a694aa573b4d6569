"""A worker's side of the protocol: commit to a result, then open the commitment. Executing is somebody else's."""

from __future__ import annotations

from podlt import crypto
from podlt.protocol.messages import Committed, JoinSignatures, JoinTerms, Opened, Task
from podlt.protocol.signatures import COMMITMENT, JOIN, SHARE


class Worker:
    """One identity.

    Args:
        number: its number in the run.
        key: its private key.
        run: the run's identity.
    """

    def __init__(self, number: int, key: crypto.SigningKey, run: bytes) -> None:
        self.number = number
        self.run = run
        self._key = key
        self._openings: dict[int, Opened] = {}
        self._round = -1

    def join(self, terms: JoinTerms) -> JoinSignatures:
        """The signatures with which it joins the run on these terms."""
        return JoinSignatures(self._key.sign(JOIN, terms.message(self.run)), self._key.sign(SHARE, self.run))

    def commit(self, seat: int, task: Task, update: bytes) -> Committed:
        """Binds itself to a result, without showing it.

        The salt follows from the key and the task: a task that is executed again after a crash gets the same
        commitment, so that a crash never looks like two answers.

        Args:
            seat: whose seat the task was dealt to.
            update: the digest of the result.
        """
        if task.round != self._round:
            self._openings.clear()
            self._round = task.round
        digest = task.digest()
        salt = self._key.derive("salt/1", digest, seat.to_bytes(8, "big"))[: crypto.SALT_BYTES]
        promise = crypto.commitment(digest, self._key.public, update, salt)
        self._openings[seat] = Opened(seat, self.number, update, salt)
        return Committed(seat, self.number, promise, self._key.sign(COMMITMENT, promise))

    def open(self, round: int) -> list[Opened]:
        """Opens its commitments of a round; nothing if it has none."""
        return [self._openings[o] for o in sorted(self._openings)] if round == self._round else []
