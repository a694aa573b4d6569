"""What a TCP connection is asked for, so that its end is noticed within seconds, and what the kernel knows of it.

A machine that is switched off says nothing. Keepalives find that out where nothing is sent; what is sent and never
acknowledged is seen in `TCP_INFO`. Both are answered by the other machine's kernel, however busy its processes are.
`TCP_USER_TIMEOUT` would not do: it ends connections to a process that does not read for as long.
"""

from __future__ import annotations

import fcntl
import math
import socket
import struct
import sys
import termios
from contextlib import suppress

DEAD_SECONDS = 3.0
"""After how long without any acknowledgement a machine is gone."""

_OPTIONS = (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 2), ("TCP_NODELAY", 1))
_INFO = struct.Struct("8B13I")
"""The beginning of Linux' struct tcp_info: 8 bytes, and 13 numbers up to tcpi_last_ack_recv."""

_UNACKED, _LAST_ACK = 8 + 4, 8 + 12


def notice_loss(sock: socket.socket) -> None:
    """Asks for keepalives: a connection on which nothing is under way ends 3 s after the other machine did."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _OPTIONS:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_dead(sock: socket.socket, stuck_seconds: float = math.inf) -> bool:
    """Whether something is under way, and the other machine has acknowledged nothing for too long.

    Args:
        stuck_seconds: after how long what waits in the kernel counts as well, sent or not. A machine whose address was
            taken away can send nothing, and the kernel says of it neither that it is under way nor that it failed; but
            the same is seen of an end whose process does not read.
    """
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        waiting = int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return True
    if len(raw) < _INFO.size:
        return False
    found = _INFO.unpack(raw)
    silent = found[_LAST_ACK] / 1000
    return (found[_UNACKED] > 0 and silent > DEAD_SECONDS) or (waiting > 0 and silent > stuck_seconds)
