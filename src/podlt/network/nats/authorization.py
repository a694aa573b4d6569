"""What a NATS server asks about each connection, and what it is answered (its *auth callout*): pure, without a socket.

The server passes on what the client showed, in a JWT that it signed. The answer is a JWT, signed by the issuer that
the server's configuration names, which holds another: the connection's permissions. Both name a user key that the
server made for this one connection, so that no answer serves twice.

Source: github.com/nats-io/nats-server server/auth_callout.go; github.com/nats-io/jwt (version 2 claims).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from podlt.crypto import SigningKey, digest, is_signed_raw
from podlt.errors import InvalidProofError
from podlt.network.nats.login import PREFIX_ACCOUNT, PREFIX_SERVER, from_nkey, nkey

SUBJECT = "$SYS.REQ.USER.AUTH"
ACCOUNT = "PODLT"
"""The server's account that holds the runs' subjects."""

LONGEST_REQUEST = 64 * 1024
_VERSION = 2


class _Server(msgspec.Struct, frozen=True):
    id: str


class _Client(msgspec.Struct, frozen=True):
    id: int
    host: str = ""
    nonce: str = ""


class _Shown(msgspec.Struct, frozen=True):
    auth_token: str = ""
    sig: str = ""


class _Body(msgspec.Struct, frozen=True):
    server_id: _Server
    user_nkey: str
    client_info: _Client
    connect_opts: _Shown


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    nats: _Body


class Request(msgspec.Struct, frozen=True):
    """Who knocks.

    Attributes:
        server: its identifier.
        user: the key that it made for this connection.
        connection: its number there.
        host: the client's address.
        nonce: what it was to sign.
        token: what it showed.
        signature: what it showed.
    """

    server: str
    user: str
    connection: int
    host: str
    nonce: str
    token: str
    signature: str


class Permissions(msgspec.Struct, frozen=True):
    """What a connection may do: publish to and subscribe to these subjects (none: to nothing), until a time.

    Attributes:
        name: what the server calls the connection.
        until: seconds since 1970 when it ends it; 0 for never.
    """

    name: str
    publish: Sequence[str]
    subscribe: Sequence[str]
    until: int = 0


def read_request(data: bytes) -> Request:
    """The server's question.

    Raises:
        InvalidProofError: malformed, too long, or not signed by the server that it names.
    """
    if len(data) > LONGEST_REQUEST:
        raise InvalidProofError(f"auth request too long: {len(data)} bytes (limit {LONGEST_REQUEST})")
    try:
        header, claims, signature = data.decode("ascii").split(".")
        found = msgspec.json.decode(_bytes(claims), type=_Claims)
        signed = _bytes(signature)
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise InvalidProofError(f"malformed auth request: {type(error).__name__}") from None
    body = found.nats
    if found.iss != body.server_id.id:
        raise InvalidProofError("the auth request is signed by another than the server that asks")
    if not is_signed_raw(from_nkey(PREFIX_SERVER, found.iss), f"{header}.{claims}".encode(), signed):
        raise InvalidProofError("the auth request is not signed by the server that asks")
    client, shown = body.client_info, body.connect_opts
    return Request(
        server=body.server_id.id,
        user=body.user_nkey,
        connection=client.id,
        host=client.host,
        nonce=client.nonce,
        token=shown.auth_token,
        signature=shown.sig,
    )


def worker_name(channel: str, key: bytes) -> str:
    """What the servers call a worker's connection: other runs' workers may be on the same servers."""
    return f"{channel}.{key.hex()}"


def manager_name(channel: str) -> str:
    """What the servers call the connections of a manager that came in by its own gate."""
    return f"{channel}.manager"


def worker_permissions(channel: str, key: bytes) -> Permissions:
    """A worker's own subjects, and what is for all."""
    down = [f"podlt.{channel}.down.{key.hex()}.>", f"podlt.{channel}.all.>"]
    return Permissions(worker_name(channel, key), [f"podlt.{channel}.up.{key.hex()}.>"], down)


def manager_permissions(channel: str) -> Permissions:
    """The other side of all workers' subjects; nothing of other runs."""
    down = [f"podlt.{channel}.down.>", f"podlt.{channel}.all.>"]
    return Permissions(manager_name(channel), down, [f"podlt.{channel}.up.>"])


def refused_permissions(channel: str, key: bytes, until: int) -> Permissions:
    """To hear why one is refused, and nothing else."""
    return Permissions(f"refused {worker_name(channel, key)}", [], [f"podlt.{channel}.down.{key.hex()}.>"], until)


def admit(request: Request, issuer: SigningKey, permissions: Permissions, now: int) -> bytes:
    """The answer that lets a connection in.

    Args:
        issuer: see `login.issuer_key`.
        now: seconds since 1970.
    """
    user: dict[str, Any] = {
        "pub": {"allow": list(permissions.publish)} if permissions.publish else {"deny": [">"]},
        "sub": {"allow": list(permissions.subscribe)} if permissions.subscribe else {"deny": [">"]},
        # A server does not apply limits that come with an answer (2.15): those of its configuration hold.
        "subs": -1,
        "data": -1,
        "payload": -1,
        "type": "user",
        "version": _VERSION,
    }
    claims: dict[str, Any] = {"sub": request.user, "aud": ACCOUNT, "name": permissions.name, "nats": user}
    if permissions.until:
        claims["exp"] = permissions.until
    return _answer(request, issuer, {"jwt": _jwt(claims, issuer, now)}, now)


def refuse(request: Request, issuer: SigningKey, reason: str, now: int) -> bytes:
    """The answer that ends a connection; the reason reaches the server's log, not the client."""
    return _answer(request, issuer, {"error": reason[:200] or "refused"}, now)


def _answer(request: Request, issuer: SigningKey, body: dict[str, Any], now: int) -> bytes:
    claims = {
        "sub": request.user,
        "aud": request.server,
        "nats": {**body, "type": "authorization_response", "version": _VERSION},
    }
    return _jwt(claims, issuer, now).encode("ascii")


def _jwt(claims: dict[str, Any], issuer: SigningKey, now: int) -> str:
    """A signed JWT of NATS' kind."""
    whole = {**claims, "iss": nkey(PREFIX_ACCOUNT, issuer.public), "iat": now}
    whole["jti"] = digest("jwt/1", json.dumps(whole, sort_keys=True).encode()).hex()
    text = f"{_base64({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_base64(whole)}"
    signature = base64.urlsafe_b64encode(issuer.sign_raw(text.encode("ascii"))).decode("ascii").rstrip("=")
    return f"{text}.{signature}"


def _base64(document: dict[str, Any]) -> str:
    raw = json.dumps(document, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
