"""`podlt init`: a recipe for one's own data, after three questions or as many options."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from podlt.errors import UsageError

if TYPE_CHECKING:
    from podlt.draft.drafting import Wishes
    from podlt.draft.source import Source

OWN = "Your model"

SHOWN_COLUMNS = 40
"""Of a table, in a question."""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the recipe.")] = Path("my.toml"),
    data: Annotated[
        str,
        typer.Option(metavar="PATH|NAME", help="Question 1: the data: a file, a folder of images, or a named set."),
    ] = "",
    label: Annotated[
        str,
        typer.Option(metavar="COLUMN", help="Question 2: what to predict: a column of a table, an array of an npz."),
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            metavar="MODULE:CALLABLE",
            rich_help_panel=OWN,
            help="Question 3: your own model, such as net:build for net.py beside the recipe; else one of podlt's.",
        ),
    ] = "",
    arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            rich_help_panel=OWN,
            help="An argument of it that the data do not say. May be repeated.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="How many workers.")] = 8,
    epochs: Annotated[
        int,
        typer.Option(min=0, metavar="N", show_default=False, help="Passes over the data; about 240 rounds."),
    ] = 0,
) -> None:
    """Write a recipe for your data, with comments, that `podlt train` takes as it is.

    Looks at the data, asks what it cannot see (which data, what to predict, which model), tries the model on a few
    examples, and writes the recipe. An existing file is left alone. Without a terminal nothing is asked: --data, and
    for tables and arrays --label, must be given.
    """
    from podlt.draft.drafting import Wishes
    from podlt.draft.source import look
    from podlt.recipe_changes import read_changes

    if file.exists():
        raise UsageError(f"{file}: there is a file already: choose another name, or move it away")
    if not file.parent.is_dir():
        raise UsageError(f"{file}: there is no folder {file.parent}")
    base, asks = file.resolve().parent, is_terminal()
    source = look(_from(base, data), base) if data else _ask_source(base, asks)
    predicted = label or _ask_label(source, asks)
    chosen = model or (_ask_model() if asks and not data else "")
    wishes = Wishes(predicted, chosen, read_changes(arg or (), "--arg"), workers, epochs)
    for line in _drafted(file, base, source, wishes):
        typer.echo(line)


def is_terminal() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _from(base: Path, named: str) -> str:
    """What the recipe calls the data: relative to its own folder, where the path is relative here."""
    from podlt.data.named import NAMED

    path = Path(named).expanduser()
    return named if named in NAMED or path.is_absolute() else os.path.relpath(path.absolute(), base)


def _ask_source(base: Path, asks: bool) -> Source:
    """The data that the user names; asked again while they cannot be read."""
    from podlt.data.named import NAMED
    from podlt.draft.source import look

    if not asks:
        raise UsageError("no terminal to ask on: say --data PATH (a file, a folder of images, or a named set)")
    typer.echo(f"Data are a table, an npz, a text, a folder of images, or one of: {', '.join(sorted(NAMED))}.")
    while True:
        try:
            return look(_from(base, str(typer.prompt("1. Which data")).strip()), base)
        except UsageError as error:
            typer.echo(f"{error}")


def _ask_label(source: Source, asks: bool) -> str:
    if not source.candidates:
        return ""
    known = ", ".join(source.candidates[:SHOWN_COLUMNS])
    if not asks:
        raise UsageError(f"--label: say what to predict; {source.spec.source} has: {known}")
    typer.echo(f"It has: {known}.")
    while True:
        answer = str(typer.prompt("2. What to predict", default=source.likely)).strip()
        if answer in source.candidates:
            return answer
        typer.echo(f"expected one of: {known}")


def _ask_model() -> str:
    question = "3. A model of your own (module:callable), or Enter for one of podlt's"
    return str(typer.prompt(question, default="", show_default=False)).strip()


def _drafted(file: Path, base: Path, source: Source, wishes: Wishes) -> list[str]:
    """Writes the recipe, and returns what to tell of it."""
    from podlt.data.describe import warnings_of
    from podlt.draft.drafting import draft
    from podlt.store.files import write_whole

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("preparing", total=None)

        def progress(what: str, done: int, total: int | None) -> None:
            bar.update(task, description=what, completed=done, total=total)

        found = draft(str(file), base, source, wishes, progress)
    write_whole(file, found.text.encode())
    prepared = found.prepared
    test = prepared.test.examples if prepared.test is not None else 0
    return [
        f"{file}: {prepared.train.examples:,} examples to train on, {test:,} to test on",
        f"model: {found.model}, {found.parameters:,} parameters; tried on a few examples",
        *(f"note: {note}" for note in prepared.notes),
        *([f"note: left out: {', '.join(found.dropped)}: constant, or texts of their own"] if found.dropped else []),
        *(f"warning: {warning}" for warning in warnings_of(prepared)),
        f"next: podlt train {file}",
    ]
