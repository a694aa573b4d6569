"""How a worker logs in to a NATS server, so that the run's manager knows its key; and how the manager does.

A worker signs the server's nonce together with the run's channel and the server's certificate. NATS' own nkeys would
sign the nonce alone: a server could pass on another's nonce and log in there as the worker, or choose for a nonce
what is a digest elsewhere. TLS comes before the first byte of NATS, so that nobody between can ask for less.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from podlt.canonical import Decoder, encode
from podlt.crypto import SigningKey, is_signed
from podlt.errors import InvalidProofError
from podlt.extras import needed_by
from podlt.network.access.certificate import client_context
from podlt.network.access.invitation import SECRET_BYTES, Invitation, channel_of, name_of
from podlt.units import Count, PublicKey

DOMAIN = "login/1"
LONGEST_TOKEN = 1024
PREFIX_ACCOUNT, PREFIX_USER, PREFIX_SERVER = 0, 20 << 3, 13 << 3

Options = Mapping[str, Any]
"""What `nats.connect` is given besides the servers."""


class Pass(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker shows, besides its signature: who it is, where to, and by which invitation."""

    channel: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    key: PublicKey
    secret: Annotated[bytes, Meta(max_length=SECRET_BYTES)] = b""
    deposit: Count = 0

    @property
    def invitation(self) -> str:
        """The name of the invitation; empty if there is none."""
        return name_of(self.secret) if self.secret else ""


class _Statement(msgspec.Struct, frozen=True):
    """What is signed."""

    channel: str
    server: bytes
    nonce: str
    token: str


_passes: Decoder[Pass] = Decoder(Pass)


def worker_options(invitation: Invitation, key: SigningKey, deposit: int | None = None) -> Options:
    """How a worker connects to the servers of an invitation.

    Args:
        deposit: credits that it is willing to owe, by default what the invitation asks for.
    """
    owed = invitation.deposit if deposit is None else deposit
    shown = Pass(invitation.channel, key.public, invitation.secret, owed)
    return {
        "inbox_prefix": f"podlt.{invitation.channel}.down.{key.public.hex()}.inbox".encode(),
        **pass_options(shown, key, invitation.certificate),
    }


def pass_options(shown: Pass, key: SigningKey, certificate: bytes) -> Options:
    """How one connects whom the manager's gate is to let in.

    Args:
        key: the one that the pass names.
        certificate: the servers', in DER.
    """
    token = _base64(encode(shown))
    fingerprint = hashlib.sha256(certificate).digest()

    def sign(nonce: str) -> bytes:
        statement = encode(_Statement(shown.channel, fingerprint, nonce, token))
        return _base64(key.sign(DOMAIN, statement)).encode("ascii")

    return {"token": token, "signature_cb": sign, **tls_options(certificate)}


def check_login(token: str, signature: str, nonce: str, channel: str, certificate: bytes) -> Pass | None:
    """What a worker has shown, once its signature holds; None if it is for another run's manager to answer.

    Args:
        token: as it sent it.
        signature: as it sent it.
        nonce: the server's, of this connection.
        certificate: in DER.

    Raises:
        InvalidProofError: malformed, or not signed by the key that it names for this server and this connection.
    """
    if len(token) > LONGEST_TOKEN:
        raise InvalidProofError(f"login token too long: {len(token)} characters (limit {LONGEST_TOKEN})")
    try:
        shown, signed = _passes.decode(_bytes(token)), _bytes(signature)
    except (binascii.Error, ValueError):
        raise InvalidProofError("malformed login token: not base64") from None
    if shown.channel != channel:
        return None
    statement = encode(_Statement(channel, hashlib.sha256(certificate).digest(), nonce, token))
    if not nonce or not is_signed(shown.key, DOMAIN, statement, signed):
        raise InvalidProofError("the server's nonce is not signed by the key of the pass")
    return shown


def system_key(manager: SigningKey) -> SigningKey:
    """The key by which a manager is the server's administrator: admits, counts and cuts connections."""
    return SigningKey(manager.derive("nats-system/1"))


def link_key(manager: SigningKey) -> SigningKey:
    """The key by which a manager is on its run's subjects."""
    return SigningKey(manager.derive("nats-link/1"))


def issuer_key(manager: SigningKey) -> SigningKey:
    """The key that signs what connections may do."""
    return SigningKey(manager.derive("nats-issuer/1"))


def nkey(prefix: int, public: bytes) -> str:
    """A public key as NATS writes it: base32 of prefix, key and CRC-16. Source: github.com/nats-io/nkeys."""
    raw = bytes([prefix]) + public
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode("ascii").rstrip("=")


def from_nkey(prefix: int, text: str) -> bytes:
    """The public key that `nkey` wrote.

    Raises:
        InvalidProofError: it is none, or of another kind.
    """
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise InvalidProofError("malformed nkey") from None
    if len(raw) != 35 or raw[0] != prefix or nkey(prefix, raw[1:33]) != text:
        raise InvalidProofError("malformed nkey, or one of another kind")
    return raw[1:33]


def manager_options(key: SigningKey, certificate: bytes, *, shared: bool = False) -> Options:
    """How a run's manager connects to its subjects.

    Args:
        key: the manager's.
        certificate: the servers', in DER.
        shared: other runs are on the servers, which therefore do not know this manager: it comes in by its own gate,
            and has its run's subjects only.
    """
    if shared:
        return pass_options(Pass(channel_of(key.public), key.public), key, certificate)
    return own_options(link_key(key), certificate)


def own_options(key: SigningKey, certificate: bytes) -> Options:
    """How a user connects that the server's own configuration names by this key."""
    nkeys = _nkeys()
    return {
        "nkeys_seed_str": nkeys.encode_seed(key.seed(), nkeys.PREFIX_BYTE_USER).decode("ascii"),
        **tls_options(certificate),
    }


def tls_options(certificate: bytes) -> Options:
    """TLS from the first byte on, as `certificate.client_context` has it."""
    return {"tls": client_context(certificate), "tls_handshake_first": True}


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _nkeys() -> Any:
    try:
        import nkeys
    except ImportError as error:
        raise needed_by("the network engine", error) from None
    return nkeys
