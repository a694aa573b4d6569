"""`podlt data`: fetch and describe the examples that a recipe trains on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from podlt.data.prepare import Prepared
    from podlt.recipe import Recipe, TrainingSpec

data_app = typer.Typer(no_args_is_help=True, help="Fetch and describe the examples that a recipe trains on.")

Source = Annotated[
    str,
    typer.Argument(metavar="NAME|RECIPE", help="A named set (digits, mnist, fashion, census, austen), or a recipe."),
]


@data_app.command()
def fetch(source: Source) -> None:
    """Fetch a set, check its digests, and keep it prepared in the cache ($PODLT_CACHE or ~/.cache/podlt)."""
    prepared, _ = _prepare(source)
    typer.echo(f"{prepared.source}: ready, root {prepared.train.root.hex()}")


@data_app.command()
def describe(source: Source) -> None:
    """Say how many examples there are, what is in them, and what a recipe can take from them as "@name"."""
    from podlt.data.describe import describe as describe_prepared
    from podlt.data.describe import precision_warnings, said_of

    prepared, recipe = _prepare(source)
    typer.echo(describe_prepared(prepared))
    if recipe is not None:
        lost = precision_warnings(prepared.train, recipe.digits) if recipe.arithmetic == "exact" else []
        for sentence in [*(f"warning: {what}" for what in lost), *_dealt(prepared, recipe.training)]:
            typer.echo(f"  {sentence}")
    typer.echo("  for a recipe's model.args: " + said_of(prepared.train.info))


def _dealt(prepared: Prepared, training: TrainingSpec) -> list[str]:
    """What a recipe makes of the examples: how many go to a worker at once, and in a whole run."""
    examples, useful = prepared.train.examples, max(1, training.workers - 2)
    batch = min(training.batch_size, examples)
    if training.shard_size:
        batch = min(batch, useful * training.shard_size)
    sentences = []
    if batch < 2 * useful:
        sentences.append(
            f"warning: shards of one line: {batch:,} examples a round over {useful:,} useful workers; what needs "
            "several examples at once (BatchNorm) will not train: raise training.batch_size, or lower training.workers"
        )
    dealt = examples * training.epochs * (useful + 2) // useful  # a random shard is dealt to two more
    seen = dealt // training.workers
    sentences.append(
        f"dealt: {-(-batch // useful):,} examples to a worker a round, about {seen:,} in the whole run "
        f"({training.epochs:,} epochs, {training.workers:,} workers)"
    )
    return sentences


def _prepare(source: str) -> tuple[Prepared, Recipe | None]:
    """The prepared examples of a named set, or of a recipe, with the recipe."""
    from podlt.cli.recipes import find_recipe
    from podlt.data.named import NAMED
    from podlt.data.prepare import prepare
    from podlt.data.spec import DataSpec
    from podlt.recipe import load_recipe

    spec, base, recipe = DataSpec(source), Path(), None
    if source not in NAMED:
        path = find_recipe(source)
        recipe = load_recipe(path)
        spec, base = recipe.data, path.resolve().parent
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("preparing", total=None)
        prepared = prepare(
            spec,
            None,
            lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
            base,
        )
    return prepared, recipe
