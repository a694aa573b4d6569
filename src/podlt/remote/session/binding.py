"""Receipts for commitments: each worker that answered is asked to open with the manager's signature on its answer.

All workers with an answer in the log are asked, in the order of their tasks' seats, by one message each, which has
nothing of whether a task is compared with another: neither whom a message goes to, nor when, nor its size says that.
"""

from __future__ import annotations

from podlt.crypto import SigningKey
from podlt.protocol.receipt import Bound, CommitmentReceipt, sign_receipts
from podlt.wire import messages as m


class BoundAnswers:
    """The receipts of one attempt at a round, by the workers that they are for.

    Args:
        key: the manager's.
    """

    def __init__(self, key: SigningKey) -> None:
        self._key, self._deal_id, self._round = key, b"", 0
        self._receipts: dict[int, list[CommitmentReceipt]] = {}

    def begin(self, deal_id: bytes) -> None:
        """A round begins, or begins anew."""
        self._deal_id, self._receipts = deal_id, {}

    def bind(self, run: bytes, bound: Bound) -> None:
        """Signs receipts for commitments that are in the log."""
        self._round = bound.round
        for receipt in sign_receipts(run, bound, self._key) if bound.commitments else ():
            self._receipts.setdefault(receipt.commitment.holder, []).append(receipt)

    @property
    def holders(self) -> list[int]:
        """Workers with a receipt, in the order of the commitments."""
        return list(self._receipts)

    def request(self, holder: int) -> bytes:
        """The message that asks a worker to open, with all its receipts."""
        receipts = self._receipts.get(holder, [])
        return m.record(m.OpenCommitments(deal_id=self._deal_id, round=self._round, receipts=receipts))
