"""The way into a run, put together: its NATS server, the gate that admits workers, the links of both sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from podlt.crypto import SigningKey
from podlt.engine.interface import Job
from podlt.errors import UsageError
from podlt.network.access import invitation as inv
from podlt.network.access.first_invitation import first_invitation
from podlt.network.access.registry import FOLDER, Registry
from podlt.network.nats.cluster import NatsCluster, direct, remember, remembered
from podlt.network.nats.connections import Counted
from podlt.network.nats.examine import examine
from podlt.network.nats.gate import Gate, Gone
from podlt.network.nats.link import NatsManager, NatsWorker
from podlt.network.nats.login import Options, manager_options, worker_options
from podlt.network.nats.server import NatsServer

START_SECONDS = 15.0
SHUT_OUT_SECONDS = 600


class OpenRun:
    """A run's servers, its gate, and the manager's link.

    Args:
        host: the address that a server of the run's own listens on.
        port: 0 for any.
        advertise: hosts by which workers reach this machine.
        websocket: a port for WebSocket, 0 for any, None for none (unless given, host, port and names stay as they were
            when the run began).
        cluster: servers that are there already, instead of an own one; by default those that the run is on already, if
            it is.
        uses: for how many workers the first invitation is.
        tell: is called with a line for each thing worth one.
        count: see `Gate`.
    """

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        advertise: Sequence[str] = (),
        uses: int = 1000,
        *,
        websocket: int | None = None,
        cluster: NatsCluster | None = None,
        tell: Callable[[str], None] = lambda line: None,
        count: Counted = lambda workers, received, sent: None,
    ) -> None:
        self._count = count
        self._host, self._port, self._advertise, self._uses = host, port, list(advertise), uses
        self._websocket, self._cluster, self._tell = websocket, cluster, tell
        self.line = ""
        self.urls: list[str] = []

    def connect(self, job: Job) -> NatsManager:
        """Starts the server, or takes over the one that a manager which was killed has left, and opens the gate.

        Raises:
            EngineError: the server does not start, or refuses the manager.
            UsageError: a port is taken by another program, or an option does not fit the run.
            StorageError: a file of the server cannot be written.
        """
        folder = job.directory / FOLDER
        cluster = self._cluster or remembered(folder)
        if cluster is not None:
            return self._join_cluster(job, folder, cluster)
        server = NatsServer(
            folder,
            job.key,
            host=self._host,
            port=self._port,
            websocket=self._websocket,
            advertise=self._advertise,
            tell=self._tell,
        )
        server.start()
        try:
            register = self._stand(job, server.urls, server.certificate)
            return self._opened(job.key, [server.url], server.certificate, register, ending=server.stop)
        except BaseException:
            server.stop()
            raise

    def _join_cluster(self, job: Job, folder: Path, cluster: NatsCluster) -> NatsManager:
        if self._port or self._websocket is not None:
            raise UsageError(f"the run is on the NATS servers {', '.join(cluster.servers)}: it has no port of its own")
        if self._advertise:
            cluster = msgspec.structs.replace(cluster, names=self._advertise)
        examine(cluster, self._tell)
        register = self._stand(job, cluster.servers, cluster.certificate)
        remember(folder, cluster)
        servers = direct(cluster.servers)
        return self._opened(job.key, servers, cluster.certificate, register, cluster=cluster.key)

    def _opened(
        self,
        key: SigningKey,
        servers: Sequence[str],
        certificate: bytes,
        register: Registry,
        *,
        cluster: SigningKey | None = None,
        ending: Callable[[], None] = lambda: None,
    ) -> NatsManager:
        def gate(gone: Gone) -> Gate:
            return Gate(
                register, key, servers, certificate, gone=gone, count=self._count, tell=self._tell, cluster=cluster
            )

        options = manager_options(key, certificate, shared=cluster is not None)
        link = _Link(servers, inv.channel_of(key.public), options, gate, ending)
        link.start()
        return link

    def _stand(self, job: Job, urls: list[str], certificate: bytes) -> Registry:
        """Says where workers find the run, and invites them."""
        register = Registry(job.directory)
        self.urls = urls
        self.line = first_invitation(register, job.key, urls, certificate, self._uses)
        return register


class _Link(NatsManager):
    """A link behind a gate of its own; closing it shuts the gate, and ends the server where it is the run's own."""

    def __init__(
        self,
        servers: Sequence[str],
        channel: str,
        options: Options,
        gate: Callable[[Gone], Gate],
        ending: Callable[[], None],
    ) -> None:
        super().__init__(servers, channel, options)
        self._ending = ending
        self.gate = gate(self.gone)

    def start(self) -> None:
        """Opens the gate and connects, in this order: where servers are shared, the gate is what lets the link in."""
        self.gate.start()
        try:
            super().start()
            self.await_connection(START_SECONDS)
        except BaseException:
            self.gate.close()
            raise

    def drop(self, key: bytes) -> None:
        """Shuts a worker out for a while."""
        super().drop(key)
        self.gate.kick(key, "too many useless messages", SHUT_OUT_SECONDS)

    def flooded(self, key: bytes) -> None:
        """A worker sent far more than can be read: it is shut out for a while, and its backlog is as it was."""
        self.gate.kick(key, "inbox full: more messages than the manager can read", SHUT_OUT_SECONDS)

    def close(self) -> None:
        """Ends the link, the gate and the server."""
        super().close()
        self.gate.close()
        self._ending()


def join(invitation: inv.Invitation, keys: Sequence[SigningKey], *, websocket: bool = False) -> NatsWorker:
    """A worker process's link: by WebSocket where the servers are not reached otherwise, or where that is asked for.

    Raises:
        UsageError: the run has no WebSocket.
    """
    servers = invitation.urls(websocket=True) if websocket else invitation.servers
    if not servers:
        raise UsageError("this run has no WebSocket: its manager was started without --websocket")
    options = {key.public: worker_options(invitation, key) for key in keys}
    link = NatsWorker(servers, invitation.channel, options)
    link.start()
    return link
