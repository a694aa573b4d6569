"""Who asks for a blob: a line that only the holder of a key can write, good for one blob, one server, a short while.

It goes as the `Authorization` of a request, inside TLS. A server cannot use it at another server, as it names the
certificate that was seen; who records it cannot use it for another blob; and a clock that goes wrong costs one
question, as each refusal says what the server's time is.
"""

from __future__ import annotations

import hashlib
import ssl
from typing import Literal

import msgspec

from podlt import canonical, crypto
from podlt.errors import InvalidProofError

SCHEME = "Podlt"
DOMAIN = "blob-pass/1"

LIFETIME = 300_000
"""Milliseconds that a pass is good for; a server takes none that is good for longer."""

Purpose = Literal["read", "write"]


def fingerprint(certificate: bytes) -> bytes:
    """The SHA-256 of a certificate in PEM: what the invitation names and the client insists on."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode("ascii"))).digest()


class _Pass(msgspec.Struct, frozen=True):
    """What is signed."""

    purpose: str
    blob: bytes
    server: bytes
    expires: int


def write(key: crypto.SigningKey, purpose: Purpose, blob: bytes, server: bytes, now: int) -> str:
    """The line for one blob.

    Args:
        blob: its digest.
        server: the SHA-256 of its certificate.
        now: its time, in milliseconds.
    """
    expires = now + LIFETIME // 2  # half: the other half is for clocks that go apart
    signature = key.sign(DOMAIN, canonical.encode(_Pass(purpose, blob, server, expires)))
    return f"{SCHEME} {key.public.hex()}.{expires}.{signature.hex()}"


def check(line: str, purpose: Purpose, blob: bytes, server: bytes, now: int) -> bytes:
    """The public key of whoever wrote the line.

    Raises:
        InvalidProofError: malformed, expired, good for too long, or not signed for this.
    """
    try:
        scheme, text = line.split(" ")
        key_hex, expires_text, signature_hex = text.split(".")
        key, signature = bytes.fromhex(key_hex), bytes.fromhex(signature_hex)
        expires = int(expires_text) if len(expires_text) < 16 and expires_text.isdecimal() else -1
    except ValueError:
        raise InvalidProofError("malformed pass") from None
    if scheme != SCHEME or not now < expires <= now + LIFETIME:
        raise InvalidProofError("pass expired, or valid for too long")
    if not crypto.is_signed(key, DOMAIN, canonical.encode(_Pass(purpose, blob, server, expires)), signature):
        raise InvalidProofError("pass is not signed by its key")
    return key
