"""A drafted recipe as TOML with comments."""

from __future__ import annotations

import json
from typing import Any

from podlt.data.prepare import Prepared
from podlt.data.spec import DataSpec
from podlt.draft.choices import DealingPlan, ModelChoice

_COLUMN = 42
"""Where the comments begin."""

_LONGEST = 8
"""Names that a comment lists."""


def recipe_text(name: str, spec: DataSpec, prepared: Prepared, model: ModelChoice, plan: DealingPlan) -> str:
    """The recipe.

    Args:
        name: of its file.
        spec: its `[data]`.
        prepared: the lines.
        model: its model, loss and optimiser.
        plan: its `[training]`.
    """
    train, test = prepared.train, prepared.test
    rounds = -(-train.examples // plan.batch_size) * plan.epochs
    head = [
        f"# Written by podlt init. Train it: podlt train {name}",
        "# All that a recipe can say, with every default: podlt recipe new OTHER.toml",
        f"# {train.examples:,} examples to train on, {test.examples if test else 0:,} to test on.",
    ]
    tables = [
        ("data", _data(spec, prepared)),
        (
            "model",
            [
                ("name", model.name, "module:callable; a file of your own beside this one works too"),
                ("args", model.args, '"@name" is taken from the data' if _takes(model.args) else ""),
            ],
        ),
        ("loss", [("name", model.loss, _LOSSES.get(model.loss, ""))]),
        (
            "optimizer",
            [
                ("name", "adamw", "or adam, sgd"),
                ("lr", model.rate, ""),
                ("schedule", "cosine", "down to 0 at the end of the run; or constant, linear, wsd, onecycle"),
            ],
        ),
        (
            "training",
            [
                ("epochs", plan.epochs, f"{rounds:,} rounds in all"),
                ("workers", plan.workers, f"here; on other machines: podlt manager {name}"),
                ("batch_size", plan.batch_size, "examples of a round (the global batch), dealt to all workers"),
                ("seed", 1, "the same seed, the same bits"),
            ],
        ),
        ("evaluation", [("metrics", list(model.metrics), "after each epoch, on the examples held out")]),
        (
            "protocol",
            [
                (
                    "preset",
                    "guarded",
                    "each round at least 1 task is repeated, of many 3 %; the manager repeats 2 %: podlt plan RECIPE",
                ),
                ("reward", 1, "credits an example"),
            ],
        ),
    ]
    parts = ["\n".join(head)]
    for table, lines in tables:
        shown = [_line(key, value, note) for key, value, note in lines if value not in (None, [], {}, (), "")]
        if shown:
            parts.append("\n".join([f"[{table}]", *shown]))
    return "\n\n".join(parts) + "\n"


_LOSSES = {
    "cross_entropy": "scores, one for each class",
    "token_cross_entropy": "scores for each position",
    "mse": "or l1, huber",
}


def _data(spec: DataSpec, prepared: Prepared) -> list[tuple[str, Any, str]]:
    classes = prepared.train.info.get("classes") or []
    plain, found = DataSpec(spec.source), []
    notes = {
        "label": f"to predict: {_listed(classes)}" if classes and spec.label is not None else "to predict",
        "categorical": "texts: a code for each value",
        "dates": "as days since 1970",
        "drop": "constant, or texts of their own in most lines",
        "missing": "a missing value" + (" leaves its line out" if spec.missing == "drop" else " becomes the mean"),
        "standardise": "mean 0 and deviation 1",
        "test_fraction": "held out, to test on",
        "context": "characters that the model sees",
        "size": "every image is resized to this",
        "header": "the first line is data already: columns are numbers from 0",
        "target": "a number, not a class",
    }
    order = ["source", "label", "target", "inputs", "categorical", "dates", "drop", "missing"]
    for key in [*order, *(name for name in spec.__struct_fields__ if name not in order)]:
        value = getattr(spec, key)
        if key == "source" or value != getattr(plain, key):
            found.append((key, value, notes.get(key, "")))
    return found


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_LONGEST])
    return f"{len(names):,} classes ({shown}{', ...' if len(names) > _LONGEST else ''})".replace("\n", " ")


def _takes(args: dict[str, Any]) -> bool:
    return any(isinstance(value, str) and value.startswith("@") for value in args.values())


def _line(key: str, value: Any, note: str) -> str:
    text = f"{key} = {toml(value)}"
    return f"{text:<{_COLUMN - 2}}  # {printable(note)}" if note else text


def printable(note: str) -> str:
    """A comment's text: a class's name may hold what ends a line."""
    return "".join(character if character.isprintable() else " " for character in note)


def toml(value: Any) -> str:
    """A value as TOML has it.

    Args:
        value: text, number, truth value, a list of them, or a mapping by names.
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {toml(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    is_bare = name.replace("-", "_").isascii() and name.replace("-", "_").isidentifier()
    return name if is_bare else json.dumps(name, ensure_ascii=False)
