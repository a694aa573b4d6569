"""How a worker shows itself to its owner: lines, JSON for scripts, a log for programs; and what it does meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import typer

from podlt.cli.event_writer import write_json
from podlt.cli.monitoring_options import LogOptions
from podlt.monitoring.setup import event_log_of
from podlt.network.worker import events
from podlt.progress.text import write_text

LOOK_SECONDS = 0.5
SHOW_SECONDS = 10.0
SLOW_SECONDS = 5.0
"""After so long without a first connection, it is worth saying why."""


@contextmanager
def worker_output(watching: LogOptions) -> Iterator[events.WorkerListener]:
    """The listener of a worker process: prints events as the options ask for, and writes the log.

    Args:
        watching: the options.

    Raises:
        UsageError: an option of the log is malformed, its file cannot be written, or a package is missing.
    """
    with ExitStack() as stack:
        listeners: list[events.WorkerListener] = []
        if watching.as_json:
            listeners.append(write_json)
        elif not watching.quiet:
            listeners.append(_write_text)
        log = event_log_of(watching.monitoring(), stack)
        if log is not None:
            listeners.append(log.record)

        def tell(event: events.WorkerEvent) -> None:
            for listener in listeners:
                listener(event)

        try:
            yield tell
        except BaseException as error:
            if log is not None:
                log.failed(error)
            raise


def _write_text(event: events.WorkerEvent) -> None:
    if not (isinstance(event, events.Ended) and event.how in ("refused", "declined")):  # the command's error says it
        write_text(event, typer.echo)


def plain(why: str) -> str:
    """What libraries say of a connection that does not come about, in words for a worker's owner."""
    known = why.lower()
    if "authorization" in known:
        return "the server is there, but no manager of this run answers (it may be starting again)"
    if "not yet valid" in known or "has expired" in known:
        return "the server's certificate is not valid at the time that this machine's clock shows: is it right?"
    if "certificate" in known:
        return "the server shows another certificate than the invitation names"
    if "connect call failed" in known or "cannot connect" in known:
        return "the server cannot be reached"
    return why


class Watch:
    """Shows now and then what a worker process does and has earned, and at once that its connection is gone or back.

    It does so on a thread of its own, while its context lasts.

    Args:
        process: the worker process.
        link: its connection.
        books: its books.
        tell: gets the events.
        until: when it leaves, in seconds since 1970; 0 for never.
        also: is called about twice a second.
    """

    def __init__(
        self, process: Any, link: Any, books: Any, tell: events.WorkerListener, until: float, also: Callable[[], None]
    ) -> None:
        self._process, self._link, self._books = process, link, books
        self._tell, self._until, self._also = tell, until, also
        self._begun = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="podlt-watch", daemon=True)

    def __enter__(self) -> Self:
        """Begins to watch."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Shows nothing more but the totals that `ended` asks for."""
        self._stopped.set()
        self._thread.join()

    def ended(self, how: str, reason: str) -> events.Ended:
        """How it ended, with what it came to."""
        pending, vested, forfeited = self._books.totals()
        return events.Ended(
            how=how,
            reason=reason,
            seconds=round(time.monotonic() - self._begun, 3),
            tasks=self._tasks(),
            vested=vested,
            pending=pending,
            forfeited=forfeited,
        )

    def _watch(self) -> None:
        was, ever = False, False
        shown, said, last = time.monotonic(), False, None
        while not self._stopped.wait(LOOK_SECONDS):
            self._also()
            now, connected = time.monotonic(), self._link.connected
            if connected != was:
                self._tell(events.LinkUp(again=ever) if connected else events.LinkDown(reason=plain(self._link.why)))
                was, ever = connected, ever or connected
            elif not ever and not said and now - self._begun > SLOW_SECONDS:
                self._tell(events.LinkDown(reason=plain(self._link.why) or "no answer yet"))
                said = True
            if now - shown >= SHOW_SECONDS and ever:
                shown, progress = now, self._progress(connected)
                if progress != last:
                    last = progress
                    self._tell(progress)

    def _progress(self, connected: bool) -> events.Progress:
        pending, vested, forfeited = self._books.totals()
        return events.Progress(
            doing=self._process.doing,
            connected=connected,
            tasks=self._tasks(),
            vested=vested,
            pending=pending,
            forfeited=forfeited,
            until=self._until,
        )

    def _tasks(self) -> int:
        """How many tasks all identities did in this run."""
        return sum(worker.tasks for worker in self._books.status.workers.values())
