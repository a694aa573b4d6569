"""What the server answers to a request that is not for a session: to its manager who is connected, to others nothing.

GET /connections     the workers' connections, as JSON; for the holder of the manager's key
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from podlt.canonical import UNREADABLE
from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError
from podlt.network.access import tokens
from podlt.network.access.certificate import client_context
from podlt.network.access.registry import Registry
from podlt.network.addresses import bracketed, near
from podlt.network.settings import load_settings

CONNECTIONS = "/connections"
ANSWER_SECONDS = 5.0

_BLOB = hashlib.sha256(CONNECTIONS.encode()).digest()
"""What a token for the list of connections is good for, instead of a blob."""


class ConnectedWorker(msgspec.Struct, frozen=True):
    """Where a key (in hexadecimal digits) is connected from, and for how many seconds."""

    key: str
    address: str
    seconds: float


def connections_of(run: Path, key: SigningKey) -> list[ConnectedWorker] | None:
    """The workers' connections of a run, asked from outside its manager; None if this is not running.

    Args:
        run: its directory.
        key: its manager's.

    Raises:
        UsageError: the run was never started for workers on other machines.
    """
    settings, certificate = load_settings(run), bytes.fromhex(Registry(run).place().certificate)
    where = urlsplit(f"https://{bracketed(near(settings.host))}:{settings.server_port}")
    context = client_context(certificate)
    client = http.client.HTTPSConnection(where.hostname or "", where.port, timeout=ANSWER_SECONDS, context=context)
    token = tokens.write(key, "read", _BLOB, hashlib.sha256(certificate).digest(), time.time_ns() // 10**6)
    try:
        client.request("GET", CONNECTIONS, headers={"Authorization": token})
        answer = client.getresponse()
        if answer.status != 200:
            return None
        return msgspec.json.decode(answer.read(), type=list[ConnectedWorker])
    except (OSError, ssl.SSLError, http.client.HTTPException, *UNREADABLE):
        return None
    finally:
        client.close()


class Pages(asyncio.Protocol):
    """Answers one request, whose head is there, and closes the connection.

    Args:
        manager: whose public key may ask.
        certificate: the server's, in DER.
        connections: who is connected.
        clock: milliseconds since 1970.
    """

    def __init__(
        self,
        manager: bytes,
        certificate: bytes,
        connections: Callable[[], list[ConnectedWorker]],
        clock: Callable[[], int],
    ) -> None:
        self._manager, self._fingerprint = manager, hashlib.sha256(certificate).digest()
        self._connections, self._clock = connections, clock
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`: the head of the request, and then what nobody reads."""
        if self._transport is None or self._transport.is_closing():
            return
        status, body = "404 Not Found", b""
        if data.startswith(f"GET {CONNECTIONS} ".encode()):
            status, body = "403 Forbidden", b""
            if self._is_managers(data):
                status, body = "200 OK", msgspec.json.encode(self._connections())
        head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)
        self._transport.close()

    def _is_managers(self, request: bytes) -> bool:
        for line in request.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"authorization":
                text = value.strip().decode("ascii", "replace")
                try:
                    return tokens.check(text, "read", _BLOB, self._fingerprint, self._clock()) == self._manager
                except InvalidProofError:
                    return False
        return False
