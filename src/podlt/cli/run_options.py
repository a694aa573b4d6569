"""The options that say which run: a new one of a recipe, or one that is resumed; and with how many workers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from podlt.cli.options import CodeOption, DataOption
from podlt.cli.store import StoreOption
from podlt.errors import UsageError

NEW = "A new run"


@dataclass(frozen=True)
class RunOptions:
    """Which run."""

    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="A TOML file, or a name of `podlt recipe list`; none with --resume."),
    ] = None
    run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=NEW, help="The directory to make; runs/NAME-TIME by default."),
    ] = None
    store: StoreOption = ""
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Resume the run in this directory, instead of a new one.")
    ] = None
    data: DataOption = None
    code: CodeOption = None
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            show_default=False,
            rich_help_panel="Workers",
            help="How many workers: so many are made, or waited for; by default as the recipe says.",
        ),
    ] = 0

    set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE",
            help="Another value of a field of the recipe, such as training.epochs=3; may be repeated. With --resume "
            "training.epochs and optimizer.* can change, and the log says so; a complete run is opened again.",
        ),
    ] = None

    def check(self) -> None:
        """Refuses options that exclude each other.

        Raises:
            UsageError: neither or both of a recipe and a run, or an option of the other kind.
        """
        if (self.recipe is None) == (self.resume is None):
            raise UsageError("expected a recipe, or --resume RUN; see --help")
        if self.resume is not None and self.run is not None:
            raise UsageError("--run is for new runs, not for --resume")
        if self.resume is None and (self.data is not None or self.code is not None):
            raise UsageError("--data and --code are for --resume; a new run takes what its recipe says")
        if self.resume is None:
            self._check_place(self.run if self.run is not None else Path("runs") / "new")

    def _check_place(self, run: Path) -> None:
        """Refuses a place in which no run can be made, before anything that takes long.

        Raises:
            UsageError: says why.
        """
        above = next((folder for folder in run.absolute().parents if folder.exists()), Path("/"))
        if not above.is_dir():
            raise UsageError(f"{run}: {above} is a file: choose another place by --run DIR")
        if not os.access(above, os.W_OK | os.X_OK):
            raise UsageError(f"{run}: {above} cannot be written: choose another place by --run DIR")
