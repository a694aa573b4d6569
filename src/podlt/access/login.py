"""How a worker logs in, so that the run's manager knows its key.

A worker signs the server's nonce together with the run's channel, the server's certificate, and what it asks for. The
nonce alone would not do: a server could pass on another's nonce and log in there as the worker, or choose for a nonce
what is a digest elsewhere. TLS comes before the first byte, so that nobody between can ask for less.
"""

from __future__ import annotations

import hashlib

import msgspec

from podlt.canonical import encode
from podlt.crypto import SigningKey, is_signed
from podlt.errors import InvalidProofError
from podlt.wire.control import Login

DOMAIN = "login/2"


class Binding(msgspec.Struct, frozen=True):
    """What a login is good for: one run, one server, one connection.

    Attributes:
        channel: the run's (see `invitation.channel_of`).
        server: SHA-256 of the certificate that the invitation names, in DER.
        nonce: the server's, of this connection.
    """

    channel: str
    server: bytes
    nonce: bytes


class _Statement(msgspec.Struct, frozen=True):
    """What is signed."""

    channel: str
    server: bytes
    nonce: bytes
    key: bytes
    secret: bytes
    deposit: int


def binding(channel: str, certificate: bytes, nonce: bytes) -> Binding:
    """The binding to a server by its certificate (DER)."""
    return Binding(channel, hashlib.sha256(certificate).digest(), nonce)


def sign_login(key: SigningKey, secret: bytes, deposit: int, to: Binding) -> Login:
    """The login of an identity.

    Args:
        secret: of the invitation; empty if there is none.
        deposit: credits that it is willing to owe.
    """
    login = Login(key=key.public, secret=secret, deposit=deposit)
    return msgspec.structs.replace(login, signature=key.sign(DOMAIN, _statement(login, to)))


def check_login(login: Login, to: Binding) -> None:
    """Takes a login whose signature holds, and no other.

    Raises:
        InvalidProofError: not signed by the key that it names, for this run, this server and this connection.
    """
    if not is_signed(login.key, DOMAIN, _statement(login, to), login.signature):
        raise InvalidProofError("the login is not signed by its key for this run, server and connection")


def _statement(login: Login, to: Binding) -> bytes:
    return encode(_Statement(to.channel, to.server, to.nonce, login.key, login.secret, login.deposit))
