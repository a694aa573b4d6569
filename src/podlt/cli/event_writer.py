"""Events of a run, and of a worker, as lines: for people, as JSON for scripts, and in the log."""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec
import typer

from podlt.events import Event


def write_json(event: Event) -> None:
    """Prints an event as JSON, an object a line."""
    typer.echo(msgspec.json.encode(event).decode())
    sys.stdout.flush()


def write_text(event: Event, write: Callable[[str], object] = typer.echo) -> None:
    """Prints an event for people, if it is for them.

    Args:
        event: its text may be a stranger's: it neither ends a line nor steers a terminal.
        write: prints a line.
    """
    for line in event.lines_for_people:
        write(printable(line))


def printable(text: str) -> str:
    """Text without control codes."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
