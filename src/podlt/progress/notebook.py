"""A panel in a notebook: one output of a cell, which is changed while the run goes on. It needs no widgets."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from html import escape
from typing import Any, Protocol

from podlt.manager import events as ev
from podlt.progress.terminal import RecentRounds
from podlt.progress.text import write_text

EVERY = 0.25
"""Seconds between changes: a notebook keeps each of them for a moment, and its server sends them all."""

NEWS = 6
"""The last lines for people that are shown."""


class HtmlText:
    """A text that a notebook shows as HTML.

    Args:
        html: it.
    """

    def __init__(self, html: str) -> None:
        self._html = html

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return "the progress of a run (HTML)"


class DisplayHandle(Protocol):
    """What IPython gives for an output that can be changed."""

    def update(self, value: Any) -> None:
        """Shows something else in its place."""


Display = Callable[[Any], DisplayHandle]
"""Shows an object in the cell that runs, and gives the handle by which it is changed."""


class NotebookPanel:
    """A bar, loss, speed and workers, and the last news, in one output.

    Args:
        display: shows it.
        clock: seconds, monotonic.
    """

    def __init__(self, display: Display, clock: Callable[[], float] = time.monotonic) -> None:
        self._display, self._clock = display, clock
        self._handle: DisplayHandle | None = None
        self._shown = -EVERY
        self._stage, self._facts, self._done, self._total, self._convicted = "starting", "", 0, 0, 0
        self._news: deque[str] = deque(maxlen=NEWS)
        self._recent = RecentRounds()
        self._handlers: ev.Handlers = {
            ev.Preparing: self._prepare,
            ev.Waiting: lambda event: self._at(f"waiting for workers: {event.workers} of {event.wanted}", 0, 0),
            ev.Started: lambda event: self._at("training", 0, event.rounds),
            ev.Convicted: lambda event: self._count(),
            ev.RoundDone: self._round,
            ev.Finished: lambda event: self._at(f"done in {event.seconds:,.1f} s", event.rounds, event.rounds),
        }

    def __call__(self, event: ev.Event) -> None:
        """Takes an event."""
        write_text(event, self._news.append)
        ev.handle(self._handlers, event)
        now = self._clock()
        if now - self._shown >= EVERY or isinstance(event, ev.Finished):
            self._shown = now
            self._show()

    def html(self) -> str:
        """The panel as it is now."""
        share = 100 * self._done / self._total if self._total else 0
        bar = (
            '<div style="background:#8884;border-radius:3px;max-width:40em">'
            f'<div style="width:{share:.1f}%;height:6px;background:#2a7;border-radius:3px"></div></div>'
        )
        news = "".join(f"<div>{escape(line)}</div>" for line in self._news)
        return (
            f'<div style="font-family:monospace;white-space:pre-wrap"><b>{escape(self._stage)}</b>  '
            f"{escape(self._facts)}{bar}{news}</div>"
        )

    def _show(self) -> None:
        text = HtmlText(self.html())
        if self._handle is None:
            self._handle = self._display(text)
        else:
            self._handle.update(text)

    def _at(self, stage: str, done: int, total: int) -> None:
        self._stage, self._done, self._total = stage, done, total

    def _prepare(self, event: ev.Preparing) -> None:
        self._at(event.what, event.done, event.total)

    def _count(self) -> None:
        self._convicted += 1

    def _round(self, event: ev.RoundDone) -> None:
        self._recent.add(event)
        self._at(f"epoch {event.epoch + 1}, round {event.round + 1}/{event.rounds}", event.round + 1, event.rounds)
        left = self._recent.left(event.rounds - event.round - 1)
        self._facts = f"{self._recent.facts(event, self._convicted)}  {left:,.0f} s left"
