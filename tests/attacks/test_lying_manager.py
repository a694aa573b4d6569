"""A lying manager against `verify` and `audit`: each lie of docs/ATTACKS.md, told anew."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from podlt.manager.audit import audit
from podlt.manager.audit.report import AuditReport
from podlt.manager.round_driver import RoundDriver
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.verify import verify

from .lying_manager import ATTACKS, Attack, play

AUDITS, NEAR = 10, 2
"""How many audits of 5 % there are, and by how many the count may differ on another processor: the identity of a run,
from which its audits are drawn, depends on the last bits of the first parameters."""

FAST = [name for name, attack in ATTACKS.items() if attack.fast]


def failing(findings: list[Finding]) -> tuple[Claim, ...]:
    return tuple(finding.claim for finding in findings if finding.outcome is Outcome.FAILS)


def require(attack: Attack, run: Path) -> AuditReport:
    verified, audited = verify(run, jobs=1), audit(run, 1.0, seed=1, jobs=1)
    assert failing(verified.findings) == attack.verify
    assert failing(audited.findings) == attack.audit
    assert verified.exit_code == (1 if attack.verify else 0)
    assert audited.exit_code == (1 if attack.audit else 4)
    return audited


def chance(whole: AuditReport, fraction: float) -> float:
    """That an audit of some tasks and one whole round executes one of the fakes that a whole audit found."""
    faked = {(fake.round, fake.shard) for fake in whole.fakes}
    by_tasks = (1 - len(faked) / whole.tasks) ** round(fraction * whole.tasks)
    return 1 - by_tasks * (1 - len({number for number, _ in faked}) / whole.rounds)


@pytest.mark.parametrize("name", FAST)
def test_a_lie_fails_at_its_claims(name: str, tmp_path: Path) -> None:
    attack = ATTACKS[name]
    require(attack, play(attack, tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_a_lie_fails_at_its_claims_and_as_often_in_small_audits_as_the_page_says(name: str, tmp_path: Path) -> None:
    attack = ATTACKS[name]
    run = play(attack, tmp_path / "run")
    whole = require(attack, run)
    objecting = sum(audit(run, 0.05, seed=seed, jobs=1).exit_code == 1 for seed in range(AUDITS))
    if attack.by_chance:
        one = chance(whole, 0.05)
        assert abs(objecting - AUDITS * one) <= 3 * math.sqrt(AUDITS * one * (1 - one))
    else:
        assert abs(objecting - attack.share) <= NEAR


def test_nobody_can_tell_that_a_manager_skipped_its_own_tasks(tmp_path: Path) -> None:
    """SPEC.md, 6.1: it agrees with whatever was answered, and convicts nobody by it."""

    def skip(patch: pytest.MonkeyPatch) -> None:
        def executed(self: RoundDriver, shard: int) -> np.ndarray:
            round = self._manager.state.revealed
            return self._slot(next(copy for copy in round.results if round.roles.seats[copy[0]] == shard))

        patch.setattr(RoundDriver, "_executed_own", executed)

    run = play(Attack(does="skips its own tasks", lie=skip), tmp_path / "run")
    assert not verify(run, jobs=1).exit_code and not audit(run, 1.0, seed=1, jobs=1).exit_code


def test_nothing_fails_where_nobody_lies(tmp_path: Path) -> None:
    run = play(Attack(does="is honest"), tmp_path / "run")
    assert not verify(run, jobs=1).exit_code
    assert not audit(run, 1.0, seed=1, jobs=1).exit_code
