"""Every log that a test verifies goes to the second verifier as well: both must give the same table of claims."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import msgspec
import second_verifier

from podlt.protocol.claims import Claim, Outcome
from podlt.verify import LogSource, Verification
from podlt.verify.documents import Documents

MOST_ENTRIES = 4000
"""The second verifier is slow and plain: longer logs are left to ours."""

MODULE = import_module("podlt.verify")
ours = MODULE.verify_log


def verify_log(source: LogSource, documents: Documents, **options: Any) -> Verification:
    """As ours; asserts that the second verifier comes to the same."""
    found: Verification = ours(source, documents, **options)
    if found.failure is not None and found.failure.step == Claim.FORM:
        return found  # how an entry is encoded (1.2) is left to whoever reads it
    heads = source.heads()
    if not heads or heads[-1][0] > MOST_ENTRIES:
        return found
    given = second_verifier.Given()
    given.recipe, given.program = documents.recipe, documents.program
    given.manager, given.kept = options.get("manager_key"), options.get("trusted_head")
    try:
        theirs = second_verifier.verify(list(source.entries()), heads, given)
    except (ValueError, IndexError, msgspec.DecodeError):  # how a head is written (5.2) is left to others as well
        assert found.failure is not None
        return found
    table = {finding.claim.name: finding.outcome.value for finding in found.findings[: Claim.MODEL - 1]}
    if found.failure is not None:
        fails = {name for name, outcome in table.items() if outcome == Outcome.FAILS.value}
        assert fails == {name for name, outcome in theirs.items() if outcome == Outcome.FAILS.value}, (fails, theirs)
    else:
        assert table == {name: theirs[name] for name in table}
    return found


def install() -> None:
    """Has every call go to both. To be called before a test module imports the function."""
    MODULE.verify_log = verify_log  # type: ignore[attr-defined]
