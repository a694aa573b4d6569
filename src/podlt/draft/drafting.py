"""A recipe for a source of data: its columns chosen, its examples prepared, its model tried."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from podlt.data.arrays import Progress
from podlt.data.prepare import Prepared, prepare
from podlt.draft.choices import ModelChoice, choose_model, choose_plan, shapes, spec_of
from podlt.draft.source import Source
from podlt.draft.text import recipe_text
from podlt.draft.trial import own_arguments, try_recipe
from podlt.errors import UsageError
from podlt.recipe import Recipe

OWN_RATE = 0.003
"""The learning rate that a model of the user's begins with."""


class Wishes(msgspec.Struct, frozen=True):
    """What a user said.

    Attributes:
        label: what to predict; "" where the source says it itself.
        model: their own, as `module:callable`; "" for one of podlt's.
        arguments: of the model, by name.
        workers: how many.
        epochs: passes over the data; 0 for what makes a short first run.
    """

    label: str = ""
    model: str = ""
    arguments: Mapping[str, Any] = {}
    workers: int = 8
    epochs: int = 0


class DraftedRecipe(msgspec.Struct, frozen=True):
    """A recipe that was tried.

    Attributes:
        text: TOML, with comments.
        model: `module:callable`.
        parameters: how many it has.
        prepared: the examples.
        dropped: columns that are left out.
    """

    text: str
    model: str
    parameters: int
    prepared: Prepared
    dropped: tuple[str, ...] = ()


def draft(name: str, base: Path, source: Source, wishes: Wishes, progress: Progress | None = None) -> DraftedRecipe:
    """Drafts a recipe.

    Args:
        name: of its file, for its comments.
        base: the folder that it is to stand in.
        source: its data, looked at.
        wishes: what its user said.
        progress: called while the examples are prepared.

    Raises:
        UsageError: the examples cannot be predicted from, or no model takes them; says what to do.
        DataError: an example is malformed.
    """
    spec = spec_of(source, wishes.label)
    prepared = prepare(spec, None, progress, base)
    choice = _model(choose_model(spec, prepared), wishes, base, prepared)
    plan = choose_plan(prepared.train.examples, wishes.workers, wishes.epochs)
    text = recipe_text(name, spec, prepared, choice, plan)
    recipe = msgspec.convert(tomllib.loads(text), Recipe)
    dropped = tuple(map(str, spec.drop))
    return DraftedRecipe(text, choice.name, try_recipe(recipe, base, prepared), prepared, dropped)


def _model(suggested: ModelChoice | None, wishes: Wishes, base: Path, prepared: Prepared) -> ModelChoice:
    given = dict(wishes.arguments)
    if wishes.model:
        args = own_arguments(wishes.model, base, prepared, given)
        loss, metrics = (suggested.loss, suggested.metrics) if suggested is not None else ("cross_entropy", ())
        return ModelChoice(wishes.model, args, loss, OWN_RATE, metrics)
    if suggested is None:
        raise UsageError(
            f"podlt.models has no model for {shapes(prepared)}: give one of your own by --model module:callable"
        )
    return msgspec.structs.replace(suggested, args=suggested.args | given)
