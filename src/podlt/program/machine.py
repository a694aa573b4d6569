"""How much memory this machine has."""

from __future__ import annotations

import os
from pathlib import Path

MAX_BYTES = 64 * 2**30
"""The most that a program may take on any machine."""

_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def machine_bytes() -> int:
    """The memory of this machine, or of the container that the process is in: at most `MAX_BYTES`."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        found = MAX_BYTES
    try:
        text = _GROUP_LIMIT.read_text("ascii").strip()
    except (OSError, ValueError):
        text = ""
    return min(MAX_BYTES, found, int(text) if text.isdigit() else MAX_BYTES)
