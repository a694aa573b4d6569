"""Every log that a test verifies goes to the second verifier as well: both must give the same table of claims."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any

import msgspec
import nacl.bindings
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


SIGNATURES = 2**16
"""How many signatures are remembered."""


def install() -> None:
    """Has every call go to both. To be called before a test module imports the function.

    Both check signatures by libsodium. Most tests verify one log, changed in a place: a signature that holds
    is remembered with its key and message, instead of being worked out hundreds of times.
    """
    MODULE.verify_log = verify_log  # type: ignore[attr-defined]
    nacl.bindings.crypto_sign_open = lru_cache(SIGNATURES)(nacl.bindings.crypto_sign_open)
