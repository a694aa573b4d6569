"""How a worker shows itself to its owner: lines, JSON for scripts, a log for programs; and what it does meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import typer

from podlt.monitoring.setup import Operations, event_log_of
from podlt.network.worker import events

LOOK_SECONDS = 0.5
SHOW_SECONDS = 10.0
SLOW_SECONDS = 5.0
"""After so long without a first connection, it is worth saying why."""


@contextmanager
def telling(asked: Operations, *, quiet: bool, as_json: bool) -> Iterator[events.WorkerListener]:
    """Gives what has to be told everything, and passes it on to whoever is there to hear it.

    Raises:
        UsageError: an option of the log is malformed, its file cannot be written, or a package is missing.
    """
    with ExitStack() as stack:
        tellers: list[events.WorkerListener] = [_as_json if as_json else _as_text] if as_json or not quiet else []
        log = event_log_of(asked, stack)
        if log is not None:

            def write(event: events.WorkerEvent) -> None:
                fields = {name: value for name, value in msgspec.to_builtins(event).items() if name != "event"}
                level = logging.WARNING if isinstance(event, events.WORTH_A_WARNING) else logging.INFO
                log.say(event.name, level, **fields)

            tellers.append(write)

        def tell(event: events.WorkerEvent) -> None:
            for teller in tellers:
                teller(event)

        try:
            yield tell
        except BaseException as error:
            if log is not None:
                log.failed(error)
            raise


def _as_json(event: events.WorkerEvent) -> None:
    typer.echo(msgspec.json.encode(event).decode())


def _as_text(event: events.WorkerEvent) -> None:
    if isinstance(event, events.Ended) and event.how in ("refused", "declined"):
        return  # the error that ends the command says it
    for line in event.lines_for_people:
        typer.echo("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line))


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
    """Tells now and then what a crew does and has earned, and at once that its connection is gone or there again.

    Args:
        crew, link, journal: the worker's; tell: is told; until: when it leaves, in seconds since 1970, 0 for never;
        also: is called about twice a second.
    """

    def __init__(
        self, crew: Any, link: Any, journal: Any, tell: events.WorkerListener, until: float, also: Callable[[], None]
    ) -> None:
        self._crew, self._link, self._journal = crew, link, journal
        self._tell, self._until, self._also = tell, until, also
        self._begun = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="podlt-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tells nothing more but the totals that `ended` asks for."""
        self._stopped.set()
        self._thread.join()

    def ended(self, how: str, reason: str) -> events.Ended:
        """How it ended, with what it came to."""
        pending, vested, forfeited = self._journal.totals()
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
        pending, vested, forfeited = self._journal.totals()
        return events.Progress(
            doing=self._crew.doing,
            connected=connected,
            tasks=self._tasks(),
            vested=vested,
            pending=pending,
            forfeited=forfeited,
            until=self._until,
        )

    def _tasks(self) -> int:
        """How many tasks all identities did in this run."""
        return sum(worker.tasks for worker in self._journal.status.workers.values())
