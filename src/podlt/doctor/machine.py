"""The machine itself: processor, arithmetic, memory, disk, open files, clock, and where it may write."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

from podlt.doctor.diagnosis import Condition, Diagnosis, Purpose, Role, graded
from podlt.errors import UsageError

GIB = 2**30
MEMORY = {Role.TRAIN: (1, 4), Role.MANAGER: (1, 4), Role.WORKER: (1, 4), Role.CHECK: (0.25, 1)}
"""GiB of memory that are free: below the first a role fails, below the second it may."""

DISK = {Role.TRAIN: (0.5, 5), Role.MANAGER: (0.5, 5), Role.WORKER: (0.5, 2), Role.CHECK: (0.1, 1)}
"""GiB of disk that are free, likewise."""

SHARED = (0.06, 0.5)
"""GiB of /dev/shm, through which worker processes get parameters and give updates."""

FILES = (256, 4096)
"""Files that a manager may have open: one a connection, and those of strangers."""

_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")


def processor(asked: Purpose) -> list[Diagnosis]:
    """How many cores, and of what kind."""
    from podlt.exact.machine import processor as name_of  # brings PyTorch along

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{name_of(asked.device)}, {cores} {'core' if cores == 1 else 'cores'}"
    if cores == 1 and asked.role is Role.TRAIN:
        return [Diagnosis("processor", Condition.WARN, found, "two cores or more: all workers share this one")]
    return [Diagnosis("processor", Condition.OK, found)]


def arithmetic(asked: Purpose) -> list[Diagnosis]:
    """Whether this machine computes the golden vectors as all others do."""
    if not asked.arithmetic:
        return []
    from podlt.exact.conformance import check

    need = f"exact arithmetic on {asked.device}"
    try:
        report = check(asked.device)
    except UsageError as error:
        return [Diagnosis(need, Condition.FAIL, str(error), "--device cpu, or a PyTorch that sees the GPU")]
    if report.differing is None:
        return [Diagnosis(need, Condition.OK, f"the bits of every other machine (digest {report.digest[:16]})")]
    fix = "send `podlt conformance --report` to podlt's authors; do not work for runs in exact arithmetic here"
    found = f"{len(report.differences)} operations differ, the first: {report.differing}"
    return [Diagnosis(need, Condition.FAIL, found, fix, is_finding=True)]


def memory(asked: Purpose) -> list[Diagnosis]:
    """What can be had of it now."""
    free = available_bytes() / GIB
    health = graded(free, *MEMORY[asked.role])
    fix = (
        ""
        if health is Condition.OK
        else "end other programs, or take a smaller model (podlt bench capture says how much)"
    )
    return [Diagnosis("memory", health, f"{free:.1f} GiB available", fix)]


def available_bytes(facts: Path = Path("/proc/meminfo")) -> int:
    """Memory that can be had without swapping; all that the machine has, where the system does not say."""
    if facts.is_file():
        for line in facts.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def disk(asked: Purpose) -> list[Diagnosis]:
    """What is free where the role writes."""
    found = []
    for need, path in _places(asked).items():
        free = shutil.disk_usage(_existing(path)).free / GIB
        health = graded(free, *DISK[asked.role])
        fix = "" if health is Condition.OK else f"free some of it, or choose another place ({_OPTION[need]})"
        found.append(Diagnosis(f"disk: {need}", health, f"{free:.1f} GiB free at {path}", fix))
    return found


def shared_memory(asked: Purpose, where: Path = Path("/dev/shm")) -> list[Diagnosis]:
    """Of processes of one machine; a container often has 64 MiB."""
    if asked.role is not Role.TRAIN or not where.is_dir():
        return []
    free = shutil.disk_usage(where).free / GIB
    health = graded(free, *SHARED)
    fix = "" if health is Condition.OK else "in a container: docker run --shm-size=2g"
    return [Diagnosis("shared memory", health, f"{free:.1f} GiB free at {where}", fix)]


def open_files(asked: Purpose) -> list[Diagnosis]:
    """How many files a manager's process may have open."""
    if asked.role is not Role.MANAGER:
        return []
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = float("inf") if hard == resource.RLIM_INFINITY else hard
    health = graded(most, *FILES)
    fix = "" if health is Condition.OK else "ulimit -Hn 65536 as root, or LimitNOFILE=65536 in the unit"
    found = "as many as it likes" if most == float("inf") else f"{hard:,} at most"
    return [Diagnosis("open files", health, found, fix)]


def clock(asked: Purpose, now: float | None = None) -> list[Diagnosis]:
    """Whether the time can be right: certificates and invitations expire by it."""
    seconds = time.time() if now is None else now
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    fix = "set the clock: timedatectl set-ntp true"
    if seconds < Path(__file__).stat().st_mtime - 86_400:
        return [Diagnosis("clock", Condition.FAIL, f"{shown}, before podlt was installed", fix)]
    if asked.role in (Role.MANAGER, Role.WORKER) and _SYNCHRONISED.parent.is_dir() and not _SYNCHRONISED.exists():
        return [Diagnosis("clock", Condition.WARN, f"{shown}, not synchronised", fix)]
    return [Diagnosis("clock", Condition.OK, shown)]


def write_access(asked: Purpose) -> list[Diagnosis]:
    """Whether files can be made where the role writes."""
    found = []
    for need, path in _places(asked).items():
        there = _existing(path)
        try:
            with tempfile.NamedTemporaryFile(dir=there):
                pass
            found.append(Diagnosis(f"write: {need}", Condition.OK, f"{path}"))
        except OSError as error:
            fix = f"make it yours (chown), or choose another place ({_OPTION[need]})"
            found.append(Diagnosis(f"write: {need}", Condition.FAIL, f"{there}: {error.strerror}", fix))
    return found


_OPTION = {"runs": "--run DIR", "cache": "$PODLT_CACHE", "worker": "--folder DIR"}


def _places(asked: Purpose) -> dict[str, Path]:
    """Where a role writes, by what it writes there."""
    if asked.role is Role.CHECK:
        return {}
    if asked.role is Role.WORKER:
        return {"worker": asked.home / ".podlt"}
    return {"runs": asked.folder / "runs", "cache": asked.cache}


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that there is."""
    return next(each for each in (path, *path.parents) if each.exists())
