"""What a process that trains, or works, says of itself on the way: shown beside the log, as its word."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from podlt.dashboard.claims import unchecked
from podlt.dashboard.source import RunSource
from podlt.dashboard.stream import MessageStream

LINES = 200
"""How many of a worker's last lines are shown."""

LONGEST_TEXT = 500

SEEN = (
    *("worker", "tasks", "seconds", "examples_per_second", "late"),
    *("received", "sent", "silent", "unopened", "wrong"),
)
"""What the manager sees of a worker, in the order in which the page gets it."""

Fields = Mapping[str, Any]


class TrainingWatch:
    """Takes the events of a manager, one after another.

    Args:
        stream: gets what the page shows.
        follow: begins to follow the run in a directory.
    """

    def __init__(self, stream: MessageStream, follow: Callable[[Path], RunSource]) -> None:
        self._stream, self._begin = stream, follow
        self._source: RunSource | None = None
        self._witnesses: dict[str, str] = {}
        self._claims: dict[str, Any] = {"state": "unchecked", "at": 0, "rows": []}
        self._takers: Mapping[str, Callable[[Fields], None]] = {
            "preparing": self._prepare,
            "waiting": self._wait,
            "invited": self._follow,
            "started": self._start,
            "workers": self._see,
            "held_up": self._hold,
            "witnessed": self._witnessed,
            "witness-failed": self._witnessed,
            "checking": self._checking,
            "checked": self._checked,
        }

    def take(self, event: Fields) -> None:
        """Takes an event as JSON has it."""
        taker = self._takers.get(str(event.get("event")))
        if taker is not None:
            taker(event)

    def ended(self, why: str) -> None:
        """The process has ended."""
        if self._source is not None:
            self._source.stop()
        self._stream.show("phase", what="ended", why=why[:LONGEST_TEXT], at=_now())

    def _prepare(self, event: Fields) -> None:
        self._stream.show("phase", what=event["what"], done=event.get("done", 0), total=event.get("total", 0))

    def _wait(self, event: Fields) -> None:
        self._stream.show("phase", what="waiting for workers", done=event["workers"], total=event["wanted"])

    def _follow(self, event: Fields) -> None:
        if self._source is None:
            self._claims = unchecked(event["path"])
            self._source = self._begin(Path(event["path"]))
            self._source.start()

    def _start(self, event: Fields) -> None:
        self._follow(event)
        self._stream.show("phase", what="training", processes=event["processes"], rounds=event["rounds"])

    def _see(self, event: Fields) -> None:
        self._stream.show("seen", at=_now(), w=[[one[name] for name in SEEN] for one in event["workers"]])

    def _witnessed(self, event: Fields) -> None:
        what = event.get("reason") or f"cosigned the first {event['entries']:,} entries"
        self._witnesses[str(event["witness"])] = str(what)[:LONGEST_TEXT]
        self._stream.show("witnesses", of=self._witnesses)

    def _checking(self, event: Fields) -> None:
        """A command that checks the run begins, in the process that trained it."""
        self._stream.show("claims", **{**self._claims, "state": "running", "by": event["by"]})

    def _checked(self, event: Fields) -> None:
        """It came to this."""
        self._claims = {"state": "verified", "at": _now(), "rows": event["rows"], "by": event["by"]}
        self._stream.show("claims", **self._claims)

    def _hold(self, event: Fields) -> None:
        self._stream.show("held_up", **{name: event[name] for name in ("worker", "round", "seconds", "others")})


class LenderWatch:
    """Takes the events of a worker process, one after another.

    Args:
        stream: gets what the page shows.
        limits: what its owner gives: name -> text.
    """

    def __init__(self, stream: MessageStream, limits: Fields) -> None:
        self._stream, self._lines = stream, deque[dict[str, Any]](maxlen=LINES)
        self._identities: dict[str, dict[str, Any]] = {}
        stream.show("header", name="worker", limits=limits, started=_now(), cores=os.cpu_count())

    def take(self, event: Fields) -> None:
        """Takes an event as JSON has it; with `text`, what it is for people, and `level`."""
        kind = str(event.get("event"))
        if kind in ("progress", "ended", "terms", "learned", "invited", "paused"):
            self._stream.show(kind, **{name: value for name, value in event.items() if name not in ("event", "t")})
        if "public_key" in event:
            known = self._identities.setdefault(event["public_key"], {"worker": -1})
            known |= {"worker": event.get("worker", known["worker"]), "state": kind}
            self._stream.show("identities", of=self._identities)
        if kind == "status":
            self._stream.show("status", workers=event["workers"], load=_load(), at=_now())
        elif kind not in ("progress", "paused"):
            text = str(event.get("text") or kind)[:LONGEST_TEXT]
            self._lines.append({"at": _now(), "text": text, "warns": event.get("level", 0) > 20})
            self._stream.show("lines", lines=list(self._lines))

    def ended(self, why: str) -> None:
        """The process has ended."""
        self._stream.show("phase", what="ended", why=why, at=_now())


def _load() -> list[float]:
    try:
        return [round(load, 2) for load in os.getloadavg()]
    except OSError:
        return []


def _now() -> int:
    return time.time_ns() // 10**6
