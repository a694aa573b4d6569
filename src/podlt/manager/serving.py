"""The workplace of a run that is served over the network, made of what its operator asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from podlt.errors import UsageError
from podlt.manager import events as ev

if TYPE_CHECKING:
    from podlt.engine.interface import Job, Workplace
    from podlt.network.link import HostedLink
    from podlt.network.nats.cluster import NatsCluster
    from podlt.network.nats.open_run import OpenRun
    from podlt.network.server.open_server import OpenServer

LONGEST_PAYEE = 400
"""Characters of the payment instructions that a worker is shown."""


class NetworkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How workers on other machines reach a run: the arguments of `podlt.serve` of these names, explained there.

    For a run that is resumed, what is left out stays as it was.
    """

    name: Sequence[str] = ()
    port: int = 0
    listen: str = ""
    websocket: int | None = None
    nats: Sequence[str] = ()
    nats_key: Path | None = None
    nats_ca: Path | None = None
    blobs: str = ""
    deposit: int | None = None
    pay_to: str | None = None
    silence_timeout: float | None = None
    pages: Mapping[str, Any] = MappingProxyType({})
    transport: str = ""

    def require_free_ports(self) -> None:
        """Tries the ports that were asked for, before a new run prepares anything.

        Raises:
            UsageError: another program listens on one, or this machine cannot.
        """
        from podlt.network.addresses import is_free

        asked = {"--port": self.port, "--websocket": self.websocket or 0}
        used: dict[int, str] = {}
        for option, port in asked.items():
            if not port:
                continue
            if port in used:
                raise UsageError(f"{used[port]} and {option} are both {port}: give them different ports")
            if not is_free(self.listen or "0.0.0.0", port):
                raise UsageError(
                    f"{option} {port}: another program listens on it: choose another, or leave {option} out for any "
                    "free port"
                )
            used[port] = option

    def cluster(self) -> NatsCluster | None:
        """The NATS cluster to use, None for a server of the run's own.

        Raises:
            UsageError: no server, no key, or a certificate that cannot be read.
        """
        if not self.nats:
            if self.nats_key is not None or self.nats_ca is not None:
                raise UsageError("--nats-key and --nats-ca are for --nats URL")
            return None
        from podlt.network.nats.cluster import cluster_of

        return cluster_of(self.nats, self.nats_key, self.nats_ca, self.name)


def remote_machines(options: NetworkOptions, listener: ev.Listener) -> Workplace:
    """The workplace of a run that strangers join.

    Args:
        options: where workers find the manager.
        listener: gets `Invited` once workers may join, then `Connected` and what `network.engine` tells of.

    Raises:
        UsageError: options that exclude each other, or a cluster that cannot be used.
    """
    if options.pay_to is not None and options.deposit is None:
        raise UsageError("--pay-to is for --open CREDITS")
    from podlt.network.access.registry import Registry
    from podlt.network.transports import SERVER, transport_of
    from podlt.network.workplace import RemoteMachines

    def count(workers: int, received: int, sent: int) -> None:
        listener(ev.Connected(workers=workers, received=received, sent=sent))

    tell, cluster = logging.getLogger("podlt.network").warning, options.cluster()

    def opening(transport: str) -> OpenRun | OpenServer:
        if transport == SERVER:
            if cluster is not None or options.websocket is not None:
                raise UsageError("--nats and --websocket are for --transport nats")
            from podlt.network.server.open_server import OpenServer

            return OpenServer(options.listen, options.port, options.name, tell=tell, count=count)
        from podlt.network.nats.open_run import OpenRun

        websocket = options.websocket
        return OpenRun(
            options.listen, options.port, options.name, websocket=websocket, cluster=cluster, tell=tell, count=count
        )

    def connect(job: Job) -> HostedLink:
        if options.deposit is not None:
            payee = options.pay_to and options.pay_to[:LONGEST_PAYEE]
            Registry(job.directory).change(lambda state: state.open(options.deposit, payee))
        way = opening(transport_of(job.directory, options.transport))
        link: Any = way.connect(job)
        link.pages.add(options.pages)
        listener(ev.Invited(invitation=way.line, server=way.urls[0], path=str(job.directory)))
        return link

    return RemoteMachines(connect, options.silence_timeout, bucket=options.blobs, listener=listener)
