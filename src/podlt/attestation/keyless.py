"""Keyless signing: sigstore certifies who signs (an OpenID Connect identity) for some minutes, and logs that it did."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from podlt.attestation.envelope import Document
from podlt.errors import UsageError
from podlt.store.files import read_whole

_LONGEST = 2**20
_ISSUER = "1.3.6.1.4.1.57264.1.8"
"""The extension of Fulcio's certificates that names who vouches for the identity: a UTF8String in DER."""

_OFFLINE = "Nothing was written; offline, sign with a key: --key FILE (podlt attest --new-key FILE makes one)"
_TOKENS = (
    "Give the job a token (GitHub Actions: `permissions: id-token: write`; GitLab: `id_tokens: SIGSTORE_ID_TOKEN: "
    "aud: sigstore`), set SIGSTORE_IDENTITY_TOKEN, or log in from a terminal"
)
_INTERNET = "It needs the Internet, or --trust-config with services that can be reached"


class Instance(NamedTuple):
    """Which sigstore certifies and logs: the public one, unless something else is said.

    Attributes:
        trust_config: a file with another's addresses and keys: sigstore's ClientTrustConfig, in JSON.
        staging: the public one for trying things out (sigstage.dev).
    """

    trust_config: Path | None = None
    staging: bool = False


class Certified(NamedTuple):
    """Whom a certificate names: what a verifier must be told in place of a key.

    Attributes:
        identity: an e-mail address, or a URI such as a workflow's.
        issuer: the URL of who vouches for it.
    """

    identity: str
    issuer: str


class KeylessSigner:
    """Signs by an identity.

    Args:
        context: sigstore's.
        source: gives an identity token. Tokens live for one to ten minutes, and verifying a run may take longer: it is
            asked again when a token has expired.
    """

    keyless = True

    def __init__(self, context: Any, source: Callable[[], Any]) -> None:
        self._context, self._source = context, source
        self._token: Any = None

    @property
    def identity(self) -> str:
        """See `Signer`; as the token has it.

        Raises:
            UsageError: there is no token.
        """
        token = self._token or self._current()
        return f"{token.issuer}#{token.identity}"

    def bundle(self, payload: bytes) -> Document:
        """See `Signer`.

        Raises:
            UsageError: there is no token, or sigstore cannot be reached, or refuses.
        """
        from sigstore.dsse import Statement

        token = self._current()
        step = "no certificate (Fulcio)"
        try:
            with self._context.signer(token) as signer:
                step = "no entry in the transparency log (Rekor)"
                return dict(json.loads(signer.sign_dsse(Statement(payload)).to_json()))
        except Exception as error:  # sigstore's errors have no common root, and each means that nothing was signed
            raise _failed(step, error) from error

    def _current(self) -> Any:
        if self._token is None or not self._token.in_validity_period():
            try:
                self._token = self._source()
            except Exception as error:
                raise _failed("no identity", error, _TOKENS) from error
        return self._token


def keyless_signer(
    instance: Instance | None = None, token: str | None = None, before_login: Callable[[], None] | None = None
) -> KeylessSigner:
    """A signer by the identity of a token, else of the CI job in which this runs, else of whoever logs in by a browser.

    The login waits until something is there to be signed.

    Args:
        instance: which sigstore.
        token: from OpenID Connect, for the audience sigstore.
        before_login: called before the browser is opened.

    Raises:
        MissingPackageError: the package sigstore is not installed.
        UsageError: there is nobody to sign, or the keys of the services cannot be fetched or read.
    """
    from sigstore.oidc import IdentityToken, Issuer, detect_credential
    from sigstore.sign import SigningContext

    def without_login() -> Any:
        found = token if token is not None else detect_credential()
        return None if found is None else IdentityToken(found)

    try:
        first = without_login()
    except Exception as error:
        raise _failed("no identity", error, _TOKENS) from error
    if first is None and not sys.stdin.isatty():
        raise UsageError(
            f"keyless signing failed: no identity: no token, no CI job's, and no terminal. {_TOKENS}. {_OFFLINE}"
        )
    trust = _trust(instance or Instance())

    def source() -> Any:
        if first is not None:
            return without_login()
        if before_login is not None:
            before_login()
        return Issuer(trust.signing_config.get_oidc_url()).identity_token()

    try:
        return KeylessSigner(SigningContext.from_trust_config(trust), source)
    except Exception as error:
        raise _failed("the trust configuration names no services that can be used", error, _INTERNET) from error


def certified(bundle: Document) -> Certified:
    """Whom the certificate of a bundle names. Checks nothing: sigstore's own tools verify bundles."""
    from cryptography import x509

    raw = base64.b64decode(bundle["verificationMaterial"]["certificate"]["rawBytes"])
    extensions = x509.load_der_x509_certificate(raw).extensions
    (name,) = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    issuer = extensions.get_extension_for_oid(x509.ObjectIdentifier(_ISSUER)).value
    assert isinstance(issuer, x509.UnrecognizedExtension)
    header = 2 if issuer.value[1] < 0x80 else 2 + issuer.value[1] - 0x80
    return Certified(str(name.value), issuer.value[header:].decode())


def _trust(instance: Instance) -> Any:
    """The addresses and keys of the services.

    Raises:
        UsageError: they cannot be fetched, or the file is none.
    """
    from sigstore.models import ClientTrustConfig

    path = instance.trust_config
    if path is not None:
        if not path.is_file():
            raise UsageError(f"{path}: no such file; expected sigstore's ClientTrustConfig in JSON")
        try:
            return ClientTrustConfig.from_json(read_whole(path, _LONGEST).decode())
        except ValueError as error:
            reason = str(error).splitlines()[0][:100]
            raise UsageError(f"{path}: expected sigstore's ClientTrustConfig in JSON, got {reason}") from None
    try:
        return ClientTrustConfig.staging() if instance.staging else ClientTrustConfig.production()
    except Exception as error:
        raise _failed("the keys of sigstore's services cannot be fetched", error, _INTERNET) from error


def _failed(what: str, error: Exception, hint: str = "") -> UsageError:
    said = [f"keyless signing failed: {what}: {_cause(error)}", *([hint] if hint else []), _OFFLINE]
    return UsageError(". ".join(said))


def _cause(error: Exception) -> str:
    """What was wrong, in a line: sigstore says it often only in what an error was raised from."""
    chain = list(_chain(error))
    for each in chain:
        response = getattr(each, "response", None)
        if response is not None:  # a service's own words
            try:
                return f"{response.url}: {response.status_code} {response.json()['message'][:300]}"
            except (ValueError, KeyError, TypeError):
                return f"{response.url}: {response.status_code} {response.reason}"
    texts = [text.splitlines()[0][:300] for each in chain if (text := getattr(each, "strerror", None) or str(each))]
    if not texts:
        return type(error).__name__
    request = getattr(error, "request", None)
    first = texts[0] if request is None else str(request.url)  # instead of the whole stack of connections and pools
    return first if texts[-1] in first else f"{first}: {texts[-1]}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
