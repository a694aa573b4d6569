"""Ports: which one a manager needs open, and whether a worker reaches a manager."""

from __future__ import annotations

import socket
from contextlib import suppress

from podlt.addresses import is_free, is_global, own_address
from podlt.doctor.diagnosis import Condition, Diagnosis, Purpose, Role
from podlt.errors import UsageError

REACH_SECONDS = 10.0


def ports(asked: Purpose) -> list[Diagnosis]:
    """What has to be open, in which direction, and whether it is."""
    if asked.role is Role.MANAGER:
        return [_listening(asked.port), _address()]
    if asked.role is Role.WORKER:
        return [_reaching(asked.to)]
    return []


def _listening(port: int) -> Diagnosis:
    need = f"port {port}" if port else "port"
    if not port:
        found = "any free one, printed when the run begins; it stays the run's"
        return Diagnosis(need, Condition.OK, found, "open it for inbound TCP; --port 443 gets through most firewalls")
    try:
        free = is_free("0.0.0.0", port)
    except UsageError as error:
        fix = "a port above 1023, or AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit"
        return Diagnosis(need, Condition.FAIL, str(error), fix)
    if not free:
        fix = f"ss -ltnp 'sport = :{port}' says which program listens there; end it, or choose another --port"
        return Diagnosis(need, Condition.FAIL, "taken", fix)
    return Diagnosis(
        need, Condition.OK, "free here", f"open TCP {port} for inbound connections: nothing here sees a firewall"
    )


def _address() -> Diagnosis:
    address = own_address()
    if is_global(address):
        return Diagnosis("address", Condition.OK, address)
    fix = f"--name HOST, a name by which workers reach it; forward the port to {address} where a router is between"
    return Diagnosis(
        "address", Condition.WARN, f"{address}: of a local network, so that only its machines reach it", fix
    )


def _reaching(to: tuple[str, int] | None) -> Diagnosis:
    if to is None:
        return Diagnosis(
            "ports", Condition.OK, "outbound TCP to the manager's one port only; nothing has to be open here"
        )
    host, port = to
    try:
        socket.create_connection((host, port), timeout=REACH_SECONDS).close()
    except OSError as error:
        fix = "is the manager running, and its port open? a firewall here must let out TCP to it"
        return Diagnosis(f"manager {host}:{port}", Condition.FAIL, f"not reached: {error.strerror or error}", fix)
    return Diagnosis(f"manager {host}:{port}", Condition.OK, "reached")


def place_of(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, or of the first server of an invitation.

    Raises:
        UsageError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    with suppress(ValueError):
        if colon and host and 0 < int(port) < 65536:
            return host.strip("[]"), int(port)
    from urllib.parse import urlsplit

    from podlt.access.first_invitation import read_given
    from podlt.access.invitation_code import InvitationCode

    found = read_given(text)
    url = urlsplit(found.server if isinstance(found, InvitationCode) else found.servers[0])
    return url.hostname or "", url.port or 443
