"""The workplace of a run that is served over the network, made of what its operator asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from podlt.errors import UsageError
from podlt.manager import events as ev
from podlt.store.run_names import INVITATION

if TYPE_CHECKING:
    from podlt.engine.interface import Job, Workplace
    from podlt.network.link import HostedLink

LONGEST_PAYEE = 400
"""Characters of the payment instructions that a worker is shown."""


class NetworkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How workers on other machines reach a run: the arguments of `podlt.serve` of these names, explained there.

    For a run that is resumed, what is left out stays as it was.
    """

    name: Sequence[str] = ()
    port: int = 0
    listen: str = ""
    blobs: str = ""
    deposit: int | None = None
    pay_to: str | None = None
    silence_timeout: float | None = None
    late_seconds: float | None = None
    aggregates: bool | None = None
    pages: Mapping[str, Any] = MappingProxyType({})

    def require_free_ports(self) -> None:
        """Tries the ports that were asked for, before a new run prepares anything.

        Raises:
            UsageError: another program listens on one, or this machine cannot.
        """
        from podlt.addresses import is_free

        asked = {"--port": self.port}
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


def remote_machines(options: NetworkOptions, listener: ev.Listener) -> Workplace:
    """The workplace of a run that strangers join.

    Args:
        options: where workers find the manager.
        listener: gets `Invited` once workers may join, then `Connected` and what `network.engine` tells of.

    Raises:
        UsageError: options that exclude each other.
    """
    if options.pay_to is not None and options.deposit is None:
        raise UsageError("--pay-to is for --open CREDITS")
    from podlt.access.registry import Registry
    from podlt.network.server.open_server import OpenServer
    from podlt.remote.workplace import RemoteMachines

    def count(workers: int, received: int, sent: int) -> None:
        listener(ev.Connected(workers=workers, received=received, sent=sent))

    tell = logging.getLogger("podlt.network").warning

    def connect(job: Job) -> HostedLink:
        if options.deposit is not None:
            payee = options.pay_to and options.pay_to[:LONGEST_PAYEE]
            Registry(job.directory).change(lambda state: state.open(options.deposit, payee))
        server = OpenServer(options.listen, options.port, options.name, tell=tell, count=count)
        link = server.connect(job)
        link.pages.add(options.pages)
        listener(
            ev.Invited(
                invitation=server.line,
                server=server.urls[0],
                path=str(job.directory),
                file=INVITATION,
                operator=server.operator,
                invitation_code=server.code,
            )
        )
        return link

    return RemoteMachines(
        connect,
        options.silence_timeout,
        late_seconds=options.late_seconds,
        bucket=options.blobs,
        listener=listener,
        aggregates=options.aggregates,
    )
