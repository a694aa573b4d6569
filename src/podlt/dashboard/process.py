"""The dashboard of a run that goes on, in a process of its own: the run is not slowed down, and not stopped, by it.

The parent writes events to this process's standard input, a JSON document a line, and reads from its standard output:
first where the page is, or why there is none, then what its buttons ask for. When the input ends, so does this.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from podlt.canonical import UNREADABLE
from podlt.dashboard.claims import unchecked
from podlt.dashboard.server import DashboardServer
from podlt.dashboard.source import RunSource
from podlt.dashboard.stream import MessageStream
from podlt.dashboard.watching import LenderWatch, TrainingWatch
from podlt.errors import UsageError

LINGER_SECONDS = 1.0
"""How long readers have to get the last messages."""

ACTIONS = ("pause", "resume", "stop")


class PageRequest(msgspec.Struct):
    """What the parent asks for.

    Attributes:
        kind: of page.
        host: where to listen.
        ports: to try, in order; 0 for any free one.
        limits: what a worker's owner gives.
    """

    kind: Literal["run", "lender"]
    host: str
    ports: list[int]
    limits: dict[str, str] = {}


def main(argument: str) -> int:
    """Serves until standard input ends; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this
    asked = msgspec.json.decode(argument, type=PageRequest)
    stream = MessageStream()
    watch: TrainingWatch | LenderWatch
    if asked.kind == "run":
        watch = TrainingWatch(stream, lambda path: _source(path, stream))
    else:
        watch = LenderWatch(stream, asked.limits)
    try:
        server = _listening(asked, stream)
    except UsageError as error:
        _say({"error": str(error)})
        return 2
    try:
        _say({"url": server.url})
        why = _take_events(watch)
        watch.ended(why)
        stream.close()
        time.sleep(LINGER_SECONDS)
    finally:
        server.__exit__()
    return 0


def _source(path: Path, stream: MessageStream) -> RunSource:
    stream.show("claims", **unchecked(str(path)))
    return RunSource(path, stream)


def _listening(asked: PageRequest, stream: MessageStream) -> DashboardServer:
    """The server, on the first port that is free.

    Raises:
        UsageError: none is.
    """
    act = _act if asked.kind == "lender" else None
    for place, port in enumerate(asked.ports):
        try:
            return DashboardServer(asked.host, port, asked.kind, lambda name: stream, act).__enter__()
        except UsageError:
            if place == len(asked.ports) - 1:
                raise
    raise UsageError("dashboard: no port to listen on")


def _act(action: str) -> bool:
    if action in ACTIONS:
        _say({"action": action})
    return action in ACTIONS


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _take_events(watch: TrainingWatch | LenderWatch) -> str:
    """Takes events until there are no more; returns why the parent ended, if it said so."""
    why = ""
    for line in sys.stdin.buffer:
        try:
            event = msgspec.json.decode(line, type=dict[str, Any])
        except UNREADABLE:
            continue
        if "failed" in event:
            why = str(event["failed"])
        else:
            watch.take(event)
    return why


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
