"""The table of claims: in the code as in docs/SPEC.md."""

from __future__ import annotations

import re
from pathlib import Path

from podlt.protocol.claims import Claim

SPEC = (Path(__file__).parents[2] / "docs" / "SPEC.md").read_text(encoding="utf-8")


def test_the_specification_has_the_same_claims_in_the_same_order() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+): ([^|]+) \|", SPEC, re.MULTILINE)
    assert rows == [(str(int(claim)), claim.name, claim.title) for claim in Claim]


def test_each_claim_says_what_binds_it_and_which_command_checks_it() -> None:
    assert all(claim.bound_by and claim.command in ("verify", "audit") for claim in Claim)
    assert len({claim.title for claim in Claim}) == len(Claim)
