"""What a worker gives of its machine, and when: bytes, hours, and the moment to leave."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from podlt.errors import UsageError
from podlt.worker import events

LEAST_BANDWIDTH = 32 * 1024
"""Bytes a second with which a message takes less time than a manager waits for whoever reads nothing."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", re.IGNORECASE)
_SPAN = re.compile(r"(\d+)([smhd])")


@dataclass(frozen=True)
class WorkerLimits:
    """What a worker gives, in bytes, and in bytes a second; the processor and the hours are elsewhere.

    Attributes:
        memory: of the process that executes tasks; 0 for no bound.
        tasks: of memory for updates and examples.
        disk: for large updates and receipts.
        bandwidth: 0 for no bound.
    """

    memory: int
    tasks: int
    disk: int
    bandwidth: int

    @classmethod
    def given(cls, memory: str, disk: str, bandwidth: str, home: Path, device: str) -> WorkerLimits:
        """The limits that were asked for; a GPU's driver reserves memory that it never takes: no bound unasked.

        Args:
            memory: `--memory`; as `disk` and `bandwidth`, empty where it is not given.
            disk: `--disk`.
            bandwidth: `--bandwidth`.
            home: the worker's folder, which exists.
            device: where tasks are computed.

        Raises:
            UsageError: malformed, or too little.
        """
        from podlt.engine.limits import LEAST
        from podlt.program.machine import machine_bytes

        asked = size_of("--memory", memory)
        if asked and asked < LEAST:
            raise UsageError(f"--memory: {asked >> 20} MiB are too few; expected at least {LEAST >> 20} MiB")
        speed = size_of("--bandwidth", bandwidth)
        if bandwidth and speed < LEAST_BANDWIDTH:
            raise UsageError(f"--bandwidth {bandwidth!r}: expected at least {LEAST_BANDWIDTH >> 10}K a second")
        half = max(LEAST, machine_bytes() // 2)
        bound = asked or (0 if device.startswith("cuda") else half)
        share = size_of("--disk", disk) or shutil.disk_usage(home).free // 4
        return cls(bound, (asked or half) // 4, share, speed)


@dataclass(frozen=True)
class Hours:
    """When a worker works: from one minute of the day to another, which may be the next day's; equal: always."""

    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Hours:
        """What `--hours` says.

        Raises:
            UsageError: malformed.
        """
        found = re.fullmatch(r"(\d{1,2})(?::(\d{2}))?-(\d{1,2})(?::(\d{2}))?", text.strip())
        start, end = (int(found[i]) * 60 + int(found[i + 1] or 0) for i in (1, 3)) if found else (0, 0)
        if text and (found is None or max(start, end) > 24 * 60 or start == end):
            raise UsageError(f"--hours {text!r}: expected hours of the day such as 22-06 or 18:30-07:00")
        return cls(start, end)

    def waiting(self) -> str:
        """What a worker waits for outside these hours."""
        start, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in (self.start, self.end))
        return f"waiting until {start}: it works from {start} to {end} by this machine's clock"

    def has(self, now: datetime) -> bool:
        """Whether it works now."""
        minute = now.hour * 60 + now.minute
        inside = self.start <= minute < self.end
        return inside if self.start < self.end else self.start == self.end or not self.end <= minute < self.start


class WorkingTime:
    """Says when it is time to leave, and why: the owner's `--until` and `--hours`, a button, Ctrl-C, or a polite kill.

    Args:
        moment: `--until`, in seconds since 1970.
        hours: `--hours`.

    Attributes:
        paused: whether the owner pressed a button, and not yet the other.
    """

    def __init__(self, moment: float | None, hours: Hours) -> None:
        self.moment, self._hours, self._reason = moment or 0.0, hours, ""
        self.paused = False

    def take_signals(self) -> None:
        """Takes Ctrl-C and a polite kill as a wish to leave."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        if self._reason:  # asked twice: at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._reason = "stopped by its owner"

    def press(self, action: str) -> None:
        """Does what a button of the owner's page asks for: "pause", "resume" or "stop"."""
        if action == "stop":
            self._reason = self._reason or "stopped by its owner"
        else:
            self.paused = action == "pause"

    @property
    def stopping(self) -> bool:
        """Whether it leaves for good."""
        return bool(self._for_good())

    def __call__(self) -> str:
        pause = "paused by its owner" if self.paused else ""
        return self._for_good() or pause or ("" if self._hours.has(datetime.now()) else "its hours are over")

    @property
    def comes_back(self) -> bool:
        """Whether it left for its hours, or a pause, alone."""
        return not self._for_good()

    def wait(self, tell: events.WorkerListener, note: Callable[[str], None] = lambda doing: None) -> None:
        """Waits until it works: for its hours, the end of a pause, or the end.

        Args:
            tell: hears what it waits for, once each time that this changes.
            note: is given the same again and again, for the status file.
        """
        last = ""
        while self() and not self._for_good():
            doing = "paused by its owner" if self.paused else self._hours.waiting()
            if doing != last:
                tell(events.StepStarted(what=doing))
                last = doing
            note(doing)
            time.sleep(0.5)

    def _for_good(self) -> str:
        over = self.moment and time.time() >= self.moment
        return self._reason or ("its time is over" if over else "")


def size_of(option: str, text: str) -> int:
    """The bytes that an option says; 0 where it is not given."""
    found = _SIZE.fullmatch(text.strip())
    if text and found is None:
        raise UsageError(f"{option} {text!r}: expected a size such as 512M or 8G")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " ")) if found else 0


def size_text(count: int) -> str:
    """A number of bytes, for people; 0 is no bound."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB" if count else "no limit"


def moment_of(text: str, now: datetime) -> float | None:
    """When it is time to leave, in seconds since 1970."""
    if not text:
        return None
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        return now.timestamp() + int(span[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[span[2]]
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}", text.strip()):
            clock = datetime.strptime(text.strip(), "%H:%M")
            then = now.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
            return (then if then > now else then + timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        raise UsageError(f"--until {text!r}: expected 18:30, 2026-01-31T08:00, or a span such as 90m, 8h, 2d") from None
