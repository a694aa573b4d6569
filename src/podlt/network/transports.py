"""Which link a run is on: NATS, or its manager's own server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from podlt.crypto import SigningKey
from podlt.errors import UsageError
from podlt.network.access.invitation import Invitation
from podlt.network.link import WorkerLink
from podlt.network.settings import load_settings

NATS, SERVER = "nats", "server"


class StartedLink(WorkerLink, Protocol):
    """A worker's link that says why there is no connection."""

    @property
    def why(self) -> str:
        """What the last attempt to connect came to; empty if it went well, or there was none."""


def transport_of(run: Path, asked: str) -> str:
    """What a run is on.

    Args:
        run: its directory.
        asked: by its operator; empty for what it was on, at first NATS.

    Raises:
        UsageError: there is no such transport, or the run is on another.
        StorageError: the run's settings are malformed.
    """
    if asked not in ("", NATS, SERVER):
        raise UsageError(f"--transport {asked}: expected {NATS} or {SERVER}")
    before = SERVER if load_settings(run).server_port else ""
    if asked == NATS and before:
        raise UsageError("this run is on its manager's own server, which its workers know: resume it there")
    return asked or before or NATS


def worker_link(invitation: Invitation, keys: Sequence[SigningKey], *, websocket: bool = False) -> StartedLink:
    """A worker process's link to the servers of an invitation.

    Args:
        websocket: to reach NATS by WebSocket alone.

    Raises:
        UsageError: the run has no WebSocket, or the invitation names servers of both kinds.
        MissingPackageError: NATS is needed and not installed.
    """
    if invitation.is_direct:
        from podlt.network.client.link import ClientLink

        link = ClientLink(invitation, keys)
        link.start()
        return link
    from podlt.network.nats.open_run import join

    return join(invitation, keys, websocket=websocket)
