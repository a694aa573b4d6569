"""Deadlines that count what the machine gave: who waits for a process fails by what it does, not by who runs beside."""

from __future__ import annotations

import os
import time
from pathlib import Path

_LOAD = Path("/proc/loadavg")


class Patience:
    """Seconds that something may take on a machine that does nothing else.

    Args:
        seconds: of such a machine; of one that has three processes for each core, three times as many pass.
    """

    def __init__(self, seconds: float) -> None:
        self._left, self._at = seconds, time.monotonic()

    def lasts(self) -> bool:
        """Whether some of it is left; asked now and then, at least every few seconds."""
        now = time.monotonic()
        self._left -= (now - self._at) * _share()
        self._at = now
        return self._left > 0


def _share() -> float:
    """The part of a core that a process gets at the moment, where this can be read; else a whole one."""
    try:
        minute, *_, running, _ = _LOAD.read_text().split()
    except OSError:
        return 1.0
    waiting = max(float(minute), float(running.partition("/")[0]))
    return min(1.0, (os.cpu_count() or 1) / max(1.0, waiting))
