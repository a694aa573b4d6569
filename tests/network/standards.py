"""What a worker in another language takes from libraries: pinned TLS, a WebSocket, a request of HTTP, an audit path."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress


def connect(host: str, certificate: bytes) -> ssl.SSLSocket:
    """TLS 1.3 to a host and port that shows this certificate (DER), and no other."""
    context, (name, port) = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), host.rsplit(":", 1)
    context.minimum_version, context.check_hostname = ssl.TLSVersion.TLSv1_3, False
    context.verify_mode = ssl.CERT_NONE  # the certificate itself is compared
    secure = context.wrap_socket(socket.create_connection((name.strip("[]"), int(port)), timeout=30))
    assert secure.getpeercert(binary_form=True) == certificate
    return secure


class WebSocket:
    """A client's end (RFC 6455), without shards and extensions. `secure`: a connection on which nothing was said."""

    def __init__(self, secure: ssl.SSLSocket, host: str, path: str) -> None:
        self._socket, self._box, name = secure, bytearray(), base64.b64encode(os.urandom(16)).decode()
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        secure.sendall(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {name}\r\n\r\n".encode())
        while b"\r\n\r\n" not in self._box:
            self._receive(time.monotonic() + 30)
        answer, _, self._box = self._box.partition(b"\r\n\r\n")
        accept = hashlib.sha1(f"{name}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        assert answer.startswith(b"HTTP/1.1 101 ") and base64.b64encode(accept) in answer, answer

    def next(self, until: float) -> bytes | None:
        """The next binary message, or None if none is there at this (monotonic) time."""
        while (frame := self._frame()) is None or frame[0] != 0x82:
            if frame is not None and frame[0] == 0x89:
                self._send(0x8A, frame[1])
            elif frame is None and (time.monotonic() >= until or not self._receive(until)):
                return None
        return frame[1]

    def send(self, payload: bytes) -> None:
        """A binary message."""
        self._send(0x82, payload)

    def close(self) -> None:
        """A closing frame, and the end of the connection."""
        self._send(0x88, b"\x03\xe8")
        self._socket.close()

    def _receive(self, until: float) -> bool:
        self._socket.settimeout(max(0.01, until - time.monotonic()))
        with suppress(TimeoutError):
            came = self._socket.recv(1 << 16)
            assert came, "the server ended the connection"
            self._box += came
            return True
        return False

    def _frame(self) -> tuple[int, bytes] | None:
        start = 2 + {126: 2, 127: 8}.get(self._box[1], 0) if len(self._box) > 1 else 2
        if len(self._box) < start:
            return None
        size = int.from_bytes(self._box[2:start], "big") if start > 2 else self._box[1]
        if len(self._box) < start + size:
            return None
        frame = self._box[0], bytes(self._box[start : start + size])
        del self._box[: start + size]
        return frame

    def _send(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        length = b"\xff" + size.to_bytes(8, "big") if size >= 1 << 16 else b"\xfe" + size.to_bytes(2, "big")
        length = length if size >= 126 else bytes([0x80 | size])
        self._socket.settimeout(30)
        self._socket.sendall(bytes([kind]) + length + bytes(4) + payload)


def request(
    secure: ssl.SSLSocket, host: str, method: str, path: str, headers: Mapping[str, str], body: bytes | None
) -> bytes:
    """What a request is answered; a body is sent once the server wants it (RFC 9110, 10.1.1)."""
    connection = http.client.HTTPConnection(host)
    connection.sock = secure
    connection.putrequest(method, path)
    more = {} if body is None else {"Content-Length": str(len(body)), "Expect": "100-continue"}
    for name, value in (headers | more).items():  # type: ignore[operator]
        connection.putheader(name, value)
    connection.endheaders()
    if body is not None:
        assert secure.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        secure.sendall(body)
    with connection.getresponse() as answer:
        assert answer.status in (200, 201), answer.status
        return answer.read()


def check_path(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Checks that a leaf is in a tree of RFC 6962 (RFC 9162, 2.1.3.2)."""
    last, value = size - 1, hashlib.sha256(b"\0" + leaf).digest()
    for other in path:
        pair = other + value if index % 2 or index == last else value + other
        while index == last and index and not index % 2:
            index, last = index // 2, last // 2
        index, last, value = index // 2, last // 2, hashlib.sha256(b"\1" + pair).digest()
    assert last == 0 and value == root, "not in the tree"
