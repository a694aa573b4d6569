"""What a worker process may take of its machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from podlt.engine.limits import LEAST, LIBRARIES, MemoryLimit
from podlt.errors import UsageError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system bounds nothing")


def in_a_process(body: str) -> str:
    """What a process prints that bounds itself to 700 MiB, and then does something."""
    script = f"from podlt.engine.limits import *\nimport torch\nbound = MemoryLimit.impose(700 * 2**20)\n{body}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_goes_beyond_the_bound_is_refused_by_the_system_and_the_process_goes_on() -> None:
    said = in_a_process(
        "kept = []\n"
        "try:\n"
        "    while True: kept.append(torch.ones(2**24 // 4))\n"
        "except RuntimeError as error: print('refused')\n"
        "peak = next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(peak <= 700 * 1024, len(kept) * 16 > 200)\n"
        "kept.clear()\n"
        "print(float(torch.ones(2**22).sum()))\n"
    )
    assert said.split() == ["refused", "True", "True", str(float(2**22))]


@pytest.mark.slow
def test_shared_memory_is_no_way_around_the_bound() -> None:
    said = in_a_process(
        "before = bound.left\n"
        "from podlt.engine.shared_memory import Region\n"
        "region = Region(200 * 2**20)\n"
        "region.bytes[:] = 1\n"
        "bound.adjust()\n"
        "print(before - bound.left >= 200 * 2**20)\n"
        "try: torch.ones(bound.left // 4 + 2**23)\n"
        "except RuntimeError: print('refused')\n"
    )
    assert said.split() == ["True", "refused"]


def test_a_bound_that_leaves_nothing_to_work_with_is_an_error_of_usage() -> None:
    with pytest.raises(UsageError, match=f"expected at least {LEAST >> 20} MiB"):
        MemoryLimit.impose(LEAST - 1)


def test_the_status_file_is_read_as_the_system_writes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmData:\t  2048 kB\nRssFile:\t 1024 kB\nRssShmem:\t 512 kB\nThreads:\t4\n")
    asked: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr("podlt.engine.limits._STATUS", status)
    monkeypatch.setattr("resource.setrlimit", lambda which, limits: asked.append((which, limits)))
    bound = MemoryLimit.impose(2**30)
    assert asked[-1][1][0] == 2**30 - (1024 + 512) * 1024
    assert bound.left == 2**30 - (2048 + 1024 + 512) * 1024
    status.write_text("VmData:\t  2048 kB\nRssFile:\t 9000000 kB\nRssShmem:\t 512 kB\n")
    bound.adjust()
    assert asked[-1][1][0] == 2**30 - LIBRARIES - 512 * 1024
