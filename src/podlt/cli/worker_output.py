"""How a worker shows itself to its owner: lines, JSON for scripts, a log for programs; and what it does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from podlt.cli.event_writer import write_json
from podlt.cli.monitoring_options import LogOptions
from podlt.monitoring.setup import event_log_of
from podlt.progress.text import write_text
from podlt.worker import events

if TYPE_CHECKING:
    from podlt.dashboard.companion import DashboardCompanion
    from podlt.worker.session import WorkerSession

SHOW_SECONDS, PAGE_SECONDS = 10.0, 1.0
SLOW_SECONDS = 5.0
"""After so long without a first connection, it is worth saying why."""


@contextmanager
def worker_output(watching: LogOptions, page: DashboardCompanion | None = None) -> Iterator[events.WorkerListener]:
    """The listener of a worker process: prints events as the options ask for, writes the log, and tells the page.

    Args:
        watching: the options.
        page: that shows the worker, if there is one.

    Raises:
        UsageError: an option of the log is malformed, its file cannot be written, or a package is missing.
    """
    with ExitStack() as stack:
        listeners: list[events.WorkerListener] = []
        if watching.as_json:
            listeners.append(write_json)
        elif not watching.quiet:
            listeners.append(_write_text)
        if page is not None:
            listeners.append(page)
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
    if "not yet valid" in known or "has expired" in known:
        return "the server's certificate is not valid at the time that this machine's clock shows: is it right?"
    if "certificate" in known:
        return "the server shows another certificate than the invitation names"
    if "connect call failed" in known or "cannot connect" in known:
        return "the server cannot be reached (is the manager running, and its port open?)"
    return why


class Watch:
    """Shows now and then what a worker process does and has earned, and at once that its connection is gone or back.

    Args:
        session: of the worker process.
        link: its connection.
        tell: gets the events.
        until: when it leaves, in seconds since 1970; 0 for never.
        page: that shows the worker, if there is one.
    """

    def __init__(
        self,
        session: WorkerSession,
        link: Any,
        tell: events.WorkerListener,
        until: float,
        page: DashboardCompanion | None = None,
    ) -> None:
        self._page, self._paged = page, 0.0
        self._session, self._books, self._link = session, session.books, link
        self._tell, self._until = tell, until
        self._begun = self._shown = time.monotonic()
        self._was = self._ever = self._said = False
        self._last: events.Progress | None = None

    def ended(self, how: str, reason: str) -> events.Ended:
        """How it ended, with what it came to; the page, if there is one, has the same figures then."""
        if self._page is not None:
            self._show(self._page, self._link.connected)
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

    def look(self) -> None:
        """Looks, and tells what is worth it; to be called a few times a second."""
        now, connected = time.monotonic(), self._link.connected
        if connected != self._was:
            plainly = plain(self._link.why)
            self._tell(events.LinkUp(again=self._ever) if connected else events.LinkDown(reason=plainly))
            self._was, self._ever = connected, self._ever or connected
        elif not self._ever and not self._said and now - self._begun > SLOW_SECONDS:
            self._tell(events.LinkDown(reason=plain(self._link.why) or "no answer yet"))
            self._said = True
        if self._page is not None and now - self._paged >= PAGE_SECONDS:
            self._paged = now
            self._show(self._page, connected)
        if now - self._shown >= SHOW_SECONDS and self._ever:
            self._shown, progress = now, self._progress(connected)
            if progress != self._last:
                self._last = progress
                self._tell(progress)

    def _show(self, page: DashboardCompanion, connected: bool) -> None:
        """Tells the page what its owner sees of it at any time."""
        page(self._progress(connected))
        page.say({"event": "status", "workers": msgspec.to_builtins(self._books.status.workers)})

    def _progress(self, connected: bool) -> events.Progress:
        pending, vested, forfeited = self._books.totals()
        return events.Progress(
            doing=self._session.doing,
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
