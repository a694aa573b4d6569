"""Who signs what `attest`, `verify` and `audit` state: options, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podlt.errors import UsageError

if TYPE_CHECKING:
    from podlt.attestation.envelope import Signer

SIGNING = "Signing"
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key", metavar="PEM", rich_help_panel=SIGNING, help="Sign with this key (P-256, P-384 or P-521, PEM, 0600)."
    ),
]
KeylessOption = Annotated[
    bool,
    typer.Option(
        "--keyless",
        rich_help_panel=SIGNING,
        help="Sign by an identity that sigstore certifies, and publishes for good; no key.",
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--identity-token",
        metavar="TOKEN",
        envvar=["SIGSTORE_IDENTITY_TOKEN", "SIGSTORE_ID_TOKEN"],
        rich_help_panel=SIGNING,
        help="With --keyless: the identity, where neither the CI job nor a browser gives one (OpenID Connect). Better "
        "by the variable: others can see a command's arguments.",
    ),
]
StagingOption = Annotated[
    bool,
    typer.Option(
        "--staging",
        envvar="SIGSTORE_STAGING",
        rich_help_panel=SIGNING,
        help="With --keyless: sigstore's services for trying out.",
    ),
]
TrustOption = Annotated[
    Path | None,
    typer.Option(
        "--trust-config",
        metavar="JSON",
        rich_help_panel=SIGNING,
        help="With --keyless: a sigstore of your own (ClientTrustConfig).",
    ),
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


def signer_of(
    key: Path | None,
    keyless: bool,
    *,
    token: str | None = None,
    staging: bool = False,
    trust_config: Path | None = None,
) -> Signer:
    """Who signs.

    Args:
        key: of the option, as are the others.

    Raises:
        UsageError: neither or both of a key and keyless, or nobody can sign.
    """
    if (key is not None) == keyless:
        raise UsageError("sign with --key PEM (podlt attest --new-key PEM makes one), or with --keyless")
    if key is not None:
        from podlt.attestation.signing_key import load_key

        if trust_config is not None:
            raise UsageError("--trust-config is of --keyless; a key needs none")
        return load_key(key)
    if trust_config is not None and staging:
        raise UsageError("--staging and --trust-config name two sigstores: give one")
    from podlt.attestation.keyless import Instance, keyless_signer

    return keyless_signer(Instance(trust_config, staging), token, _warn)


def _warn() -> None:
    typer.echo("your identity, such as your e-mail address, will be in a public log for good; Ctrl-C stops", err=True)
