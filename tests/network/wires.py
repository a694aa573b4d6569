"""Two networks of their own, and the wire between them, which does to packets what long, bad lines do.

The kernel's own impairments (`tc qdisc ... netem`) are a module that many kernels lack. Here each network has a TUN
device, and a thread of this process carries every IP packet from one to the other: late, or not at all, or twice, or
after those that were sent later. TCP on both ends is the kernel's, with its retransmissions.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

HERE, THERE = "10.213.0.1", "10.213.0.2"
"""The manager's address, and the workers' first one."""

_MAKE, _IP, _PLAIN = 0x400454CA, 0x0001, 0x1000  # TUNSETIFF, IFF_TUN, IFF_NO_PI
_LONGEST = 65_536
_number = itertools.count()


class Wire:
    """What carries packets between the two networks.

    Attributes:
        delay: of each packet, in seconds, in each direction; loss, twice: chances that a packet is lost, or comes
            twice; late: that it comes half a delay, or 20 ms, after those that were sent after it; cut: nothing gets
            through; carried, lost: how many packets were.
    """

    def __init__(self, here: str, there: str) -> None:
        self.delay = self.loss = self.twice = self.late = 0.0
        self.cut = False
        self.carried = self.lost = 0
        self.here, self.there = here, there
        self._ends: list[int] = []
        self._dice = random.Random(5)
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="wire", daemon=True)

    def within(self, network: str) -> list[str]:
        """The command that starts another one in a network."""
        return ["ip", "netns", "exec", network]

    def start(self) -> None:
        """Makes both networks, each with an address.

        Raises:
            OSError, subprocess.CalledProcessError: it is not permitted here, or cannot be done.
        """
        for network, address in ((self.here, HERE), (self.there, THERE)):
            _ip("netns", "add", network)
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            self._ends.append(device)
            fcntl.ioctl(device, _MAKE, struct.pack("16sH22x", network.encode(), _IP | _PLAIN))
            _ip("link", "set", network, "netns", network, "name", "wire")
            _ip("-n", network, "addr", "add", f"{address}/24", "dev", "wire")
            _ip("-n", network, "link", "set", "wire", "up")
            _ip("-n", network, "link", "set", "lo", "up")
        self._thread.start()

    def close(self) -> None:
        """Ends both networks; what runs in them is cut off."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        for device in self._ends:
            os.close(device)
        for network in (self.here, self.there):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", network)

    def link(self, state: str) -> None:
        """Takes the workers' end "down", or "up" again."""
        _ip("-n", self.there, "link", "set", "wire", state)

    def move(self, address: str) -> None:
        """Gives the workers another address: what they had connected comes back to nobody."""
        _ip("-n", self.there, "addr", "flush", "dev", "wire")
        _ip("-n", self.there, "addr", "add", f"{address}/24", "dev", "wire")

    def _carry(self) -> None:
        while not self._ended.is_set():
            until = self._waiting[0][0] - time.monotonic() if self._waiting else 0.05
            ready, _, _ = select.select(self._ends, [], [], min(0.05, max(0.0, until)))
            for device in ready:
                with suppress(OSError):  # the link is down
                    self._take(os.read(device, _LONGEST), self._ends[device == self._ends[0]])
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                _, _, device, packet = heapq.heappop(self._waiting)
                with suppress(OSError):
                    os.write(device, packet)

    def _take(self, packet: bytes, to: int) -> None:
        lost, again, late = (self._dice.random() < chance for chance in (self.loss, self.twice, self.late))
        if self.cut or lost:
            self.lost += 1
            return
        self.carried += 1
        due = time.monotonic() + self.delay + late * max(0.02, self.delay / 2)
        for _ in range(1 + again):
            heapq.heappush(self._waiting, (due, next(self._order), to, packet))


@contextmanager
def wire() -> Iterator[Wire]:
    """A wire between two new networks; the test is skipped where these cannot be made."""
    name = f"podlt{os.getpid() % 10**5}{'abcdefghijklmnopqrstuvwxyz'[next(_number) % 26]}"
    made = Wire(f"{name}m", f"{name}w")
    try:
        try:
            made.start()
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            pytest.skip(f"networks of their own cannot be made here: {said.strip()}")
        yield made
    finally:
        made.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
