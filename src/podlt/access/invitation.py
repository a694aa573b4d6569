"""An invitation: one line to send to a worker, with all that it needs to find a run and to know it again.

It names the servers, the run's manager by its public key, and the certificate that the servers must show, so that
neither a name service nor a certificate authority has to be believed. Its secret is good for so many workers until a
time; the manager keeps only the secret's digest, so that its files let nobody in. Without a secret it is an address:
for keys that are allowed, or for anybody where a run is open.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from podlt.canonical import Decoder, encode
from podlt.crypto import SigningKey, digest, is_signed
from podlt.errors import InvalidProofError, UsageError
from podlt.units import Count, Millis, PublicKey, Signature

PREFIX = "podlt1-"
LONGEST = 8192
"""Characters of a line; a longer one is not decoded."""

SECRET_BYTES = 16
_DOMAIN = "invitation/1"

Url = Annotated[str, Meta(max_length=200)]


class Invitation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an invitation says.

    Attributes:
        servers: `https://` URLs of the manager's server.
        manager: the run's public key.
        certificate: in DER, the only one that the server may show.
        secret: 16 bytes, empty for an address alone.
        uses: for how many workers.
        expires: milliseconds since 1970, 0 for never.
        deposit: credits that an open run asks for.
    """

    servers: Annotated[list[Url], Meta(min_length=1, max_length=8)]
    manager: PublicKey
    certificate: Annotated[bytes, Meta(min_length=1, max_length=2048)]
    secret: Annotated[bytes, Meta(max_length=SECRET_BYTES)] = b""
    uses: Count = 0
    expires: Millis = 0
    deposit: Count = 0
    signature: Signature = bytes(64)

    @property
    def channel(self) -> str:
        """The run's name in logins."""
        return channel_of(self.manager)

    @property
    def name(self) -> str:
        """What the manager knows the invitation by; empty for an address."""
        return name_of(self.secret) if self.secret else ""


_decoder: Decoder[Invitation] = Decoder(Invitation)


def channel_of(manager: bytes) -> str:
    """16 hexadecimal digits that name a run in logins, from its manager's public key."""
    return digest("channel/1", manager).hex()[:16]


def name_of(secret: bytes) -> str:
    """32 hexadecimal digits that name an invitation, and do not let anybody in."""
    return digest("invitation-name/1", secret).hex()[:32]


def sign(invitation: Invitation, key: SigningKey) -> Invitation:
    """The invitation with its manager's signature over everything else in it."""
    return msgspec.structs.replace(invitation, signature=key.sign(_DOMAIN, _unsigned(invitation)))


def write(invitation: Invitation) -> str:
    """The invitation as one line."""
    return PREFIX + base64.urlsafe_b64encode(encode(invitation)).decode("ascii").rstrip("=")


def read(line: str) -> Invitation:
    """The invitation that a line holds. Whether it has expired is the manager's to say: its clock counts.

    Raises:
        UsageError: it is none, is not whole, or was not signed by the manager that it names.
    """
    text = "".join(line.replace("\\", " ").split())  # as it was printed, over several lines
    if not text.startswith(PREFIX):
        raise UsageError(f"malformed invitation: expected a line that begins with {PREFIX}")
    if len(text) > LONGEST:
        raise UsageError(f"malformed invitation: {len(text)} characters (limit {LONGEST})")
    body = text.removeprefix(PREFIX)
    try:
        invitation = _decoder.decode(base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, InvalidProofError):
        raise UsageError("malformed invitation: damaged, or not copied completely") from None
    if not is_signed(invitation.manager, _DOMAIN, _unsigned(invitation), invitation.signature):
        raise UsageError("the invitation is not signed by the manager that it names: it was changed")
    if len(invitation.secret) not in (0, SECRET_BYTES):
        raise UsageError(f"the invitation's secret has {len(invitation.secret)} bytes, expected {SECRET_BYTES}")
    for url in invitation.servers:
        check_url(url)
    return invitation


def check_url(url: str) -> None:
    """Takes the URL of a server with TLS, and no other.

    Raises:
        UsageError: another scheme, no host or no port, or it holds a name and password.
    """
    try:
        parts = urlsplit(url)
        whole = parts.scheme == "https" and parts.hostname and parts.port and "@" not in parts.netloc
    except ValueError:
        whole = False
    if not whole or not url.isprintable():
        raise UsageError(f"{url!r}: expected https://HOST:PORT")


def _unsigned(invitation: Invitation) -> bytes:
    return encode(msgspec.structs.replace(invitation, signature=bytes(64)))
