"""Logs that their manager edited and signed anew: each row of docs/ATTACKS.md."""

from __future__ import annotations

import pytest

from podlt.protocol.claims import Claim, Outcome

from .log_forgeries import BODIES, FORGERIES, LOG, forgeries, signed, verified


def failing(bodies: list[bytes]) -> tuple[Claim, ...]:
    return tuple(finding.claim for finding in verified(bodies).findings if finding.outcome is Outcome.FAILS)


def test_signed_again_without_an_edit_it_is_the_same_log() -> None:
    assert signed(BODIES).notes == LOG.notes and not failing(BODIES)


@pytest.mark.parametrize("what", FORGERIES)
def test_an_edit_fails_at_its_claim(what: str) -> None:
    forgery = FORGERIES[what]
    bodies = forgery.make()
    assert bodies != BODIES
    assert failing(bodies) == forgery.claims
    assert bool(forgery.claims) != bool(forgery.tells)


def test_each_edit_has_a_name_of_its_own() -> None:
    assert len(list(forgeries())) == len(FORGERIES)
