"""Keyless signing: sigstore certifies who signs (an OpenID Connect identity) for some minutes, and logs that it did."""

from __future__ import annotations

import json
from typing import Any

from podlt.attestation.envelope import Document
from podlt.errors import UsageError

_CLIENT = "sigstore"


class KeylessSigner:
    """Signs by an identity: of the machine, where it has one (a CI job's), else of whoever logs in by a browser.

    Args:
        context: sigstore's.
        token: the identity.
    """

    keyless = True

    def __init__(self, context: Any, token: Any) -> None:
        self._context, self._token = context, token
        self.identity = f"{token.issuer}#{token.identity}"

    def bundle(self, payload: bytes) -> Document:
        """See `Signer`.

        Raises:
            UsageError: sigstore cannot be reached.
        """
        from sigstore.dsse import Statement

        try:
            with self._context.signer(self._token) as signer:
                return dict(json.loads(signer.sign_dsse(Statement(payload)).to_json()))
        except Exception as error:  # sigstore's errors have no common root, and each means that nothing was signed
            raise _unreachable(error) from error


def keyless_signer() -> KeylessSigner:
    """A signer by the identity that sigstore finds, or asks for.

    Raises:
        MissingPackageError: the package sigstore is not installed.
        UsageError: sigstore cannot be reached, or nobody logged in.
    """
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken, Issuer, detect_credential
    from sigstore.sign import SigningContext

    try:
        trust = ClientTrustConfig.production()
        found = detect_credential(_CLIENT)
        if found is not None:
            token = IdentityToken(found, _CLIENT)
        else:
            token = Issuer(trust.signing_config.get_oidc_url()).identity_token()
        return KeylessSigner(SigningContext.from_trust_config(trust), token)
    except Exception as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> UsageError:
    cause = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return UsageError(
        f"keyless signing failed: {cause}. It needs the Internet and an identity to log in with; offline, sign with a "
        "key: --key FILE (podlt attest --new-key FILE makes one)"
    )
