"""A verification summary (SLSA VSA v1): whoever ran `podlt verify` or `podlt audit` says what checking came to.

Source: slsa.dev/spec/v1.0/verification_summary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from podlt.attestation.envelope import Document, statement
from podlt.attestation.manifest import sha256_of
from podlt.attestation.provenance import head_descriptor, timestamp
from podlt.log.tree_head import origin_of
from podlt.protocol.claims import Finding, exit_code
from podlt.store.run_files import RunFiles
from podlt.store.run_names import MODEL
from podlt.verify import Verification

PREDICATE_TYPE = "https://slsa.dev/verification_summary/v1"
CLAIMS = "https://podlt.run/claims/v1"
"""The predicate's field with what checking each claim came to: other verifiers ignore it."""

Level = Literal["PODLT_VERIFIED", "PODLT_AUDITED_SAMPLE", "PODLT_AUDITED_ALL"]


def summary(
    findings: Sequence[Finding],
    found: Verification,
    files: RunFiles,
    levels: Sequence[Level],
    *,
    verifier: str,
    podlt: str,
    at: int,
) -> bytes:
    """The statement's bytes. Its result is PASSED only if all that was asked for was checked, and holds.

    Args:
        findings: of verify or audit, all claims.
        found: the verification.
        files: the run: the model is the subject where it is here, else the log's last head.
        levels: what the verifier did.
        verifier: who verified, as a URI.
        podlt: its version.
        at: when, in milliseconds since 1970.
    """
    passed = exit_code(findings) == 0
    predicate = {
        "verifier": {"id": verifier, "version": {"podlt": podlt}},
        "timeVerified": timestamp(at),
        "resourceUri": f"https://podlt.run/log/{found.state.run.hex()}",
        "policy": {"uri": f"https://podlt.run/policy/{'audit' if len(levels) > 1 else 'verify'}/v1"},
        "inputAttestations": _inputs(found),
        "verificationResult": "PASSED" if passed else "FAILED",
        "verifiedLevels": list(levels) if passed else ["FAILED"],
        "slsaVersion": "1.0",
        CLAIMS: [
            {"claim": int(each.claim), "name": each.claim.name.lower(), "outcome": each.outcome.value}
            | ({"why": each.why} if each.why else {})
            for each in findings
        ],
    }
    return statement([_subject(found, files)], PREDICATE_TYPE, predicate)


def _inputs(found: Verification) -> list[Document]:
    if not found.head:
        return []
    head = head_descriptor(found)
    return [{"uri": head["uri"], "digest": head["digest"]}]


def _subject(found: Verification, files: RunFiles) -> Document:
    model = files.model()
    if model is not None:
        with model:
            return {"name": MODEL, "digest": {"sha256": sha256_of(model).hex()}}
    return {"name": origin_of(found.state.run), "digest": {"sha256": hashlib.sha256(found.head.encode()).hexdigest()}}
