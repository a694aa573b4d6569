"""Single fields of a recipe, set from the command line."""

from __future__ import annotations

from typing import Any

import pytest
from small_runs import tiny_recipe

from podlt.errors import UsageError
from podlt.recipe_changes import changed, read_changes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.epochs=3", ("training.epochs", 3)),
        ("optimizer.lr = 3e-4", ("optimizer.lr", 3e-4)),
        ("loss.name=mse", ("loss.name", "mse")),
        ('model.args.act="re lu"', ("model.args.act", "re lu")),
        ("optimizer={name='sgd', lr=0.1}", ("optimizer", {"name": "sgd", "lr": 0.1})),
        ("model.name=my.code:net", ("model.name", "my.code:net")),
        ("data.standardise=false", ("data.standardise", False)),
    ],
)
def test_a_value_is_toml_and_a_bare_word_is_a_text(text: str, expected: tuple[str, Any]) -> None:
    assert read_changes([text]) == dict([expected])


@pytest.mark.parametrize("text", ["training.epochs", "=3", "x=", "x=[1,", "x=a b", "x=1\ny=2"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        read_changes([text])


def test_fields_change_and_nothing_else_does() -> None:
    recipe = tiny_recipe()
    after = changed(recipe, {"training.epochs": 7, "optimizer.lr": 0.5, "model.args.hidden": 3})
    assert after.training.epochs == 7 and after.optimizer == {"name": "sgd", "lr": 0.5, "momentum": 0.9}
    assert after.model.args["hidden"] == 3 and after.data == recipe.data
    assert changed(after, {"training.epochs": 1, "optimizer.lr": 0.1, "model.args.hidden": 16}) == recipe
    assert changed(recipe, {}) is recipe


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training.epoch": 1}, "no field 'training.epoch'; the nearest is training.epochs"),
        ({"seed": 1}, "no field 'seed'; there are data.seed and training.seed"),
        ({"model.seed": 1}, "there are data.seed and training.seed"),
        ({"trainings.epochs": 1}, "the nearest is training.epochs"),
        ({"lr": 1}, "no field 'lr'"),
        ({"training.epochs": "two"}, "--set: training.epochs: expected a whole number, got a text"),
        ({"training.workers": 0}, "--set: training.workers: expected a whole number >= 1"),
        ({"optimizer.lr.x": 2}, "lr is a value, not a table"),
        ({"data.missing": "average"}, "data.missing: expected one of error, drop, mean, category, got 'average'"),
        ({"data.size": [3]}, "data.size: expected a list of length 2, got 1"),
    ],
)
def test_a_field_that_is_not_there_is_refused_with_the_nearest(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        changed(tiny_recipe(), changes)
