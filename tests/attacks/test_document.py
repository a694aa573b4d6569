"""docs/ATTACKS.md says what the tests of this folder demand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from podlt.protocol.claims import Claim

from .document import text
from .lying_manager import ATTACKS

DOCUMENT = Path(__file__).parents[2] / "docs" / "ATTACKS.md"

NOT_PROVABLE = {"begin-arithmetic"}
"""Where nothing fails, and something asked for is not checked: exit code 4."""


def test_the_page_is_what_the_tests_find(golden: Callable[[Path, str], None]) -> None:
    golden(DOCUMENT, text())


def test_every_lie_about_a_real_run_is_refused_but_those_that_are_named() -> None:
    green = {name for name, attack in ATTACKS.items() if not attack.verify and not attack.audit}
    assert green == NOT_PROVABLE


def test_every_claim_but_those_that_the_reader_must_ask_for_is_broken_by_an_attack() -> None:
    from .guarded_forgeries import FORGERIES as GUARDED
    from .log_forgeries import FORGERIES as CLASSIC

    broken = {claim for a in ATTACKS.values() for claim in (*a.verify, *a.audit)}
    broken |= {claim for forgery in (*CLASSIC.values(), *GUARDED.values()) for claim in forgery.claims}
    # tests/test_verify.py, witness, manager/test_aggregates.py; bytes of tree and heads: test_bundle_bytes.py
    asked = {Claim.MANAGER, Claim.CONTINUITY, Claim.WITNESSES, Claim.AGGREGATES}
    assert set(Claim) - broken == asked | {Claim.TREE, Claim.HEADS}
