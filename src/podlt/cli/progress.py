"""How a run shows itself while it goes on: a bar on a terminal, plain lines elsewhere, JSON for scripts, or nothing."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from podlt.cli.options import console, shown
from podlt.manager import events as ev

EVERY = 5.0
"""Seconds between plain lines."""

WINDOW = 20
"""Rounds over which speed and loss are averaged for the eye."""


class Pace:
    """Speed and loss over the last rounds, and how much is left."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, float, float]] = deque(maxlen=WINDOW)

    def take(self, event: ev.RoundDone) -> None:
        """Takes a round into account."""
        self._recent.append((event.lines, event.seconds, event.loss))

    @property
    def speed(self) -> float:
        """Lines a second."""
        seconds = sum(s for _, s, _ in self._recent)
        return sum(n for n, _, _ in self._recent) / seconds if seconds else 0.0

    @property
    def loss(self) -> float:
        """The mean of the last rounds' losses."""
        return sum(loss for _, _, loss in self._recent) / max(1, len(self._recent))

    def left(self, rounds: int) -> float:
        """Seconds that so many rounds will take."""
        return rounds * sum(s for _, s, _ in self._recent) / max(1, len(self._recent))


def news(event: ev.Event) -> str | None:
    """What deserves a line of its own, in rich's markup."""
    if isinstance(event, ev.Started):
        verb = "going on" if event.resumed else "training"
        return (
            f"{verb}: {event.lines:,} lines, {event.epochs} epochs, {event.parameters:,} parameters, "
            f"{event.workers} workers in {event.processes} processes -> {shown(event.path)}"
        )
    if isinstance(event, ev.Evicted):
        how = {"vote": "two others agree on another result", "referee": "the manager's own execution differs"}
        return (
            f"[red]round {event.round}: worker {event.worker} evicted[/red] ({how.get(event.outcome, event.outcome)}); "
            f"it forfeits {event.forfeited:,} credits"
        )
    if isinstance(event, ev.Invited):
        return f"workers join with this line:\n\n    podlt worker {shown(event.invitation)}\n"
    if isinstance(event, ev.Joined):
        verb = "came back" if event.again else "joined"
        return f"worker {event.worker} {verb} ({shown(event.key[:16])}); {event.workers} are there"
    if isinstance(event, ev.Withdrawn):
        return f"[yellow]round {event.round}: worker {event.worker} withdrew[/yellow]: {shown(event.reason)}"
    if isinstance(event, ev.Replaced):
        who = f"{len(event.workers)} workers"
        return f"[yellow]process {event.process} ended ({event.status}) and was started again[/yellow] with {who}"
    if isinstance(event, ev.Unmeasured):
        return f"[yellow]epoch {event.epoch + 1}[/yellow]: {shown(event.reason)}"
    if isinstance(event, ev.Measured) and event.metrics:
        return f"[bold]epoch {event.epoch + 1}[/bold]: {metrics_text(event.metrics)}"
    return None


def _waiting(event: ev.Waiting) -> str:
    return f"waiting for workers: {event.workers} of {event.wanted} are there"


def metrics_text(metrics: dict[str, float]) -> str:
    """Figures on the test set, accuracy first, as a share in percent."""
    order = sorted(metrics, key=lambda name: (name != "accuracy", name == "loss", name))
    return ", ".join(f"{n} {metrics[n]:.2%}" if n == "accuracy" else f"{n} {metrics[n]:.4f}" for n in order)


@contextmanager
def listener(*, quiet: bool, as_json: bool) -> Iterator[ev.Listener]:
    """The listener that suits the options and the output."""
    if as_json:
        yield _json_line
    elif quiet:
        yield ev.ignore
    elif sys.stdout.isatty():
        with _bar() as listen:
            yield listen
    else:
        yield PlainLines(typer.echo)


def _json_line(event: ev.Event) -> None:
    typer.echo(msgspec.json.encode(event).decode())
    sys.stdout.flush()


class PlainLines:
    """A line every few seconds, for files and pipes.

    Args:
        write: prints a line; clock: seconds, monotonic.
    """

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._last = clock()
        self._stage = ""
        self._evicted = 0
        self._pace = Pace()

    def __call__(self, event: ev.Event) -> None:
        """Takes an event."""
        text = news(event)
        if text is not None:
            self._write(Console(width=1000, highlight=False).render_str(text).plain)
        if isinstance(event, ev.Preparing) and event.what != self._stage:
            self._stage = event.what
            self._write(f"{event.what} ...")
        elif isinstance(event, ev.Waiting) and self._stage != (stage := _waiting(event)):
            self._stage = stage
            self._write(f"{stage} ...")
        elif isinstance(event, ev.Gathered):
            self._stage = ""  # the next wait is news, even for as many
        elif isinstance(event, ev.Evicted):
            self._evicted += 1
        elif isinstance(event, ev.RoundDone):
            self._pace.take(event)
            if self._clock() - self._last >= EVERY:
                self._last = self._clock()
                self._write(self._line(event))

    def _line(self, event: ev.RoundDone) -> str:
        left = self._pace.left(event.rounds - event.round - 1)
        return (
            f"round {event.round + 1}/{event.rounds}  epoch {event.epoch + 1}  loss {self._pace.loss:.4f}  "
            f"{self._pace.speed:,.0f} lines/s  {event.workers} workers  {self._evicted} evicted  {left:,.0f} s left"
        )


@contextmanager
def _bar() -> Iterator[ev.Listener]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[facts]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(), refresh_per_second=8) as bar:
        yield Bar(bar, bar.add_task("starting", total=None, facts=""))


class Bar:
    """A progress bar with loss, speed and workers; news scroll by above it."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task
        self._evicted = 0
        self._pace = Pace()

    def __call__(self, event: ev.Event) -> None:
        """Takes an event."""
        text = news(event)
        if text is not None:
            self._bar.console.print(text)
        if isinstance(event, ev.Preparing):
            self._bar.update(self._task, description=event.what, completed=event.done, total=event.total or None)
        elif isinstance(event, ev.Waiting):
            self._bar.update(self._task, description=_waiting(event))
        elif isinstance(event, ev.Gathered):
            self._bar.update(self._task, description=f"{event.workers} workers are there")
        elif isinstance(event, ev.Started):
            self._bar.reset(self._task, description="training", total=event.rounds)
        elif isinstance(event, ev.Evicted):
            self._evicted += 1
        elif isinstance(event, ev.RoundDone):
            self._pace.take(event)
            facts = (
                f"loss {self._pace.loss:.4f}  {self._pace.speed:,.0f} lines/s  {event.workers} workers  "
                f"{self._evicted} evicted"
            )
            self._bar.update(
                self._task,
                description=f"epoch {event.epoch + 1}, round {event.round + 1}/{event.rounds}",
                completed=event.round + 1,
                total=event.rounds,
                facts=facts,
            )
