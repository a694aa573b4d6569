"""The table of claims as the page shows it: before anybody checked anything, and as `verify` filled it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.verify import Verification, verify


def unchecked(run: str) -> dict[str, Any]:
    """All claims, none of them checked, each with the command that checks it."""
    findings = [
        Finding(
            claim, Outcome.NOT_CHECKED, why="nobody has checked it on this page", remedy=f"podlt {claim.command} {run}"
        )
        for claim in Claim
    ]
    return {"state": "unchecked", "at": 0, "rows": rows_of(findings)}


def filled(verification: Verification) -> dict[str, Any]:
    """All claims, with what `verify` came to just now."""
    return {"state": "verified", "at": time.time_ns() // 10**6, "rows": rows_of(verification.findings)}


def verified(path: Path) -> dict[str, Any]:
    """Verifies a run; see `filled`. Errors: `podlt.verify.verify`."""
    return filled(verify(path, jobs=1))


def rows_of(findings: Sequence[Finding]) -> list[list[Any]]:
    """Number, title, what binds it, outcome, figure, why, remedy and command of each claim."""
    return [
        [
            int(one.claim),
            one.claim.title,
            one.claim.bound_by,
            one.outcome.value,
            one.figure,
            one.why,
            one.remedy,
            one.claim.command,
        ]
        for one in findings
    ]
