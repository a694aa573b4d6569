"""Verification of a run's log: the numbered steps of docs/SPEC.md, section 6, by anyone, without PyTorch.

One pass: the entries between two tree heads are taken together; they must be in their form and in the tree, the head
must be the manager's, and then the rule book (`RunState.apply`) must allow each of them. Signatures are independent of
each other and cost the most, so they are checked by other processes meanwhile. What a claim rests on may be missing
(a document, the model): then it was not checked, and the report says so.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import msgspec

from podlt.errors import InvalidProofError, NotCheckedError, PodltError, UsageError
from podlt.log.notes import WitnessKey
from podlt.protocol.claims import Claim
from podlt.signature_pool import SignaturePool
from podlt.store.run_files import RunFiles, open_run_files
from podlt.store.run_names import PROGRAM, RECIPE
from podlt.verify.cosigned import Cosigned
from podlt.verify.documents import Documents, check_model
from podlt.verify.log import LogSource, LogVerifier, Progress, Verification, first_failure, in_form

__all__ = ["LogSource", "Progress", "Verification", "verify", "verify_files", "verify_log"]


def verify(
    run: Path | str,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
    manager_key: bytes | None = None,
    trusted_head: str | None = None,
    witnesses: Sequence[WitnessKey] = (),
) -> Verification:
    """Verifies a run: its log, recipe, program and model.

    Args:
        run: its directory, a bundle of it, or its log alone.
        jobs: how many processes check signatures; the machine's cores by default.
        progress: see `Progress`.
        manager_key: the manager that is expected.
        trusted_head: a signed tree head that somebody kept.
        witnesses: who must have cosigned the log's last head.

    Raises:
        UsageError: there is no run, or it has not begun, or `trusted_head` is no tree head.
        StorageError: the log cannot be read.
        NotCheckedError: a newer podlt wrote it.
    """
    try:
        with open_run_files(Path(run)) as files:
            return verify_files(
                files,
                jobs=jobs,
                progress=progress,
                manager_key=manager_key,
                trusted_head=trusted_head,
                witnesses=witnesses,
            )
    except InvalidProofError as error:  # not even its container can be read
        return LogVerifier(Documents(None, None), None, None, None).result(in_form(error))


def verify_files(
    files: RunFiles,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
    manager_key: bytes | None = None,
    trusted_head: str | None = None,
    witnesses: Sequence[WitnessKey] = (),
) -> Verification:
    """Verifies a run whose files are open. Arguments and errors as `verify`."""
    documents = Documents(files.document(RECIPE), files.document(PROGRAM))
    try:
        log = files.log()
    except InvalidProofError as error:
        return LogVerifier(documents, None, None, None).result(in_form(error))
    try:
        if trusted_head is None and not witnesses and _is_empty(log):
            raise UsageError(f"{files.path}: the log is empty: nothing was trained yet")
        found = verify_log(
            log,
            documents,
            jobs=jobs,
            progress=progress,
            manager_key=manager_key,
            trusted_head=trusted_head,
            cosigned=Cosigned(tuple(witnesses), files.cosignatures() if witnesses else b""),
        )
    finally:
        log.close()
    findings = list(found.findings)
    findings[Claim.MODEL - 1] = check_model(files, documents, found.state, found.failure is None)
    return msgspec.structs.replace(found, findings=findings, failure=found.failure or first_failure(findings))


def _is_empty(log: LogSource) -> bool:
    """Whether a log says nothing: its run has not begun, or was interrupted before it did."""
    return not log.heads() and next(iter(log.entries()), None) is None


def verify_log(
    source: LogSource,
    documents: Documents,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
    manager_key: bytes | None = None,
    trusted_head: str | None = None,
    cosigned: Cosigned | None = None,
) -> Verification:
    """Verifies a log against its recipe and program. Arguments and errors as `verify`.

    Args:
        cosigned: the witnesses that are demanded, and what is there of cosignatures.
    """
    verifier = LogVerifier(documents, manager_key, trusted_head, progress, cosigned or Cosigned())
    with SignaturePool(jobs or multiprocessing.cpu_count()) as pool:
        failure: PodltError | None = None
        try:
            verifier.read(source, pool)
        except (InvalidProofError, NotCheckedError) as error:
            failure = error
        # A signature that fails belongs to an entry that was read before; the earliest entry is the one to name.
        failure = pool.first_failure() or failure
        if isinstance(failure, NotCheckedError):
            raise failure
        assert failure is None or isinstance(failure, InvalidProofError)
        return verifier.result(failure)
