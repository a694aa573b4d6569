"""Addresses and ports of this machine."""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextlib import suppress

from podlt.errors import UsageError


def own_address() -> str:
    """This machine's address on the network that leads outward; its own loopback if there is none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # a datagram socket sends nothing when it connects: it only finds its route
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def near(host: str) -> str:
    """The address by which this machine reaches itself."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens on a port.

    Raises:
        UsageError: this machine has no such address, or ports like this one are the system's.
    """
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the server does: closed connections do not count
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise UsageError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def is_any(host: str) -> bool:
    """Whether to listen on an address is to listen on all."""
    return host in ("0.0.0.0", "::")


def bracketed(host: str) -> str:
    """A host as a URL has it."""
    return f"[{host}]" if ":" in host else host


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_global(address: str) -> bool:
    """Whether an address is one of the internet's; what only a local network has, and what is no address, is not.

    An IPv6 address that only wraps one of IPv4 counts as that.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo is not None else None)
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        return _is_public(inner if inner is not None else found)
    return _is_public(found)


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Python counts multicast, which reaches everybody in a local network, as global."""
    others = address.is_multicast or address.is_link_local or address.is_unspecified or address.is_reserved
    return address.is_global and not others
