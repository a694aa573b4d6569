"""`podlt recipe`, and the recipes that come with podlt, one TOML file each in this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from podlt.errors import UsageError
from podlt.store.run_names import LOG

recipe_app = typer.Typer(no_args_is_help=True, help="Begin a recipe of your own, or look at one.")

FOLDER = Path(__file__).parent
TEMPLATE = "template"
DATA_FILES = frozenset({".csv", ".tsv", ".jsonl", ".json", ".parquet", ".feather", ".arrow", ".npz", ".txt"})
"""What users have, and give where a recipe is expected."""


def known_recipes() -> list[str]:
    """The names of the recipes that come with podlt."""
    return sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem != TEMPLATE)


def find_recipe(name: str) -> Path:
    """The file that a recipe argument stands for: a path, or the name of a recipe that comes with podlt.

    Raises:
        UsageError: neither; says what it is instead.
    """
    path = Path(name)
    if path.suffix.lower() in DATA_FILES and path.is_file():
        raise UsageError(
            f"{name}: data, not a recipe; a recipe says how to train on them: podlt init {path.stem}.toml --data {name}"
        )
    if path.is_file():
        return path
    if (path / LOG).is_file():
        raise UsageError(f"{name}: a run, not a recipe; go on with it by --resume {name}")
    if path.is_dir() and name not in known_recipes():
        raise UsageError(f"{name}: a folder, not a recipe; if it is of data: podlt init {path.name}.toml --data {name}")
    if name in known_recipes():
        return FOLDER / f"{name}.toml"
    known = ", ".join(known_recipes())
    raise UsageError(
        f"{name}: no such recipe: expected a TOML file, or one of {known} (`podlt init` makes one for your data)"
    )


@recipe_app.command()
def new(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    like: Annotated[
        str, typer.Option("--from", metavar="NAME", help="Begin with: " + ", ".join([TEMPLATE, *known_recipes()]))
    ] = TEMPLATE,
) -> None:
    """Write a recipe to begin with, every field explained. An existing file is left alone."""
    from podlt.store.files import write_whole

    if like not in [TEMPLATE, *known_recipes()]:
        raise UsageError(f"--from {like}: expected one of {', '.join([TEMPLATE, *known_recipes()])}")
    if path.exists():
        raise UsageError(f"{path}: there is a file already")
    write_whole(path, (FOLDER / f"{like}.toml").read_bytes())
    typer.echo(f"{path}: edit it, then: podlt train {path}")


@recipe_app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="A TOML file, or " + ", ".join(known_recipes()))],
) -> None:
    """Check a recipe, and print it with every default filled in, and its digest."""
    import json

    import msgspec

    from podlt.recipe import load_recipe

    recipe = load_recipe(find_recipe(name))
    typer.echo(json.dumps(msgspec.to_builtins(recipe), indent=2))
    typer.echo(f"digest {recipe.digest().hex()}", err=True)


@recipe_app.command("list")
def list_recipes() -> None:
    """List the recipes that come with podlt."""
    for name in known_recipes():
        first = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").partition("\n")[0]
        typer.echo(f"{name:10}  {first.lstrip('# ')}")
