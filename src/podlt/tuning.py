"""How Python and the C library run in a process of podlt's own; a program that imports podlt keeps its settings."""

from __future__ import annotations

import ctypes
import gc
import platform
import struct
import sys

GARBAGE = (20_000, 20, 20)
"""Thresholds of the garbage collector: a round makes thousands of small objects that last as long as it does, and by
default (700, 10, 10) all of them are looked through again and again."""

SWITCH_SECONDS = 0.0005
"""How long one thread may keep the interpreter from another (5 ms by default): a link waits for those that compute."""

SLICE_SECONDS = 0.03
"""How long the system lets a process compute before another has its turn (about 3 ms by default, where both have work).
A task that is interrupted finds the caches full of another's data; 10 % of a small convolution's time, with three
processes a core (`podlt bench processor`). Linux asks for it from 6.12 on."""

MMAP_BYTES, TRIM_BYTES = 32 * 2**20, 128 * 2**20
"""Memory of up to so many bytes is taken from what was freed before; of what was freed, so much is kept."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SCHED_SETATTR, _SCHED_GETATTR = {"x86_64": (314, 315), "aarch64": (274, 275)}.get(platform.machine(), (0, 0))
_OTHER, _BATCH = 0, 3
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")
"""Size, policy, flags, nice, priority, runtime, deadline, period: `struct sched_attr` as of its first version."""


def tune_process() -> None:
    """For a process that runs nothing but podlt: see the constants."""
    gc.set_threshold(*GARBAGE)
    sys.setswitchinterval(SWITCH_SECONDS)
    take_long_slices()


def take_long_slices() -> bool:
    """Asks for slices of `SLICE_SECONDS` for this thread, and the threads and processes that it starts.

    Returns whether the system has taken it; an older one, another than Linux, or a sandbox may not.
    """
    if sys.platform != "linux" or not _SCHED_SETATTR:
        return False
    call, attributes = ctypes.CDLL(None).syscall, ctypes.create_string_buffer(_SCHED_ATTR.size)
    if call(_SCHED_GETATTR, 0, attributes, _SCHED_ATTR.size, 0):
        return False
    if _SCHED_ATTR.unpack(attributes.raw)[1] not in (_OTHER, _BATCH):
        return False  # somebody has chosen a policy for which these numbers mean something else
    size, policy, flags, nice, priority, _, deadline, period = _SCHED_ATTR.unpack(attributes.raw)
    wanted = _SCHED_ATTR.pack(size, policy, flags, nice, priority, int(SLICE_SECONDS * 1e9), deadline, period)
    return not call(_SCHED_SETATTR, 0, wanted, 0)


def reuse_memory() -> None:
    """Has glibc keep what was freed: else each large message comes in new pages, which the system fills with zeros."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, MMAP_BYTES)
        mallopt(_TRIM_THRESHOLD, TRIM_BYTES)
