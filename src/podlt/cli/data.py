"""`podlt data`: fetch and describe the lines that a recipe trains on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from podlt.data.prepare import Prepared

data_app = typer.Typer(no_args_is_help=True, help="Fetch and describe the lines that a recipe trains on.")

Source = Annotated[
    str,
    typer.Argument(metavar="NAME|RECIPE", help="A named set (digits, mnist, fashion, census, austen), or a recipe."),
]


@data_app.command()
def fetch(source: Source) -> None:
    """Fetch a set, check its digests, and keep it prepared in the cache ($PODLT_CACHE or ~/.cache/podlt).

    Example: podlt data fetch mnist
    """
    prepared = _prepare(source)
    typer.echo(f"{prepared.source}: ready, root {prepared.train.root.hex()}")


@data_app.command()
def describe(source: Source) -> None:
    """Say how many lines there are, what is in them, and what a recipe can take from them as "@name".

    Example: podlt data describe my.toml
    """
    from podlt.data.describe import describe as describe_prepared

    prepared = _prepare(source)
    typer.echo(describe_prepared(prepared))
    typer.echo("  for a recipe's model.args: " + ", ".join(f"@{name}" for name in sorted(prepared.train.info)))


def _prepare(source: str) -> Prepared:
    from podlt.cli.recipes import find_recipe
    from podlt.data.named import NAMED
    from podlt.data.prepare import prepare
    from podlt.data.spec import DataSpec
    from podlt.recipe import load_recipe

    spec, base = DataSpec(source), Path()
    if source not in NAMED:
        path = find_recipe(source)
        spec, base = load_recipe(path).data, path.resolve().parent
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("preparing", total=None)
        return prepare(
            spec,
            None,
            lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
            base,
        )
