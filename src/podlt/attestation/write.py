"""Attests a run's model: verifies the run, states its provenance, and signs the statement and the model's files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec

from podlt.attestation.envelope import Document, Signer, lines_of
from podlt.attestation.manifest import SINGLE, ModelManifest, manifest_of_file, manifest_of_folder, sha256_of
from podlt.attestation.provenance import provenance
from podlt.attestation.sources import Dependency, data_dependencies, declared
from podlt.attestation.tensors import same_tensors
from podlt.canonical import to_json
from podlt.errors import InvalidProofError, NotCheckedError, StorageError, UsageError
from podlt.protocol.claims import Claim, Outcome
from podlt.recipe import Recipe
from podlt.store.files import write_whole
from podlt.store.run_files import RunFiles, open_run_files, with_own_name
from podlt.store.run_names import BUFFERS, MODEL
from podlt.verify import Verification, verify_files

PROVENANCE, SIGNATURE = "provenance.intoto.jsonl", "model.sig"
KEYLESS_PROVENANCE = "provenance.sigstore.json"
BOUND = (MODEL, BUFFERS)
"""The files of an exported folder that are the run's."""

OURS = (PROVENANCE, KEYLESS_PROVENANCE, SIGNATURE, "verification.intoto.jsonl", "verification.sigstore.json")
"""What attesting writes, and summaries that may lie beside it: no part of the model."""


class Attestation(msgspec.Struct, frozen=True):
    """What was attested, and where it was written.

    Attributes:
        provenance: the file with the signed statement.
        signature: the file with the model's signature.
        manifest: the model's files.
        verification: of the run.
        dependencies: what it was made of.
        same_bytes: whether the model's file is the run's, byte for byte; else its tensors are.
        unbound: files of the model that no entry of the log binds: they are the signer's word.
    """

    provenance: Path
    signature: Path
    manifest: ModelManifest
    verification: Verification
    dependencies: list[Dependency]
    same_bytes: bool
    unbound: list[str]


def attest(
    run: Path,
    signer: Signer,
    *,
    podlt: str,
    model: Path | None = None,
    out: Path | None = None,
    data: Path | None = None,
    depends: Sequence[str] = (),
    cache: Path | None = None,
    force: bool = False,
) -> Attestation:
    """Writes a signed provenance, and a signature over the model.

    Args:
        run: its directory, or a bundle.
        signer: who states this.
        podlt: this program's version.
        model: an exported folder, or a copy of the run's `model.safetensors`; that file itself by default.
        out: a folder; the exported folder, or RUN-attestation beside the run, by default.
        data: where the run's data are.
        depends: further dependencies, as `declared` reads them.
        cache: of prepared data.
        force: whether to write over files that are there.

    Raises:
        UsageError: the run is not finished, the model is another one, or there are files already.
        InvalidProofError: a claim about the log or the model fails.
        NotCheckedError: one was not checked.
        StorageError: a file cannot be read or written.
    """
    if model is not None and not model.exists():
        raise UsageError(f"{model}: there is no such model: podlt export {run} {model} makes it")
    target = out if out is not None else _default_target(run, model)
    named = KEYLESS_PROVENANCE if signer.keyless else PROVENANCE
    taken = [path for path in (target / named, target / SIGNATURE) if path.exists()]
    if taken and not force:
        raise UsageError(f"{taken[0]}: the file exists (--force overwrites it)")
    more = declared(list(depends))
    with open_run_files(run) as files:
        found = verify_files(files)
        _require_sound(found, run)
        manifest, same = _manifest(files, model)
        assert found.documents.recipe is not None and found.state.begin is not None
        recipe = Recipe.from_bytes(found.documents.recipe)
        dependencies = [*data_dependencies(recipe, found.state.begin, files, cache, data), *more]
    notes: Document = {} if same else {"encoding": "the tensors of the run's model.safetensors, in another encoding"}
    unbound = [name for name in manifest.files if name not in (SINGLE, *BOUND)]
    if unbound:
        notes["notBoundByTheLog"] = unbound
    stated = lines_of(signer.bundle(provenance(manifest, found, dependencies, notes, podlt)), keyless=signer.keyless)
    signature = to_json(signer.bundle(manifest.statement())) + b"\n"
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{target}: cannot be made: {error.strerror or error}") from None
    new = not (target / named).exists()
    write_whole(target / named, stated)
    try:
        write_whole(target / SIGNATURE, signature)
    except StorageError:
        if new:
            (target / named).unlink(missing_ok=True)
        raise
    return Attestation(target / named, target / SIGNATURE, manifest, found, dependencies, same, unbound)


def _default_target(run: Path, model: Path | None) -> Path:
    if model is not None and model.is_dir():
        return model
    named = with_own_name(run)
    return named.with_name(f"{named.stem if named.is_file() else named.name}-attestation")


def _require_sound(found: Verification, run: Path) -> None:
    """Refuses to sign what verifying does not bear out.

    Raises:
        InvalidProofError: a claim fails.
        UsageError: the run is not finished.
        NotCheckedError: what must be checked was not.
    """
    if found.failure is not None:
        claim = Claim(found.failure.step)
        raise InvalidProofError(f"{run}: nothing is attested: claim {claim:d}, {claim.title}: {found.failure}")
    closed = found.state.closed
    if closed is None or closed.outcome != "complete":
        raise UsageError(f"{run}: the run is not finished: there is no model to attest yet")
    if found.documents.is_simulated:
        raise UsageError(f"{run}: the run was simulated: there is no model to attest")
    for finding in found.findings:
        if finding.asked and finding.outcome is Outcome.NOT_CHECKED and finding.claim <= Claim.MODEL:
            raise NotCheckedError(f"{run}: nothing is attested: claim {int(finding.claim)}: {finding.why}")


def _require_buffers(files: RunFiles, folder: Path) -> None:
    """Refuses an exported folder whose buffers are not the run's.

    Raises:
        UsageError: they are not.
    """
    path, own = folder / BUFFERS, files.buffers()
    if not path.is_file():
        if own is not None:
            own.close()
        return
    with path.open("rb") as file, own or nullcontext() as ours:
        if ours is None or sha256_of(ours) != sha256_of(file):
            raise UsageError(f"{path}: not the buffers of this run's model")


def _manifest(files: RunFiles, model: Path | None) -> tuple[ModelManifest, bool]:
    """The model's files, and whether its `model.safetensors` is the run's byte for byte."""
    own = files.model()
    assert own is not None
    with own:
        if model is None:
            return manifest_of_file(MODEL, own), True
        path = model / MODEL if model.is_dir() else model
        try:
            with path.open("rb") as file:
                same = sha256_of(file) == sha256_of(own)
                if not same and not same_tensors(own, file):
                    raise UsageError(f"{path}: not the model that this run trained: its tensors are others")
                if not model.is_dir():
                    return manifest_of_file(model.name, file), same
                _require_buffers(files, model)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    return manifest_of_folder(model, OURS), same
