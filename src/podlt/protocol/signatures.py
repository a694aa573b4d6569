"""Which signatures an entry carries. Checked by the manager before it writes, and by any verifier from the log."""

from __future__ import annotations

import msgspec

from podlt import crypto
from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import JoinSignatures, JoinTerms
from podlt.protocol.rules import RunState

JOIN = "join/4"
SHARE = "share/4"
COMMITMENT = "signed-commitment/1"


class SignatureCheck(msgspec.Struct, frozen=True, array_like=True):
    """`key` is said to have signed `message`; `entry` says where, `worker` who."""

    key: bytes
    domain: str
    message: bytes
    signature: bytes
    entry: int
    worker: int

    def holds(self) -> bool:
        """Whether the signature is the key's."""
        return crypto.is_signed(self.key, self.domain, self.message, self.signature)

    def error(self) -> InvalidProofError:
        """The failure, as a verifier reports it."""
        message = f"the signature of worker {self.worker} does not hold"
        return InvalidProofError(message, entry=self.entry, step=Claim.SIGNATURES)


def signature_checks(state: RunState, entry: e.Entry) -> list[SignatureCheck]:
    """The signatures that `entry` carries, given the run's state just before it.

    Raises:
        InvalidProofError: it names a worker that never joined.
    """
    if isinstance(entry, e.Join):
        return join_checks(state.run, entry.key, JoinTerms.of(entry), JoinSignatures.of(entry), state.index)
    if not isinstance(entry, e.Commit):
        return []
    return [commitment_check(state, c) for c in entry.commitments]


def join_checks(
    run: bytes, key: bytes, terms: JoinTerms, signatures: JoinSignatures, entry: int = 0
) -> list[SignatureCheck]:
    """The signatures of a worker on the terms on which it joins a run (its identity), and on the run alone."""
    return [
        SignatureCheck(key, JOIN, terms.message(run), signatures.terms, entry, terms.worker),
        SignatureCheck(key, SHARE, run, signatures.share, entry, terms.worker),
    ]


def commitment_check(state: RunState, c: e.Commitment) -> SignatureCheck:
    """The signature on one commitment.

    Raises:
        InvalidProofError: it names a worker that never joined.
    """
    worker = state.workers.get(c.holder)
    if worker is None:
        message = f"commitment of worker {c.holder}, who never joined"
        raise InvalidProofError(message, entry=state.index, step=Claim.OPENINGS)
    return SignatureCheck(worker.key, COMMITMENT, c.commitment, c.signature, state.index, c.holder)
