"""Gives a process a clock that is wrong, and can be set while it runs: a library that is loaded before all others.

Only what tells the time of day is off, as on a machine whose clock was set: what counts seconds is as it was. (Of
libfaketime 0.9.10 this cannot be had: with it, `time.sleep` fails.)
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from stage import Circumstances

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
    char text[32] = {0};
    const char *path = getenv("CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    return size > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
"""


class Clock:
    """A clock that is off by as many seconds as it is set to.

    Args:
        folder: for its files; name: of the process.
    """

    def __init__(self, folder: Path, name: str, seconds: int = 0) -> None:
        self._offset = folder / f"{name}.clock"
        self.set(seconds)
        self.circumstances = Circumstances(
            environment={"LD_PRELOAD": str(_library(folder)), "CLOCK_OFFSET": str(self._offset)}
        )

    def set(self, seconds: int) -> None:
        """Sets it, at once."""
        beside = self._offset.with_suffix(".part")
        beside.write_text(str(seconds))
        beside.replace(self._offset)


def _library(folder: Path) -> Path:
    """The library; the test is skipped where no C compiler makes it."""
    made = folder / "clock.so"
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler for the library that makes clocks wrong")
    if not made.exists():
        source = folder / "clock.c"
        source.write_text(_SOURCE)
        done = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(source)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"the library that makes clocks wrong cannot be made: {done.stderr[-300:]}")
    return made
