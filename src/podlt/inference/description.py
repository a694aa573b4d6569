"""`inference.json`: what a trained model must know of its data to be given new examples.

The manager writes it beside the model at a run's end. It holds no path and no example of the data, but what was fitted
on them: means, categories, class names, vocabularies. No entry of the log binds it; it names the parameters that it is
of.

    format       "podlt-inference/1"
    run          the run's identity, 64 hexadecimal digits
    parameters   the digest of the last parameters, as the log has it
    model        name: module:callable; args: what it is called with ("@name" is replaced by what the data say)
    loss         its name, or module:callable
    fields       inputs, then labels, in the model's order: name, dtype, shape of an example, role, scale (inputs are
                 multiplied by it)
    delimiter    of a CSV file
    data         what the data say of themselves, as a prepared set has it: kind, classes, ...
      table        numeric: column, mean, std; categorical: column, values (code 1 on, 0 for every other);
                   reading: fills (what a missing number becomes), dates (which numeric columns are), kinds (what the
                   cells of the categorical ones mean), label (its column), missing (the rule)
      arrays       standardised: name -> mean, std of each place
      text         vocabulary: the characters, code 1 on, 0 for every other
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import msgspec

from podlt.canonical import from_json, to_json
from podlt.data.field import Field
from podlt.errors import InvalidProofError, UsageError
from podlt.recipe import Recipe
from podlt.store.files import read_whole, write_whole
from podlt.store.run_names import INFERENCE

FORMAT: Literal["podlt-inference/1"] = "podlt-inference/1"
MAX_BYTES = 256 * 2**20


class ModelCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The callable that makes the module, and what it is called with."""

    name: str
    args: dict[str, Any]


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of inference.json; see the module's own words.

    Attributes:
        format: `FORMAT`.
        run: the run's identity, in hexadecimal.
        parameters: the digest of the last parameters, in hexadecimal.
        model: what makes the module.
        loss: a name of `podlt.program.losses.NAMED`, or module:callable.
        fields: of a prepared example, inputs and labels.
        delimiter: of a CSV file.
        data: what the prepared training examples say of themselves.
    """

    format: Literal["podlt-inference/1"]
    run: str
    parameters: str
    model: ModelCall
    loss: str
    fields: tuple[Field, ...]
    delimiter: str
    data: dict[str, Any]

    @property
    def inputs(self) -> tuple[Field, ...]:
        """What the model is given, in order."""
        return tuple(field for field in self.fields if field.role == "input")

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of their codes; empty where there are none."""
        return list(self.data.get("classes") or [])

    def write(self, path: Path) -> None:
        """Writes it, whole or not at all.

        Raises:
            StorageError: it cannot be written.
        """
        write_whole(path, to_json(msgspec.to_builtins(self)))


def describe_run(
    recipe: Recipe, fields: tuple[Field, ...], info: Mapping[str, Any], *, run: bytes, parameters: bytes
) -> Description:
    """The description of a finished run's model.

    Args:
        recipe: the run's.
        fields: of the training examples.
        info: what they say of themselves.
        run: the run's identity.
        parameters: the digest of the last parameters.
    """
    args = {key: _without_place(_resolved(value, info)) for key, value in recipe.model.args.items()}
    return Description(
        format=FORMAT,
        run=run.hex(),
        parameters=parameters.hex(),
        model=ModelCall(recipe.model.name, args),
        loss=recipe.loss.name,
        fields=fields,
        delimiter=recipe.data.delimiter,
        data=dict(info),
    )


def read_description(folder: Path) -> Description:
    """The description in a folder.

    Raises:
        UsageError: there is none, or it is malformed.
        StorageError: it cannot be read.
    """
    path = folder / INFERENCE
    if not path.is_file():
        raise UsageError(
            f"{folder}: no {INFERENCE} here: expected a finished run, or a folder that `podlt export` made"
        )
    try:
        return msgspec.convert(from_json(read_whole(path, MAX_BYTES)), Description)
    except (InvalidProofError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: malformed: {error}") from None


def _resolved(value: Any, info: Mapping[str, Any]) -> Any:
    return info.get(value[1:], value) if isinstance(value, str) and value.startswith("@") else value


def _without_place(value: Any) -> Any:
    """An argument without the folders of this machine: of an absolute path only its last part."""
    if isinstance(value, dict):
        return {key: _without_place(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_place(item) for item in value]
    return last_part(value) if isinstance(value, str) else value


def last_part(text: str) -> str:
    """The last part of a text that is a path of a machine; any other text as it is."""
    if text.startswith("~") or PurePosixPath(text).is_absolute():
        return PurePosixPath(text).name
    return PureWindowsPath(text).name if PureWindowsPath(text).is_absolute() else text
