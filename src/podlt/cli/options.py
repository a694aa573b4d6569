"""What all commands share: options, the terminal, and how an argument reaches the page."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, TextIO, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from podlt.progress.text import printable

_PADDING = re.compile(r" +(?=\n)")


@dataclass
class Options:
    """What holds for the whole command line.

    Attributes:
        debug: show tracebacks.
        hint: what to try next if the command ends with an error.
        remains: what is kept, and what to try next, if it is interrupted and there is no hint.
    """

    debug: bool = False
    hint: str = ""
    remains: str = ""


RunArgument = Annotated[Path, typer.Argument(help="The run's directory, as `podlt train` made it.", metavar="RUN")]
RunFilesArgument = Annotated[
    Path, typer.Argument(help="A run's directory, a bundle of it (`podlt bundle`), or its log.db.", metavar="RUN")
]
MOVED = "Files that moved"
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        rich_help_panel=MOVED,
        help="Where the data are now: the source file, or a folder that has the recipe's files in it.",
    ),
]
CodeOption = Annotated[
    Path | None,
    typer.Option(
        "--code",
        metavar="DIR",
        rich_help_panel=MOVED,
        help="The folder that has the model's module, which the recipe names, in it now.",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def options_of(context: typer.Context) -> Options:
    """The options that `run` made for this call."""
    return context.ensure_object(Options)


class _Trimmed:
    """A text file whose lines end where their text does: tables are padded for a terminal's eye only.

    Args:
        file: where it goes.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Writes whole lines, as rich prints them."""
        return self._file.write(_PADDING.sub("", text))


def console() -> Console:
    """Standard output: colours and boxes on a terminal, plain and unbroken lines elsewhere."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=160, file=cast(IO[str], _Trimmed(sys.stdout)))


def short(digest: bytes) -> str:
    """The beginning of a digest or key, enough to recognise it."""
    return digest.hex()[:16]


def shown(text: str) -> str:
    """Text that a log brought, as rich may print it: a terminal's control codes and rich's markup are taken out."""
    return escape(printable(text))


def print_facts(facts: dict[str, str], out: Console) -> None:
    """Names and values, one pair a line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    out.print(table)
