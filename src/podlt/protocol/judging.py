"""How the manager judges a round after its reveal: by comparing, or by executing a task itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from podlt.protocol import entries as e
from podlt.protocol.round import RevealedRound
from podlt.protocol.verdict import compare, differing


class Dispute(msgspec.Struct, frozen=True):
    """A fragment whose result the manager must find by executing the task itself."""

    fragment: int
    reason: str


def verdicts(
    round: RevealedRound, disputes: Sequence[Dispute], referee: Mapping[int, bytes], now: Callable[[], int]
) -> list[e.Verdict]:
    """The verdicts on a round, ascending by fragment: on each disputed one, and on the one that was compared.

    Args:
        round: as its reveal left it.
        disputes: the fragments that the manager executed itself.
        referee: fragment -> digest of the manager's own result, for each dispute.
        now: gives milliseconds since 1970, never less than before.
    """
    found = []
    for dispute in disputes:
        accepted = referee[dispute.fragment]
        evicted = differing(round.fragment_results(dispute.fragment), accepted)
        found.append(_verdict(now(), round, dispute.fragment, "referee", dispute.reason, accepted, evicted))
    checked = round.roles.checked
    if checked not in referee:
        compared = compare(round.fragment_results(checked), vote=round.open.purpose == "train")
        assert compared is not None, "a check that names nobody is a dispute"
        found.append(_verdict(now(), round, checked, compared.outcome, "compared", compared.accepted, compared.evicted))
    return sorted(found, key=lambda verdict: verdict.fragment)


def _verdict(
    at: int, round: RevealedRound, fragment: int, outcome: str, reason: str, accepted: bytes, evicted: list[int]
) -> e.Verdict:
    return e.Verdict(
        at=at,
        round=round.open.round,
        fragment=fragment,
        outcome=outcome,  # type: ignore[arg-type]
        reason=reason,  # type: ignore[arg-type]
        accepted=accepted,
        evicted=evicted,
    )
