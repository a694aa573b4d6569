"""A connection of a worker that waits for its answers: HTTP/1.1 over TLS, bodies straight into and out of memory.

Whoever is named by a manager is asked only where that cannot harm a worker's own network: what is checked is the
address that is connected to, as a name may stand for another one the next time it is looked up.
"""

from __future__ import annotations

import hashlib
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from podlt.addresses import bracketed, is_global
from podlt.errors import InvalidProofError

CONNECT_SECONDS, IDLE_SECONDS = 15.0, 30.0
"""How long to wait for a connection, and for the next bytes."""

HEAD = 16 * 1024
TEXT = 500
"""Bytes of the longest head of an answer, and of what is read of an error's text."""

AGAIN = {408, 409, 429, 500, 502, 503, 504, 507}
"""Answers after which the same may succeed later."""


class InsideError(Exception):
    """A server has an address that only a local network has, and may not be asked."""


class Place(NamedTuple):
    """Where a server is, as its URL says."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """Host and port, as a request names them."""
        return f"{bracketed(self.host)}:{self.port}"


class Answer(NamedTuple):
    """The head of an answer: header names are in lower case."""

    status: int
    headers: Mapping[str, str]

    def number(self, name: str) -> int | None:
        """What a header says, if it is a number."""
        text = self.headers.get(name, "")
        return int(text) if len(text) < 16 and text.isascii() and text.isdecimal() else None


class HttpsConnection:
    """One connection.

    Args:
        place: of the server.
        may_inside: whether a host may have an address that only a local network has; asked only when it has one.
        context: of TLS; None for plain HTTP.
        fingerprint: SHA-256 of the certificate that the server must show; empty where the context decides.
        made: is given the socket before it connects, so that it can be cut off.

    Raises:
        InsideError: it may not be asked.
        OSError: it cannot be reached.
        InvalidProofError: it shows another certificate.
    """

    def __init__(
        self,
        place: Place,
        may_inside: Callable[[str], bool],
        context: ssl.SSLContext | None,
        fingerprint: bytes = b"",
        made: Callable[[socket.socket], None] = lambda sock: None,
    ) -> None:
        self._rest, self.place = b"", place
        self.sock = _connected(place, may_inside, made)
        try:
            if context is not None:
                self.sock = context.wrap_socket(self.sock, server_hostname=place.host)
                made(self.sock)
                shown = self.sock.getpeercert(True) or b""
                if fingerprint and hashlib.sha256(shown).digest() != fingerprint:
                    raise InvalidProofError("the server's certificate is not the one that the setup names")
            self.sock.settimeout(IDLE_SECONDS)
        except BaseException:
            self.close()
            raise

    @property
    def peer(self) -> str:
        """The address that it is connected to."""
        return str(self.sock.getpeername()[0])

    def is_usable(self) -> bool:
        """Whether the other end has not closed it, nor said anything unasked."""
        return not self._rest and not select.select([self.sock], [], [], 0)[0]

    def ask(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        """Sends the head of a request, and waits for that of an answer.

        Raises:
            OSError: the connection is cut, or the answer is none of HTTP.
        """
        fields = {"Host": self.place.netloc} | dict(headers)
        text = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.sock.sendall(f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode("ascii"))
        return self.answer()

    def answer(self) -> Answer:
        """Waits for the head of an answer. Errors as `ask`."""
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            more = self.sock.recv(HEAD) if len(self._rest) < HEAD else b""
            if not more:
                raise ConnectionResetError("the server closed the connection")
            self._rest += more
        line, *lines = self._rest[:end].decode("latin-1").split("\r\n")
        self._rest = self._rest[end + 4 :]
        try:
            version, status, *_ = line.split(" ")
            fields = (one.split(":", 1) for one in lines)
            found = Answer(int(status), {name.lower(): value.strip() for name, value in fields})
        except ValueError:
            version = ""
        if not version.startswith("HTTP/1."):
            raise ConnectionError("the server does not speak HTTP")
        return found

    def receive(self, into: memoryview) -> int:
        """The next bytes of a body; returns how many. Errors as `ask`."""
        count = min(len(self._rest), len(into))
        if count:
            into[:count], self._rest = self._rest[:count], self._rest[count:]
            return count
        count = self.sock.recv_into(into)
        if not count:
            raise ConnectionResetError("the server closed the connection")
        return count

    def text(self, answer: Answer) -> str:
        """What an answer says in words."""
        length = min(answer.number("content-length") or 0, TEXT)
        body, done = bytearray(length), 0
        with suppress(OSError):
            while done < length:
                done += self.receive(memoryview(body)[done:])
        return body[:done].decode("utf-8", "replace")

    def close(self) -> None:
        """Ends it."""
        self.sock.close()


def place_of(url: str, schemes: tuple[str, ...] = ("https",), *, origin: bool = True) -> Place:
    """Where the server of a URL is.

    Args:
        origin: whether the URL may have no path.

    Raises:
        InvalidProofError: no such URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
        rest = parts.path + parts.query + parts.fragment
        plain = (
            parts.scheme in schemes and not parts.username and parts.hostname and url.isascii() and url.isprintable()
        )
        if not plain or (origin and rest) or " " in url:
            raise ValueError
        return Place(parts.scheme, parts.hostname or "", port)
    except ValueError:
        raise InvalidProofError(f"expected {schemes[0]}://HOST:PORT, got {url[:200]!r}") from None


def _connected(place: Place, may_inside: Callable[[str], bool], made: Callable[[socket.socket], None]) -> socket.socket:
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    if not all(is_global(str(where[0])) for *_, where in found) and not may_inside(place.host):
        raise InsideError(f"{place.host} is inside a local network, and the invitation does not name it")
    failed: OSError = ConnectionError(f"{place.host}: no address is known")
    for family, kind, protocol, _, where in found:
        sock = socket.socket(family, kind, protocol)
        made(sock)
        try:
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(where)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            failed = error
    raise failed
