"""The certificate that a manager's server shows: made at first start, signed by itself, named in each invitation."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

from podlt.errors import UsageError
from podlt.extras import needed_by
from podlt.store.files import read_whole, write_whole

CERTIFICATE, PRIVATE_KEY = "tls.pem", "tls.key"
NAME = "podlt"
"""What the certificate says: podlt's own clients do not look at it, others have to be told to expect it."""

_LONGEST = 16 * 1024

# A certificate that is pinned needs no life span: what counts is the invitation's. And a worker whose clock is wrong by
# years (without a battery it begins in 1970) learns so from the manager, which it could not if TLS failed first.
_FROM, _UNTIL = datetime.datetime(1950, 1, 1), datetime.datetime(2199, 12, 31)


def load_or_create(folder: Path) -> bytes:
    """The certificate of a folder in DER; a new one with its key (0600), if there is none.

    Raises:
        UsageError: the files hold none, or `cryptography` is not installed.
        StorageError: they cannot be read or made.
    """
    certificate, private_key = folder / CERTIFICATE, folder / PRIVATE_KEY
    if not (certificate.is_file() and private_key.is_file()):
        pem, key = _make()
        # The key first: a certificate without its key would be found, and be of no use, after a crash between the two.
        write_whole(private_key, key, mode=0o600)
        write_whole(certificate, pem)
    try:
        return ssl.PEM_cert_to_DER_cert(read_whole(certificate, _LONGEST).decode("ascii"))
    except ValueError:
        raise UsageError(f"{certificate}: malformed certificate: workers could not be invited by it") from None


def server_context(certificate: Path, private_key: Path) -> ssl.SSLContext:
    """TLS 1.3 for a server.

    Args:
        certificate: a file of PEM.
        private_key: a file of PEM.

    Raises:
        OSError: a file cannot be read, or holds something else.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nobody resumes a session
    context.load_cert_chain(certificate, private_key)
    return context


def client_context(certificate: bytes) -> ssl.SSLContext:
    """TLS 1.3 with exactly the server that shows this certificate (DER), whatever its name or address.

    Nothing else is trusted, and the certificate, which says that it is no authority's, can vouch for no other.

    Raises:
        UsageError: malformed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=certificate)
    except (ssl.SSLError, ValueError):
        raise UsageError("the server's certificate is malformed") from None
    if context.cert_store_stats()["x509_ca"]:
        raise UsageError("the server's certificate is an authority's: it could vouch for others")
    return context


def _make() -> tuple[bytes, bytes]:
    """A certificate and its private key, in PEM."""
    x509, ed25519, serialization = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, None)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def _cryptography() -> tuple[Any, Any, Any]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise needed_by("the network engine", error) from None
    return x509, ed25519, serialization
