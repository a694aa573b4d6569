"""What a worker process may take of its machine: cores, and memory that the system itself refuses to exceed."""

from __future__ import annotations

import os
import random
import resource
import sys
from pathlib import Path

from podlt.errors import UsageError

LEAST = 512 * 2**20
"""Bytes below which PyTorch and the exact kernels are not sure to start."""

LIBRARIES = 512 * 2**20
"""Bytes of mapped files that count at most."""

_STATUS = Path("/proc/self/status")


def bind_to_cores(cores: int) -> int:
    """Binds this process to so many cores (0: to those that it has); returns how many it has then."""
    if not hasattr(os, "sched_setaffinity"):
        return cores or os.cpu_count() or 1
    mine = sorted(os.sched_getaffinity(0))
    if cores and cores < len(mine):
        start = random.randrange(len(mine))  # several workers of a machine must not end up on the same ones
        mine = (mine + mine)[start : start + cores]
        os.sched_setaffinity(0, mine)
    return len(mine)


def limit_processor(seconds: float) -> None:
    """Has the system end this process once it has used so many more seconds of processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = int(used.ru_utime + used.ru_stime + seconds) + 1
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


class MemoryLimit:
    """A bound on the memory of this process: private, shared, and of its libraries.

    The system bounds what is private, as it is asked for and not as it is used (RLIMIT_DATA); what the others take is
    subtracted from that by `adjust`, now and then. Addresses are no memory, and have no bound: PyTorch reserves more of
    them than it ever uses. Nor have files that are mapped, beyond what libraries take: their pages are the system's
    cache, which it takes back when memory is short.

    Args:
        nbytes: the bound.
        bounds: whether the system can be asked to hold it.
    """

    def __init__(self, nbytes: int, bounds: bool) -> None:
        self.nbytes, self.bounds = nbytes, bounds

    @classmethod
    def impose(cls, nbytes: int) -> MemoryLimit:
        """Bounds this process from now on.

        Args:
            nbytes: the bound.

        Raises:
            UsageError: it is too low for any work.
        """
        if nbytes < LEAST:
            raise UsageError(f"--memory: {nbytes >> 20} MiB are too few; expected at least {LEAST >> 20} MiB")
        limit = cls(nbytes, sys.platform == "linux" and _STATUS.is_file())
        limit.adjust()
        return limit

    def adjust(self) -> None:
        """Takes into account what is shared and mapped by now."""
        if not self.bounds:
            return
        used = _used()
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = max(0, self.nbytes - used["RssShmem"] - used["RssFile"])
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))

    @property
    def left(self) -> int:
        """How many bytes this process may still take; all of them, where the system bounds nothing."""
        if not self.bounds:
            return self.nbytes
        used = _used()
        return max(0, self.nbytes - used["VmData"] - used["RssShmem"] - used["RssFile"])


def _used() -> dict[str, int]:
    """Bytes that this process has asked for (VmData), shares (RssShmem), and has of files in memory (RssFile)."""
    found = {"VmData": 0, "RssShmem": 0, "RssFile": 0}
    for line in _STATUS.read_text("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    found["RssFile"] = min(found["RssFile"], LIBRARIES)
    return found
