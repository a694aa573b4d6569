"""Events of a run, and of a worker, as lines: for people, as JSON for scripts, and in the log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

import msgspec
import typer


class Writable(Protocol):
    """What an event has for its writers; it is a struct with its name as the tag."""

    @property
    def name(self) -> str:
        """Its kind."""

    @property
    def lines_for_people(self) -> list[str]:
        """It as text, in lines."""


def write_json(event: Writable) -> None:
    """Prints an event as JSON, an object a line."""
    typer.echo(msgspec.json.encode(event).decode())
    sys.stdout.flush()


def write_text(event: Writable, write: Callable[[str], object] = typer.echo) -> None:
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
