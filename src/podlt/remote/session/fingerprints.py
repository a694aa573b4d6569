"""The fingerprints of a round's updates, as workers send them when its sum is claimed (docs/SPEC.md, section 7).

Nothing waits for them, and nothing is dealt again for one that is missing or false. Where the manager worked one out
itself, a worker whose word differs is let go, as for any message that cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from podlt.protocol import fingerprint as fp
from podlt.remote.session.outbox import Outbox
from podlt.remote.session.peers import Peer
from podlt.remote.session.round import RoundInFlight
from podlt.wire import messages as m


class FingerprintCollector:
    """Asks for the fingerprints of one round at a time.

    Args:
        outbox: takes what is to be sent.
        round: the one in flight.
        lose: lets a worker go, for a reason.
    """

    def __init__(self, outbox: Outbox, round: RoundInFlight, lose: Callable[[Peer, str], None]) -> None:
        self._outbox, self._round, self._lose = outbox, round, lose
        self._deal_id = b""
        self._terms: fp.SumTerms | None = None
        self._expected: Mapping[tuple[int, int], fp.Fingerprint | None] = {}
        self._came: dict[tuple[int, int], fp.SignedFingerprint] = {}

    def ask(
        self,
        terms: fp.SumTerms,
        scaled: Sequence[fp.ScaledPart],
        expected: Mapping[tuple[int, int], fp.Fingerprint | None],
    ) -> None:
        """Asks everybody: the round is over.

        Args:
            terms: the sum that is claimed.
            scaled: what was clipped.
            expected: seats and holders that gave an update -> its fingerprint, where it is known here.
        """
        self._deal_id, self._terms, self._expected, self._came = self._round.deal_id, terms, expected, {}
        asked = m.GetFingerprints(deal_id=self._deal_id, terms=terms, scaled=list(scaled))
        self._outbox.send(None, m.record(asked))

    def take(self) -> list[fp.SignedFingerprint]:
        """What has come, ascending by seat and holder. Signatures are not checked here."""
        return [self._came[place] for place in sorted(self._came)]

    @property
    def missing(self) -> int:
        """How many have not come."""
        return len(self._expected) - len(self._came)

    def came(self, peer: Peer, said: m.Fingerprints) -> None:
        """A worker answers."""
        for one in said.signed:
            place = one.seat, one.holder
            due = (said.deal_id, said.terms) == (self._deal_id, self._terms) and place in self._expected
            if not due or one.holder != peer.number or place in self._came:
                peer.strikes += 1
                continue
            expected = self._expected[place]
            if expected is not None and expected != one.fingerprint:
                self._lose(peer, f"malformed message: its fingerprint of round {said.terms.round} is not its update's")
                return
            self._came[place] = one
