"""Which signatures an entry carries. Checked by the manager before it writes, and by any verifier from the log."""

from __future__ import annotations

import msgspec

from podlt import crypto
from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.rules import RunState
from podlt.protocol.steps import Step

JOIN = "join/1"
COMMITMENT = "signed-commitment/1"


class Claim(msgspec.Struct, frozen=True, array_like=True):
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
        """The failure of this claim, as a verifier reports it."""
        message = f"the signature of worker {self.worker} does not hold"
        return InvalidProofError(message, entry=self.entry, step=Step.SIGNATURES)


def claims(state: RunState, entry: e.Entry) -> list[Claim]:
    """The signatures that `entry` carries, given the run's state just before it.

    Raises:
        InvalidProofError: it names a worker that never joined.
    """
    if isinstance(entry, e.Join):
        return [Claim(entry.key, JOIN, state.run, entry.signature, state.index, entry.worker)]
    if not isinstance(entry, e.Commit):
        return []
    return [commitment_claim(state, c) for c in entry.commitments]


def commitment_claim(state: RunState, c: e.Commitment) -> Claim:
    """The signature on one commitment.

    Raises:
        InvalidProofError: it names a worker that never joined.
    """
    worker = state.workers.get(c.holder)
    if worker is None:
        message = f"commitment of worker {c.holder}, who never joined"
        raise InvalidProofError(message, entry=state.index, step=Step.OPENINGS)
    return Claim(worker.key, COMMITMENT, c.commitment, c.signature, state.index, c.holder)
