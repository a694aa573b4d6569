"""A worker opens only what the manager signed a receipt for: its evidence of work done, kept before it shows anything.

The evidence is checked by `podlt receipts` against the log that the manager publishes.
"""

from __future__ import annotations

from collections.abc import Callable

from podlt.errors import InvalidProofError, StorageError
from podlt.protocol.receipt import CommitmentReceipt, check_place, check_signature
from podlt.wire import messages as m
from podlt.worker.books import WorkerBooks
from podlt.worker.effects import Perform, SendMessage
from podlt.worker.identity import Identity
from podlt.worker.run import WorkerRun


class ReceivedReceipts:
    """The receipts for the commitments of one process' identities.

    Args:
        manager: the public key of the run's manager.
        perform: takes effects.
        books: keep the receipts.
        warn: is called with why one cannot be kept.
    """

    def __init__(self, manager: bytes, perform: Perform, books: WorkerBooks, warn: Callable[[str], object]) -> None:
        self._manager, self._perform, self._books, self._warn = manager, perform, books, warn
        self._run, self._round = b"", -1
        self._saved: set[tuple[int, bytes]] = set()
        self._batch: tuple[int, int, int, bytes, bytes] | None = None
        self._unsaved: list[CommitmentReceipt] = []
        self._answers: list[SendMessage] = []

    def open(self, identity: Identity, run: WorkerRun, asked: m.OpenCommitments) -> None:
        """Opens, at the next `flush`, the commitments of an identity that have receipts; says also that none has.

        A commitment that is not known here (any more) is not opened: its task comes again.

        Raises:
            InvalidProofError: a receipt is not the manager's, or is for another commitment than was made.
        """
        assert identity.worker is not None
        if asked.round != self._round:
            self._round, self._saved = asked.round, set()
        mine = run.replies.commitments(identity.public, asked.deal_id)
        seats, fresh = set(), []
        for receipt in asked.receipts:
            seat = receipt.commitment.seat
            if seat not in mine:
                continue
            expected = (asked.round, identity.worker.number, *mine[seat])
            said = receipt.commitment
            found = (receipt.round, said.holder, said.commitment, said.signature)
            if found != expected:
                raise InvalidProofError(
                    "a receipt for another commitment than was made", expected=expected, actual=found
                )
            seats.add(seat)
            fresh += [receipt] if (receipt.attempt, said.commitment) not in self._saved else []
        for receipt in fresh:
            batch = receipt.round, receipt.attempt, receipt.size, receipt.root, receipt.signature
            if batch != self._batch:  # the other identities of this process have receipts of the same
                check_signature(receipt, run.setup.run, self._manager)
                self._batch = batch
            check_place(receipt)
        self._run, self._unsaved = run.setup.run, self._unsaved + fresh
        opened = [one for one in identity.worker.open(asked.round) if one.seat in seats]
        answer = m.Openings(deal_id=asked.deal_id, opened=opened)
        self._answers.append(SendMessage(identity.public, m.record(answer)))

    def flush(self) -> None:
        """Keeps the receipts that came at once, then opens; a full disk costs the evidence, and not the pay as well."""
        if not self._answers:
            return
        unsaved, self._unsaved = self._unsaved, []
        try:
            self._books.bound(self._run, unsaved)
            self._saved.update((receipt.attempt, receipt.commitment.commitment) for receipt in unsaved)
        except StorageError as error:
            self._warn(f"the manager's receipt for a commitment is not kept: {error}")
        for answer in self._answers:
            self._perform(answer)
        self._answers.clear()
