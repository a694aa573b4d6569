"""`podlt attest`: a signed statement of how a model was trained, in the forms that the world's tools verify."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from podlt.cli.options import DataOption, JsonOption, console, shown
from podlt.cli.signing import (
    SIGNING,
    KeylessOption,
    KeyOption,
    StagingOption,
    TokenOption,
    TrustOption,
    signer_of,
)
from podlt.errors import UsageError
from podlt.progress.text import printable
from podlt.store.run_names import MODEL

if TYPE_CHECKING:
    from podlt.attestation.envelope import Signer
    from podlt.attestation.keyless import Certified
    from podlt.attestation.summary import Level
    from podlt.attestation.write import Attestation
    from podlt.protocol.claims import Finding
    from podlt.verify import Verification


def attest(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="A finished run's directory, or a bundle of it.", show_default=False),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="What you publish: a folder of podlt export, or a copy of model.safetensors; else the run's own.",
            show_default=False,
        ),
    ] = None,
    key: KeyOption = None,
    keyless: KeylessOption = False,
    token: TokenOption = None,
    staging: StagingOption = False,
    trust_config: TrustOption = None,
    new_key: Annotated[
        Path | None,
        typer.Option("--new-key", metavar="PEM", rich_help_panel=SIGNING, help="Make a key and its PEM.pub, and end."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to: the folder MODEL, or RUN-attestation beside the run, by default."),
    ] = None,
    data: DataOption = None,
    depends: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URI[=sha256:HEX]",
            help="Name what the run came from besides, such as a base model: hf://ORG/NAME@REVISION. Repeatable.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Sign how a model was trained: recipe, data by SHA-256, program, and the head of the run's log.

    Verifies the run first, and signs nothing that does not hold. Writes two files: provenance.intoto.jsonl, an in-toto
    statement with SLSA provenance v1 in a DSSE envelope, and model.sig, an OpenSSF Model Signing bundle over the same
    files, which `model_signing verify key MODEL --signature model.sig --public_key PEM.pub` accepts without podlt.

    Without a key, --keyless signs by an identity: the CI job's in which this runs, else yours after a login in a
    browser, which waits until the run is verified. Both files are sigstore bundles then (provenance.sigstore.json), and
    whoever verifies names the identity that is printed.

    Prints what a reader may conclude, and what not. Whoever verified or audited the run signs a summary of that by
    podlt verify RUN --summary FILE --key PEM.

    Examples: podlt attest --new-key me.pem

              podlt export runs/mnist mnist-model, then: podlt attest runs/mnist mnist-model --key me.pem
    """
    if new_key is not None:
        if run is not None or key is not None or keyless:
            raise UsageError("--new-key makes a key and ends: give it alone, then sign with --key")
        _make_key(new_key, as_json=as_json)
        return
    if run is None:
        raise UsageError("expected RUN: a finished run's directory, or a bundle of it (podlt attest --help)")
    from podlt.attestation.write import attest as write

    signer = signer_of(key, keyless, token=token, staging=staging, trust_config=trust_config)
    done = write(
        run,
        signer,
        podlt=version(),
        model=model,
        out=out,
        data=data,
        depends=depends or [],
        force=force,
    )
    if as_json:
        typer.echo(json.dumps(_document(done, signer)))
    else:
        where = ["--trust_config", str(trust_config)] if trust_config else ["--use_staging"] * staging
        named = _certified(done, signer)
        _print(done, signer, named, console())
        whom = _signed_by(key, named, where)
        typer.echo(f"\nverify it without podlt: {printable(_verification(done, run, model, whom))}")


def write_summary(
    target: Path, run: Path, findings: Sequence[Finding], found: Verification, levels: Sequence[Level], signer: Signer
) -> None:
    """Writes what verify or audit came to, signed. Arguments as those of `podlt.attestation.summary.summary`."""
    from podlt.attestation.envelope import lines_of
    from podlt.attestation.summary import summary
    from podlt.store.files import write_whole
    from podlt.store.run_files import open_run_files

    with open_run_files(run) as files:
        stated = summary(
            findings,
            found,
            files,
            levels,
            verifier=signer.identity,
            podlt=version(),
            at=time.time_ns() // 1_000_000,
        )
    write_whole(target, lines_of(signer.bundle(stated), keyless=signer.keyless))
    typer.echo(f"summary: {target}, signed by {signer.identity}", err=True)


def version() -> str:
    """Which podlt this is."""
    try:
        return metadata.version("podlt")
    except metadata.PackageNotFoundError:
        return "unknown"


def _make_key(path: Path, *, as_json: bool) -> None:
    from podlt.attestation.signing_key import PUBLIC_SUFFIX, new_key

    made = new_key(path)
    if as_json:
        typer.echo(json.dumps({"key": str(path), "public": f"{path}{PUBLIC_SUFFIX}", "identity": made.identity}))
        return
    typer.echo(f"{path}: a new key, P-256; keep it secret: whoever has it signs in your name")
    typer.echo(f"{path}{PUBLIC_SUFFIX}: its public key, for whoever verifies ({made.identity})")


def _document(done: Attestation, signer: Signer) -> dict[str, object]:
    named = _certified(done, signer)
    return {
        "provenance": str(done.provenance),
        "signature": str(done.signature),
        "signer": signer.identity,
        "certificate": None if named is None else named._asdict(),
        "root": done.manifest.root.hex(),
        "files": {name: digest.hex() for name, digest in done.manifest.files.items()},
        "same_bytes": done.same_bytes,
        "not_bound_by_the_log": done.unbound,
        "dependencies": [each.descriptor for each in done.dependencies],
        "not_known": [each.unknown for each in done.dependencies if each.unknown],
    }


def _signed_by(key: Path | None, named: Certified | None, where: Sequence[str]) -> list[str]:
    """How model_signing is told whose signature to expect: the way, and its options."""
    from podlt.attestation.signing_key import PUBLIC_SUFFIX

    if named is None:
        return ["key", "--public_key", f"{key}{PUBLIC_SUFFIX}"]
    return ["sigstore", "--identity", named.identity, "--identity_provider", named.issuer, *where]


def _verification(done: Attestation, run: Path, model: Path | None, whom: Sequence[str]) -> str:
    """What a reader types who has the model, the signature and its author's name; a bundle has the own model in it."""
    way, *options = whom
    in_bundle = model is None and run.is_file()
    whole = MODEL if in_bundle else str(model if model is not None else run / MODEL)
    command = shlex.join(["model_signing", "verify", way, whole, "--signature", str(done.signature), *options])
    return f"{shlex.join(['tar', '-xf', str(run), MODEL])} && {command}" if in_bundle else command  # a plain tar


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number:,} files"


def _certified(done: Attestation, signer: Signer) -> Certified | None:
    """Whom the certificate names, where there is one: a CI job's is another name than its token's."""
    if not signer.keyless:
        return None
    from podlt.attestation.keyless import certified

    return certified(json.loads(done.signature.read_bytes()))


def _print(done: Attestation, signer: Signer, named: Certified | None, out: Console) -> None:
    from podlt.attestation.conclusions import may_conclude, may_not_conclude

    out.print(f"provenance: {shown(str(done.provenance))} (in-toto, SLSA provenance v1)", soft_wrap=True)
    out.print(f"signature:  {shown(str(done.signature))} (OpenSSF Model Signing)", soft_wrap=True)
    out.print(f"root:       sha256:{done.manifest.root.hex()} over {_files(len(done.manifest.files))}", soft_wrap=True)
    if named is not None:
        out.print(f"signed by:  {shown(named.identity)}, says {shown(named.issuer)}", soft_wrap=True)
    for each in done.dependencies:
        digest = each.descriptor.get("digest", {}).get("sha256")
        what = each.descriptor.get("name") or each.descriptor.get("uri")
        if digest:
            out.print(f"made from:  {shown(str(what))} sha256:{digest}", soft_wrap=True)
    for each in done.dependencies:
        if each.unknown:
            out.print(f"not known:  {shown(each.unknown)}", soft_wrap=True)
    if not done.same_bytes:
        out.print("note:       the model's file has the run's tensors in another encoding", soft_wrap=True)
    out.print("\nwho trusts the signature may conclude:")
    for sentence in may_conclude(done.verification, signer.identity if named is None else named.identity):
        out.print(f"  {shown(sentence)}", soft_wrap=True)
    out.print("and may not conclude:")
    for sentence in may_not_conclude(done.verification, done.unbound):
        out.print(f"  {shown(sentence)}", soft_wrap=True)
