"""Both ends of a run's link, by real sockets."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from patience import Patience

from podlt.access.certificate import client_context
from podlt.access.invitation import Invitation
from podlt.access.login import binding, sign_login
from podlt.access.policy import AccessPolicy
from podlt.access.registry import Registry
from podlt.canonical import encode
from podlt.crypto import SigningKey
from podlt.network.client.link import ClientLink
from podlt.network.frames import BINARY, head
from podlt.network.server.open_server import OpenServer
from podlt.wire import control

MANAGER = SigningKey(b"manager".ljust(32, b"."))
LEAST = 30.0


def worker_key(number: int) -> SigningKey:
    return SigningKey(number.to_bytes(32, "big"))


class Place:
    """A manager's end, and who works for it.

    Attributes:
        said: lines for the operator; came: what the manager received so far.
    """

    def __init__(self, run: Path) -> None:
        run.mkdir(exist_ok=True)
        self.registry = Registry(run)
        self.said: list[str] = []
        self.came: list[tuple[bytes, bytes]] = []
        self.workers: list[ClientLink] = []
        self._job: Any = SimpleNamespace(directory=run, key=MANAGER, workers=3)
        self.start()

    def start(self) -> None:
        """The manager begins, or goes on."""
        self.link = OpenServer("127.0.0.1", 0, ["127.0.0.1"], tell=self.said.append).connect(self._job)
        self.link.allow(2**20, 1.0)

    def invite(self, uses: int = 100, **options: Any) -> Invitation:
        return self.registry.invite(MANAGER, uses=uses, now=time.time_ns() // 10**6, **options)

    def change(self, what: str, *arguments: Any) -> None:
        def changed(state: AccessPolicy) -> AccessPolicy:
            after: AccessPolicy = getattr(state, what)(*arguments)
            return after

        self.registry.change(changed)

    def join(self, *keys: SigningKey, invitation: Invitation | None = None) -> Worker:
        """A worker process's link."""
        link = ClientLink(invitation or self.invite(), keys)
        link.start()
        self.workers.append(link)
        return Worker(link, keys)

    def take(self) -> list[tuple[bytes, bytes]]:
        """All that came so far."""
        self.came += [(key, bytes(message)) for key, message in self.link.receive(0.02)]
        return self.came

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Waits until something is so, while messages are received."""
        patience = Patience(seconds)
        while not condition():
            last = [(key.hex(), message[:80]) for key, message in self.came[-3:]]
            assert patience.lasts(), ("it did not come to be", self.said, last)
            self.take()

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self.link.close()


class Worker:
    """A worker process's end; `came`: what it received so far."""

    def __init__(self, link: ClientLink, keys: Sequence[SigningKey]) -> None:
        self.link, self.keys = link, keys
        self.came: list[tuple[bytes | None, bytes]] = []
        link.listen(self.came.extend)

    def take(self) -> list[tuple[bytes | None, bytes]]:
        time.sleep(0.01)
        return list(self.came)

    def has(self, key: bytes | None, message: bytes) -> bool:
        return (key, message) in self.take()

    def messages(self) -> list[bytes]:
        return [message for _, message in self.take() if message]


class Raw:
    """A client of a manager's own server that sends what it likes."""

    def __init__(self, invitation: Invitation, *, tls: bool = True) -> None:
        self.invitation = invitation
        host, port = invitation.servers[0].removeprefix("https://").rsplit(":", 1)
        self.sock: socket.socket = socket.create_connection((host, int(port)), timeout=LEAST)
        if tls:
            context: ssl.SSLContext = client_context(invitation.certificate)
            self.sock = context.wrap_socket(self.sock, server_hostname=host)

    def upgrade(self) -> control.Challenge:
        """Asks for a session; the server's challenge."""
        self.write(
            b"GET /session HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.sock.recv(1)
        assert b" 101 " in answer
        found = self.record()
        assert isinstance(found, control.Challenge)
        self.challenge = found
        return found

    def log_in(self, signer: SigningKey, /, **changed: Any) -> control.FromServer:
        """Logs in; `changed`: what is said otherwise than the invitation has it, after it was signed."""
        to = binding(self.invitation.channel, self.invitation.certificate, self.challenge.nonce)
        login = sign_login(signer, self.invitation.secret, self.invitation.deposit, to)
        record = control.Login(**{name: getattr(login, name) for name in login.__struct_fields__} | changed)
        self.send(control.CONTROL, encode(record))
        return self.record()

    def send(self, number: int, message: bytes, *, masked: bool = True, opcode: int = BINARY) -> None:
        self.write(self.framed(number, message, masked=masked, opcode=opcode))

    @staticmethod
    def framed(number: int, message: bytes, *, masked: bool = True, opcode: int = BINARY) -> bytes:
        """The bytes of a frame."""
        payload = control.INDEX.pack(number) + message
        return head(opcode, len(payload), masked=masked) + payload

    def record(self) -> control.FromServer:
        """The next record of the connection itself."""
        while True:
            number, message = control.split(self.frame())
            if number == control.CONTROL:
                return control.from_server(message)

    def frame(self) -> bytes:
        """The payload of the next binary frame. Raises: EOFError: it is over."""
        while True:
            first, second = self._exactly(2)
            length = second
            if length == 126:
                length = struct.unpack(">H", self._exactly(2))[0]
            elif length == 127:
                length = struct.unpack(">Q", self._exactly(8))[0]
            payload = self._exactly(length)
            if first & 15 == BINARY:
                return payload
            if first & 15 == 8:
                raise EOFError(payload[2:].decode())

    def write(self, data: bytes) -> None:
        with suppress(OSError):
            self.sock.sendall(data)

    def is_closed(self, seconds: float = LEAST) -> bool:
        """Whether the server closes the connection in that time; what it says before is thrown away."""
        self.sock.settimeout(seconds)
        try:
            while self.sock.recv(2**16):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        self.sock.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise EOFError("closed")
            data += more
        return data


def resident() -> int:
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
