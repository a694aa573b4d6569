"""Logs that their manager edited and signed anew: each row of docs/ATTACKS.md, by both verifiers."""

from __future__ import annotations

import pytest

from podlt.protocol.claims import Claim, Outcome

from . import guarded_forgeries, log_forgeries
from .forging import Bodies, ForgedRun, Forgery

Edit = tuple[ForgedRun, Forgery]

ALL: dict[str, Edit] = {
    f"{preset}: {what}": (module.RUN, forgery)
    for preset, module in (("classic", log_forgeries), ("guarded", guarded_forgeries))
    for what, forgery in module.FORGERIES.items()
}


def failing(run: ForgedRun, bodies: Bodies) -> tuple[Claim, ...]:
    return tuple(finding.claim for finding in run.verified(bodies).findings if finding.outcome is Outcome.FAILS)


@pytest.mark.parametrize("run", [log_forgeries.RUN, guarded_forgeries.RUN])
def test_signed_again_without_an_edit_it_is_the_same_log(run: ForgedRun) -> None:
    assert run.signed(run.bodies).notes == run.log.notes and not failing(run, run.bodies)


@pytest.mark.parametrize("name", ALL)
def test_an_edit_fails_at_its_claim(name: str) -> None:
    run, forgery = ALL[name]
    bodies = forgery.make()
    assert bodies != run.bodies
    assert failing(run, bodies) == forgery.claims
    assert bool(forgery.claims) != bool(forgery.tells)


@pytest.mark.parametrize("module", [log_forgeries, guarded_forgeries])
def test_each_edit_has_a_name_of_its_own(module: object) -> None:
    assert len(list(module.forgeries())) == len(module.FORGERIES)  # type: ignore[attr-defined]
