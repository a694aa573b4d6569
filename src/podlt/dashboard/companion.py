"""Starts a dashboard beside this process, tells it what happens here, and does what its buttons ask for."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

import msgspec

from podlt.errors import UsageError
from podlt.events import Event

USUAL_PORT = 8465
HOST = "127.0.0.1"
CLOSE_SECONDS = 5.0
WAITING = 1000
"""Events that wait to be told; a dashboard that takes none must hold nobody up, and misses some."""

END = object()


def parse_place(text: str) -> tuple[str, list[int]]:
    """Where to listen, by `[HOST:]PORT` or nothing: the host, and the ports to try.

    Raises:
        UsageError: it is none.
    """
    if not text:
        return HOST, [USUAL_PORT, 0]
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    bare = ":" in host and not text.startswith("[")
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535 or bare or (colon and not host):
        raise UsageError(f"dashboard address {text}: expected [HOST:]PORT, such as 8465 or 0.0.0.0:8465 or [::1]:8465")
    return host or HOST, [int(port)]


class DashboardCompanion:
    """A dashboard in a process of its own, while its context lasts. A listener of events.

    Args:
        kind: of page: "run" or "lender".
        place: where to listen: `[HOST:]PORT`, or "" for the usual port on this machine, or any free one.
        limits: what a worker's owner gives.
        act: does what a button asks for, on a thread of its own.

    Attributes:
        url: of the page.
    """

    def __init__(
        self,
        kind: str,
        place: str = "",
        limits: Mapping[str, str] | None = None,
        act: Callable[[str], object] = lambda action: None,
    ) -> None:
        host, ports = parse_place(place)
        self._asked = {"kind": kind, "host": host, "ports": ports, "limits": dict(limits or {})}
        self._act, self.url = act, ""
        self._events: queue.Queue[Any] = queue.Queue(WAITING)

    def __enter__(self) -> Self:
        """Starts it.

        Raises:
            UsageError: it cannot listen there.
        """
        command = [sys.executable, "-m", "podlt.dashboard.process", json.dumps(self._asked)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            first = self._process.stdout.readline() if self._process.stdout is not None else b""
        except BaseException:  # Ctrl-C: nobody else ends it
            self._process.kill()
            self._process.wait()
            raise
        answer = json.loads(first) if first else {"error": "dashboard: its process ended at once"}
        if "error" in answer:
            self._process.wait()
            raise UsageError(answer["error"])
        self.url = answer["url"]
        self._writer = threading.Thread(target=self._write, name="podlt-dashboard-events", daemon=True)
        self._reader = threading.Thread(target=self._read, name="podlt-dashboard-actions", daemon=True)
        self._writer.start()
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Ends it, once its readers know how this ended."""
        if error is not None:
            self.say({"failed": "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or "failed"})
        with suppress(queue.Full):
            self._events.put(END, timeout=1.0)
        self._writer.join(1.0)
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __call__(self, event: Event) -> None:
        """Takes an event, on whatever thread; never waits."""
        found = msgspec.to_builtins(event)
        self.say(found | {"level": event.level, "text": " ".join(event.lines_for_people)})

    def say(self, document: Mapping[str, Any]) -> None:
        """Tells it something, if it listens."""
        with suppress(queue.Full):
            self._events.put_nowait(document)

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(OSError, ValueError):
            while (document := self._events.get()) is not END:
                pipe.write(msgspec.json.encode(document) + b"\n")
                pipe.flush()
        with suppress(OSError):
            pipe.close()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        for line in pipe:
            with suppress(ValueError, KeyError):
                self._act(json.loads(line)["action"])
