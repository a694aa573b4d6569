"""The table of claims as the page shows it: before anybody checked anything, and as `verify` filled it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Executor
from contextlib import suppress
from pathlib import Path
from typing import Any

from podlt.dashboard.source import RunSource
from podlt.dashboard.stream import MessageStream
from podlt.errors import PodltError
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


def show_claims(source: RunSource, path: Path, stream: MessageStream, work: Executor) -> None:
    """Shows the claims of a run that is followed: not checked, and once it is over what verifying it came to.

    Args:
        source: follows it.
        path: of the run.
        stream: gets them.
        work: verifies.
    """
    stream.show("claims", **unchecked(str(path)))
    arguments = source, path, stream, work
    threading.Thread(target=_verify, args=arguments, name="podlt-dashboard-verify", daemon=True).start()


def _verify(source: RunSource, path: Path, stream: MessageStream, work: Executor) -> None:
    source.caught_up.wait()
    if source.state.closed is None:
        return
    stream.show("claims", **{**unchecked(str(path)), "state": "running"})
    with suppress(RuntimeError, CancelledError):  # the dashboard ends
        stream.show("claims", **work.submit(_verified, path).result())


def _verified(path: Path) -> dict[str, Any]:
    try:
        return filled(verify(path, jobs=1))
    except PodltError:  # the page says already what is wrong with the log
        return unchecked(str(path))


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
