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
from podlt.errors import UsageError
from podlt.progress.text import printable
from podlt.store.run_names import MODEL

if TYPE_CHECKING:
    from podlt.attestation.envelope import Signer
    from podlt.attestation.summary import Level
    from podlt.attestation.write import Attestation
    from podlt.protocol.claims import Finding
    from podlt.verify import Verification

SIGNING = "Signing"
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key", metavar="PEM", rich_help_panel=SIGNING, help="Sign with this key (P-256, P-384 or P-521, PEM, 0600)."
    ),
]
KeylessOption = Annotated[
    bool,
    typer.Option("--keyless", rich_help_panel=SIGNING, help="Sign by an identity that sigstore certifies; no key."),
]
SummaryOption = Annotated[
    Path | None,
    typer.Option(
        "--summary",
        metavar="FILE",
        rich_help_panel=SIGNING,
        help="Write what this came to as a signed summary (SLSA VSA v1); needs --key or --keyless.",
    ),
]


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

    signer = signer_of(key, keyless)
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
        _print(done, signer, console())
        if key is not None:
            typer.echo(f"\nverify it without podlt: {printable(_verification(done, run, model, key))}")


def signer_of(key: Path | None, keyless: bool) -> Signer:
    """Who signs.

    Raises:
        UsageError: neither or both of a key and keyless.
    """
    if (key is not None) == keyless:
        raise UsageError("sign with --key PEM (podlt attest --new-key PEM makes one), or with --keyless")
    if key is not None:
        from podlt.attestation.signing_key import load_key

        return load_key(key)
    from podlt.attestation.keyless import keyless_signer

    return keyless_signer()


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
    return {
        "provenance": str(done.provenance),
        "signature": str(done.signature),
        "signer": signer.identity,
        "root": done.manifest.root.hex(),
        "files": {name: digest.hex() for name, digest in done.manifest.files.items()},
        "same_bytes": done.same_bytes,
        "not_bound_by_the_log": done.unbound,
        "dependencies": [each.descriptor for each in done.dependencies],
        "not_known": [each.unknown for each in done.dependencies if each.unknown],
    }


def _verification(done: Attestation, run: Path, model: Path | None, key: Path) -> str:
    """What a reader types who has the model, the signature and the public key; a bundle has the own model in it."""
    from podlt.attestation.signing_key import PUBLIC_SUFFIX

    signed = [str(done.signature), "--public_key", f"{key}{PUBLIC_SUFFIX}"]
    if model is None and run.is_file():
        taken_out = shlex.join(["tar", "-xf", str(run), MODEL])  # a bundle is a plain tar
        return f"{taken_out} && {shlex.join(['model_signing', 'verify', 'key', MODEL, '--signature', *signed])}"
    whole = model if model is not None else run / MODEL
    return shlex.join(["model_signing", "verify", "key", str(whole), "--signature", *signed])


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number:,} files"


def _print(done: Attestation, signer: Signer, out: Console) -> None:
    from podlt.attestation.conclusions import may_conclude, may_not_conclude

    out.print(f"provenance: {shown(str(done.provenance))} (in-toto, SLSA provenance v1)", soft_wrap=True)
    out.print(f"signature:  {shown(str(done.signature))} (OpenSSF Model Signing)", soft_wrap=True)
    out.print(f"root:       sha256:{done.manifest.root.hex()} over {_files(len(done.manifest.files))}", soft_wrap=True)
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
    for sentence in may_conclude(done.verification, signer.identity):
        out.print(f"  {shown(sentence)}", soft_wrap=True)
    out.print("and may not conclude:")
    for sentence in may_not_conclude(done.verification, done.unbound):
        out.print(f"  {shown(sentence)}", soft_wrap=True)
