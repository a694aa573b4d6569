"""The way into a run, put together: its NATS server, the door that admits workers, the links of both sides."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from podlt.crypto import SigningKey
from podlt.engine.interface import Job
from podlt.errors import StorageError
from podlt.network import invitation as inv
from podlt.network.door import Door
from podlt.network.login import manager_options, worker_options
from podlt.network.nats_link import NatsManager, NatsWorker
from podlt.network.register import Register
from podlt.network.server import NatsServer
from podlt.store.files import read_whole, write_whole

INVITATION = "invitation.txt"
"""The line that was printed when the run began, in its directory."""

MAX_INVITATION = 64 * 1024
START_SECONDS = 15.0
SHUT_OUT_SECONDS = 600


class Entrance:
    """A run's own server, its door, and the manager's link.

    Args:
        host: the address that it listens on; port: 0 for any, which is then kept for the run; advertise: hosts by
        which workers reach this machine; uses: for how many workers the first invitation is.
    """

    def __init__(self, host: str = "0.0.0.0", port: int = 0, advertise: Sequence[str] = (), uses: int = 1000) -> None:
        self._host, self._port, self._advertise, self._uses = host, port, list(advertise), uses
        self.line = ""
        self.urls: list[str] = []

    def connect(self, job: Job) -> NatsManager:
        """Starts the server, or takes over the one that a manager which was killed has left, and opens the door.

        Raises:
            EngineError, UsageError, StorageError: it cannot be started; says why.
        """
        server = NatsServer(
            job.directory / "nats", job.key, host=self._host, port=self._port, advertise=self._advertise
        )
        server.start()
        try:
            register = Register(job.directory)
            register.set_place(server.urls, server.certificate)
            self.urls, self.line = server.urls, self._invite(job, register)
            return _opened(job.key, server, register)
        except BaseException:
            server.stop()
            raise

    def _invite(self, job: Job, register: Register) -> str:
        """The run's first invitation; the same again when the run goes on."""
        path = job.directory / INVITATION
        with suppress(StorageError, ValueError):
            line = read_whole(path, MAX_INVITATION).decode("ascii").strip()
            known = inv.read(line)
            if known.manager == job.key.public and known.servers == self.urls:
                return line
        line = inv.write(register.invite(job.key, uses=self._uses, now=time.time_ns() // 10**6))
        write_whole(path, line.encode("ascii") + b"\n", mode=0o600)
        return line


class _OwnServer(NatsManager):
    """A link that shuts the door and ends the server when it is closed."""

    def __init__(self, key: SigningKey, server: NatsServer) -> None:
        super().__init__([server.url], inv.channel_of(key.public), manager_options(key, server.certificate))
        self._server = server
        self.door: Door | None = None

    def drop(self, key: bytes) -> None:
        """Shuts a worker out for a while."""
        super().drop(key)
        if self.door is not None:
            self.door.kick(key, "too many useless messages", SHUT_OUT_SECONDS)

    def flooded(self, key: bytes) -> None:
        """A worker sent far more than can be read: it is shut out for a while, and its backlog is as it was."""
        if self.door is not None:
            self.door.kick(key, "more messages than anybody can read", SHUT_OUT_SECONDS)

    def close(self) -> None:
        """Ends the link, the door and the server."""
        super().close()
        if self.door is not None:
            self.door.close()
        self._server.stop()


def _opened(key: SigningKey, server: NatsServer, register: Register) -> NatsManager:
    link = _OwnServer(key, server)
    try:
        link.await_connection(START_SECONDS)
        door = Door(register, key, [server.url], server.certificate, gone=link.gone)
        door.start()
        link.door = door
    except BaseException:
        link.close()
        raise
    return link


def read_invitation(text: str) -> inv.Invitation:
    """An invitation from its line, or from a file with it.

    Raises:
        UsageError: it is none, or was changed on its way; StorageError: the file cannot be read.
    """
    path = Path(text)
    if not text.startswith(inv.PREFIX) and len(text) < os.pathconf("/", "PC_PATH_MAX") and path.is_file():
        text = read_whole(path, MAX_INVITATION).decode("ascii", errors="replace")
    return inv.read(text.strip())


def join(invitation: inv.Invitation, keys: Sequence[SigningKey]) -> NatsWorker:
    """A worker process's link."""
    options = {key.public: worker_options(invitation, key) for key in keys}
    return NatsWorker(invitation.urls(websocket=False), invitation.channel, options)
