"""Opens many connections to a server and says nothing, or half of something: `strangers.py HOST PORT COUNT SECONDS`.

They come from 127.0.0.2. Those that the server closes are opened again, until the time is over.
"""

from __future__ import annotations

import resource
import select
import socket
import sys
import time
from contextlib import suppress

BEGINNINGS = (b"", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\x00\x05hello", b"GET /session HTTP/1.1\r\nUpgr")


def begin(host: str, port: int, number: int) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(2.0)
    with suppress(OSError):
        sock.bind(("127.0.0.2", 0))
        sock.connect((host, port))
        sock.sendall(BEGINNINGS[number % len(BEGINNINGS)])
    return sock


def main() -> None:
    host, port, count, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    end, opened = time.monotonic() + seconds, count
    socks = {sock.fileno(): (number, sock) for number in range(count) for sock in [begin(host, port, number)]}
    print("begun", flush=True)
    poll = select.poll()
    for descriptor in socks:
        poll.register(descriptor, select.POLLIN)
    while time.monotonic() < end:
        for descriptor, _ in poll.poll(100):
            poll.unregister(descriptor)
            number, sock = socks.pop(descriptor)
            sock.close()
            again = begin(host, port, number)
            socks[again.fileno()] = number, again
            poll.register(again.fileno(), select.POLLIN)
            opened += 1
            if time.monotonic() > end:
                break
    print(opened, flush=True)


if __name__ == "__main__":
    main()
