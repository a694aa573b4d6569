"""A bar on a terminal, or a plain line every few seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from podlt.manager import events as ev
from podlt.progress.text import write_text
from podlt.words import counted

EVERY = 5.0
"""Seconds between plain lines."""

NARROW = 120
"""Columns below which a bar shows the round, the loss and the time that is left only."""

WINDOW = 20
"""Rounds over which speed and loss are averaged for the eye."""

STYLES: dict[type[ev.Event], str] = {
    ev.Convicted: "red",
    ev.Withdrawn: "yellow",
    ev.Replaced: "yellow",
    ev.Unmeasured: "yellow",
    ev.Notice: "yellow",
    ev.WitnessFailed: "yellow",
    ev.Measured: "bold",
}
"""How a terminal shows an event's lines."""


class RecentRounds:
    """Speed and loss over the last rounds, and how much is left."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, float, float]] = deque(maxlen=WINDOW)
        self._workers = 0

    def add(self, event: ev.RoundDone) -> str:
        """Takes a round into account; returns what its workers make news, if anything."""
        self._recent.append((event.examples, event.seconds, event.loss))
        were, self._workers = self._workers, event.workers
        if were > 1 and event.workers == 1:
            return f"round {event.round}: one worker is left: nothing is compared with another's until more are there"
        return ""

    @property
    def speed(self) -> float:
        """Examples a second."""
        seconds = sum(s for _, s, _ in self._recent)
        return sum(n for n, _, _ in self._recent) / seconds if seconds else 0.0

    @property
    def loss(self) -> float:
        """The mean of the last rounds' losses."""
        return sum(loss for _, _, loss in self._recent) / max(1, len(self._recent))

    def left(self, rounds: int) -> float:
        """Seconds that so many rounds will take."""
        return rounds * sum(s for _, s, _ in self._recent) / max(1, len(self._recent))

    def facts(self, event: ev.RoundDone, convicted: int) -> str:
        """Loss, speed and workers after a round."""
        there = counted(event.workers, "worker")
        return f"loss {self.loss:.4f}  {self.speed:,.0f} examples/s  {there}  {convicted} convicted"


class PlainLines:
    """A line every few seconds, for files and pipes; what is for people at once.

    Args:
        write: prints a line.
        clock: seconds, monotonic.
    """

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._last = clock()
        self._stage = ""
        self._convicted = 0
        self._recent = RecentRounds()
        self._handlers: ev.Handlers = {
            ev.Preparing: lambda event: self._begin(event.what),
            ev.Waiting: lambda event: self._begin(_waiting(event)),
            ev.Gathered: lambda event: self._end(),
            ev.Convicted: lambda event: self._count(),
            ev.RoundDone: self._round,
        }

    def __call__(self, event: ev.Event) -> None:
        """Takes an event."""
        write_text(event, self._write)
        ev.handle(self._handlers, event)

    def _begin(self, stage: str) -> None:
        if stage != self._stage:
            self._stage = stage
            self._write(f"{stage} ...")

    def _end(self) -> None:
        self._stage = ""  # the next wait is news, even for as many

    def _count(self) -> None:
        self._convicted += 1

    def _round(self, event: ev.RoundDone) -> None:
        if news := self._recent.add(event):
            self._write(news)
        if self._clock() - self._last >= EVERY:
            self._last = self._clock()
            left = self._recent.left(event.rounds - event.round - 1)
            self._write(
                f"{event.round + 1}/{counted(event.rounds, 'round')}  epoch {event.epoch + 1}  "
                f"{self._recent.facts(event, self._convicted)}  {left:,.0f} s left"
            )


class Bar:
    """A progress bar with loss, speed and workers; what is for people scrolls by above it.

    Args:
        bar: its own console prints.
        task: of the bar.
    """

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task
        self._convicted = 0
        self._recent = RecentRounds()
        self._handlers: ev.Handlers = {
            ev.Preparing: self._prepare,
            ev.Waiting: lambda event: self._describe(_waiting(event)),
            ev.Gathered: lambda event: self._describe(f"{counted(event.workers, 'worker')} there"),
            ev.Started: lambda event: bar.reset(task, description="training", total=event.rounds, facts="", left=""),
            ev.Convicted: lambda event: self._count(),
            ev.RoundDone: self._round,
        }

    def __call__(self, event: ev.Event) -> None:
        """Takes an event."""
        style = STYLES.get(type(event))
        write_text(event, lambda line: self._bar.console.print(escape(line), style=style))
        ev.handle(self._handlers, event)

    def _describe(self, text: str) -> None:
        self._bar.update(self._task, description=text)

    def _count(self) -> None:
        self._convicted += 1

    def _prepare(self, event: ev.Preparing) -> None:
        self._bar.update(self._task, description=event.what, completed=event.done, left="")
        shown = next(each for each in self._bar.tasks if each.id == self._task)
        shown.total = event.total or None  # `update` takes None for what was before

    def _round(self, event: ev.RoundDone) -> None:
        if news := self._recent.add(event):
            self._bar.console.print(news, style="yellow")
        is_narrow = self._bar.console.width < NARROW
        left = timedelta(seconds=round(self._recent.left(event.rounds - event.round - 1)))
        self._bar.update(
            self._task,
            description=f"epoch {event.epoch + 1}, {event.round + 1}/{counted(event.rounds, 'round')}",
            completed=event.round + 1,
            total=event.rounds,
            facts=f"loss {self._recent.loss:.4f}" if is_narrow else self._recent.facts(event, self._convicted),
            left=f"{left} left",
        )


@contextmanager
def progress_bar(console: Console) -> Iterator[ev.Listener]:
    """The listener of a bar, which is there while the context lasts.

    Args:
        console: a terminal.
    """
    wide = (BarColumn(bar_width=None), TimeElapsedColumn()) if console.width >= NARROW else ()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *wide,
        TextColumn("{task.fields[facts]}"),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=8) as bar:
        yield Bar(bar, bar.add_task("starting", total=None, facts="", left=""))


def _waiting(event: ev.Waiting) -> str:
    return f"waiting for workers: {event.workers} of {event.wanted} are there"
