"""The manager's receipt for a commitment: a worker has it before it shows anything, as its evidence of work done.

One signature serves all commitments that are logged together: it is over the root of their Merkle tree (RFC 6962), and
each worker gets its own path. The round's attempt is in it: a round in progress is not in the log, so that a manager
that was killed begins it anew, honestly, and what was bound in the attempt before may never be logged (SPEC, 3.18).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from podlt.canonical import encode
from podlt.crypto import SigningKey, is_signed
from podlt.errors import InvalidProofError
from podlt.log.merkle import inclusion_proofs, is_included, leaf_hash
from podlt.protocol.entries import Commitment
from podlt.units import Count, Digest, Round, Signature

RECEIPT = "receipt/1"


class Bound(msgspec.Struct, frozen=True):
    """Commitments that were logged together: what a `commit` entry has.

    Attributes:
        round: of the tasks.
        attempt: of the round, as its `open` entry says.
        commitments: in the entry's order; none where nothing was to be logged.
    """

    round: int
    attempt: int
    commitments: Sequence[Commitment]


class CommitmentReceipt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A commitment, and the manager's signature over the batch that it is in.

    Attributes:
        round: of the task.
        attempt: of the round.
        size: how many commitments the batch has.
        root: of the Merkle tree over them, each as the log has it.
        signature: the manager's, over the four above and the run's identity.
        index: of the commitment in the batch.
        proof: its audit path.
        commitment: the worker's.
    """

    round: Round
    attempt: Count
    size: Count
    root: Digest
    signature: Signature
    index: Count
    proof: Annotated[list[Digest], Meta(max_length=32)]
    commitment: Commitment


def signed_message(run: bytes, round: int, attempt: int, size: int, root: bytes) -> bytes:
    """What the manager signs: the run's identity, three numbers (8 bytes each, big-endian), the root."""
    return run + b"".join(number.to_bytes(8, "big") for number in (round, attempt, size)) + root


def sign_receipts(run: bytes, bound: Bound, key: SigningKey) -> list[CommitmentReceipt]:
    """A receipt for each commitment, in their order.

    Args:
        run: the run's identity.
        bound: the commitments, at least one.
        key: the manager's.
    """
    size = len(bound.commitments)
    root, proofs = inclusion_proofs([leaf_hash(encode(commitment)) for commitment in bound.commitments])
    signature = key.sign(RECEIPT, signed_message(run, bound.round, bound.attempt, size, root))
    return [
        CommitmentReceipt(bound.round, bound.attempt, size, root, signature, index, proof, commitment)
        for index, (proof, commitment) in enumerate(zip(proofs, bound.commitments, strict=True))
    ]


def check_receipt(receipt: CommitmentReceipt, run: bytes, manager: bytes) -> None:
    """Checks that a receipt proves what it says, by itself.

    Args:
        receipt: as it came.
        run: the run's identity.
        manager: the key of its manager.

    Raises:
        InvalidProofError: the signature does not hold, or the commitment is not in the batch.
    """
    check_signature(receipt, run, manager)
    check_place(receipt)


def check_signature(receipt: CommitmentReceipt, run: bytes, manager: bytes) -> None:
    """Checks the signature over the batch, which is the same in all of its receipts. As `check_receipt`."""
    message = signed_message(run, receipt.round, receipt.attempt, receipt.size, receipt.root)
    if not is_signed(manager, RECEIPT, message, receipt.signature):
        raise InvalidProofError("a commitment's receipt is not signed by the run's manager")


def check_place(receipt: CommitmentReceipt) -> None:
    """Checks that the commitment is in the batch. As `check_receipt`."""
    leaf = leaf_hash(encode(receipt.commitment))
    if not is_included(leaf, receipt.index, receipt.size, receipt.proof, receipt.root):
        raise InvalidProofError("a commitment's receipt is for another commitment")
