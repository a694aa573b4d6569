"""A worker's fingerprints of the updates that it gave last: worked out where tasks are executed, and signed here.

They are asked for when a round is over and its sum is claimed (docs/SPEC.md, section 7). Who is asked is everybody, so
that the request says nothing; what is signed is of use with the log alone.
"""

from __future__ import annotations

from typing import NamedTuple

from podlt.engine.isolated.interface import FingerprintUpdate, UpdateFingerprinted
from podlt.protocol import fingerprint as fp
from podlt.wire import messages as m
from podlt.worker.effects import Perform, SendMessage
from podlt.worker.identity import Identity
from podlt.worker.run import WorkerRun


class _Asked(NamedTuple):
    """What is being worked out."""

    identity: Identity
    run: bytes
    deal_id: bytes
    terms: fp.SumTerms
    seat: int
    update: bytes
    scaling: tuple[int, int]


class FingerprintReplies:
    """The fingerprints that one process' identities are asked for.

    Args:
        perform: takes effects.
    """

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._asked: dict[int, _Asked] = {}
        self._last = 0
        self._said = b""

    def ask(self, identities: list[Identity], run: WorkerRun, asked: m.GetFingerprints) -> None:
        """Has fingerprints worked out of all that the identities gave in a deal of a round; once a deal."""
        if self._said == asked.deal_id:
            return
        self._said, self._asked = asked.deal_id, {}
        points, scaled = asked.terms.points(run.setup.run), dict[int, list[int]]()
        for one in asked.scaled:
            scaled.setdefault(one.seat, [0, 0])[one.part] = one.exponent
        for identity in identities:
            if identity.worker is None:
                continue
            for seat, (update, slot) in run.replies.updates(identity.public, asked.deal_id).items():
                scaling = scaled.get(seat, [0, 0])
                self._last += 1
                both = scaling[0], scaling[1]
                known = _Asked(identity, run.setup.run, asked.deal_id, asked.terms, seat, update, both)
                self._asked[self._last] = known
                self._perform(FingerprintUpdate(self._last, slot, both, asked.terms.exponents, points))

    def found(self, result: UpdateFingerprinted) -> None:
        """A fingerprint was worked out: signs and sends it, if it still counts."""
        asked = self._asked.pop(result.number, None)
        if asked is None or asked.identity.worker is None:
            return
        place = asked.seat, asked.identity.worker.number
        key = asked.identity.key
        signed = fp.sign(key, asked.run, asked.terms, place, asked.update, asked.scaling, result.fingerprint)
        said = m.Fingerprints(deal_id=asked.deal_id, terms=asked.terms, signed=[signed])
        self._perform(SendMessage(asked.identity.public, m.record(said)))
