"""Pages of the run's server for its operator: who is connected, metrics, health, and whatever else `add` is given.

They are for who is at this machine (and not behind a proxy here), or shows that it has the manager's key, or the
token in the run's directory: `Authorization: Bearer TOKEN`, as a Prometheus server sends it.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from podlt.access import tokens
from podlt.access.certificate import client_context
from podlt.access.registry import Registry
from podlt.addresses import bracketed, near
from podlt.canonical import UNREADABLE
from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError
from podlt.network.http import Handler, HttpConnection, HttpError, Page, RouteTable
from podlt.network.settings import load_settings
from podlt.store.files import read_whole, write_whole

CONNECTIONS = "/connections"
ANSWER_SECONDS = 5.0

TOKEN_FILE = "pages.token"
"""In the run's directory for the network: what a Prometheus server shows."""

PROXIES = "forwarded", "x-forwarded-for", "via"
"""Headers by which a proxy on this machine says that it asks for somebody else."""

_BLOB = hashlib.sha256(CONNECTIONS.encode()).digest()
"""What a manager's token for these pages is good for, instead of a blob."""


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


def connections_page(connections: Callable[[], list[ConnectedWorker]]) -> Page:
    """The page of who is connected."""
    return lambda: (200, "application/json", msgspec.json.encode(connections()))


def address_page(address: Callable[[], str]) -> Handler:
    """Answers anybody who asks where the run is: what an invitation code leaves out, and no secret.

    Args:
        address: gives the signed address, as a line.
    """

    async def answer(asked: HttpConnection) -> None:
        if asked.method not in ("GET", "HEAD"):
            raise HttpError(405, headers={"Allow": "GET, HEAD"})
        headers = {"Content-Type": "text/plain; charset=ascii", "Cache-Control": "no-store"}
        await asked.respond(200, address().encode("ascii"), headers)

    return answer


class OperatorPages:
    """Adds pages to a server, for the operator alone.

    Args:
        routes: of the server.
        manager: whose public key may ask.
        fingerprint: SHA-256 of the server's certificate.
        bearer: the token in the run's directory.
        clock: milliseconds since 1970.
    """

    def __init__(
        self, routes: RouteTable, manager: bytes, fingerprint: bytes, bearer: str, clock: Callable[[], int]
    ) -> None:
        self._routes, self._manager, self._fingerprint = routes, manager, fingerprint
        self._bearer, self._clock = bearer.encode(), clock

    def add(self, pages: Mapping[str, Page]) -> None:
        """More pages: path -> page."""
        for path, page in pages.items():
            self._routes.add(path, self._handler(page))

    def _handler(self, page: Page) -> Handler:
        async def answer(asked: HttpConnection) -> None:
            if asked.method not in ("GET", "HEAD"):
                raise HttpError(405, headers={"Allow": "GET, HEAD"})
            if not self._may(asked):
                raise HttpError(403, "for the operator: from this machine, or with the token of the run")
            status, kind, body = page()
            await asked.respond(status, body, {"Content-Type": kind, "Cache-Control": "no-store"})

        return answer

    def _may(self, asked: HttpConnection) -> bool:
        line = asked.headers.get("authorization", "")
        if not line:
            return _is_here(asked.address) and not any(name in asked.headers for name in PROXIES)
        if hmac.compare_digest(line.encode("latin-1"), b"Bearer " + self._bearer):
            return True
        try:
            return tokens.check(line, "read", _BLOB, self._fingerprint, self._clock()) == self._manager
        except InvalidProofError:
            return False


def _is_here(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def bearer_of(run_folder: Path) -> str:
    """The token in a run's directory for the network; a new one if there is none.

    Raises:
        StorageError: it cannot be read or written.
    """
    path = run_folder / TOKEN_FILE
    if not path.is_file():
        write_whole(path, secrets.token_urlsafe(24).encode() + b"\n", mode=0o600)
    return read_whole(path, 200).decode("ascii").strip()
