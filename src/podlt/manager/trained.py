"""What was trained, used again: a finished run, or a folder that was exported from one, makes predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from podlt.data.spec import Column
from podlt.errors import NotCheckedError, UsageError
from podlt.inference.description import Description, read_description
from podlt.inference.export import ExportReport, write_export
from podlt.inference.loading import load_trained
from podlt.inference.predictor import Predictions, Predictor
from podlt.inference.pretrained import build_configured, load_pretrained
from podlt.manager.directory import RunDirectory
from podlt.manager.modules import build_model, code_folder, is_given, load_name, load_vouched
from podlt.recipe import Recipe
from podlt.store.run_names import CONFIGURATION, INFERENCE, RECIPE


def predict(
    run: Path | str, data: Any, *, model: nn.Module | None = None, id: Column | None = None, code: Path | None = None
) -> Predictions:
    """Predictions of a finished run for new examples, encoded as its training examples were.

    Args:
        run: its directory, or a folder that `export` made.
        data: see `Predictor.predict`.
        model: the module itself, where the run was given it as an object.
        id: a column of the data to repeat beside the predictions; by default the examples' numbers.
        code: of an exported folder: where the model's module is; it is code that you vouch for.

    Raises:
        UsageError: the run is not finished, the module cannot be built, or the data are of another kind.
        DataError: examples are malformed, or a column is missing.
    """
    return open_predictor(Path(run), model=model, code=code).predict(data, id)


def export(run: Path | str, folder: Path | str, *, model: nn.Module | None = None, onnx: bool = False) -> ExportReport:
    """Writes what was trained, and what inference needs, into a folder that holds nothing private.

    Args:
        run: the directory of a finished run.
        folder: where to; it must be empty or not there yet.
        model: the module itself, where the run was given it as an object.
        onnx: whether to add the forward pass as ONNX.

    Raises:
        UsageError: the run is not finished, or there is something already.
        UnsupportedError: PyTorch cannot export the forward pass.
        StorageError: a file cannot be written.
    """
    directory = RunDirectory.existing(Path(run))
    description = _finished(directory)
    module = _module(directory, description) if model is None and _can_build(directory) else model
    loaded = load_trained(directory.path, module) if module is not None else None
    return write_export(directory.path, Path(folder), description, loaded, onnx=onnx)


def open_predictor(path: Path, *, model: nn.Module | None = None, code: Path | None = None) -> Predictor:
    """What predicts for a run, or for an exported folder. Arguments and errors: as `predict`."""
    if (path / RECIPE).is_file():
        directory = RunDirectory.existing(path)
        description = _finished(directory)
        module = model if model is not None else _module(directory, description)
        return Predictor(description, load_trained(path, module))
    description = read_description(path)
    if model is None and (path / CONFIGURATION).is_file():
        return Predictor(description, load_pretrained(path))
    if model is None:
        factory = _vouched(description, code)
        try:
            model = factory(**description.model.args)
        except Exception as error:
            message = f"cannot be built: {type(error).__name__}: {error}"
            raise UsageError(f"model {description.model.name}: {message}") from error
    return Predictor(description, load_trained(path, model))


def module_of(name: str) -> nn.Module:
    """The module that `module:callable` gives without arguments, looked for here first.

    Raises:
        UsageError: it cannot be imported or built.
    """
    try:
        found = load_name(name, Path.cwd(), "--model")()
    except TypeError as error:
        raise UsageError(f"--model {name}: expected a callable without arguments: {error}") from None
    if not isinstance(found, nn.Module):
        raise UsageError(f"--model {name}: expected an nn.Module, got {type(found).__name__}")
    return found


def _finished(directory: RunDirectory) -> Description:
    if not (directory.path / INFERENCE).is_file():
        raise UsageError(f"{directory.path}: the run is not finished: there is no model yet")
    return read_description(directory.path)


def _can_build(directory: RunDirectory) -> bool:
    """Whether the module can be made anew: the run was not given it as an object, or it is one of transformers."""
    recipe = Recipe.from_bytes(directory.document(RECIPE))
    return not recipe.model.parameters or (directory.path / CONFIGURATION).is_file()


def _module(directory: RunDirectory, description: Description) -> nn.Module:
    """The module that the run's recipe names; the run is the caller's own, and so is its code."""
    recipe = Recipe.from_bytes(directory.document(RECIPE))
    if recipe.model.parameters and (directory.path / CONFIGURATION).is_file():
        return build_configured(directory.path)
    try:
        return build_model(recipe, description.data, code_folder(directory.settings(), directory.path))
    except UsageError as error:
        if recipe.model.parameters:
            given = "the run was given its module as an object: give --model MODULE:CALLABLE, or model= in Python"
            raise UsageError(f"{directory.path}: {given} ({error})") from None
        raise


def _vouched(description: Description, code: Path | None) -> Any:
    try:
        return load_vouched(description.model.name, code, "model")
    except NotCheckedError as error:
        if is_given(description.model.name):
            raise UsageError(f"{error}: give --model MODULE:CALLABLE, or model= in Python") from None
        raise UsageError(f"{error}; --code DIR names the folder of code that you trust") from None
