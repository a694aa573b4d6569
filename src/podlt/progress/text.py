"""Events as lines for people."""

from __future__ import annotations

from collections.abc import Callable

from podlt.events import Event


def write_text(event: Event, write: Callable[[str], object]) -> None:
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
