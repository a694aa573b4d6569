"""Whether a drafted recipe trains as it is written: its model is built, and given a few examples."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from podlt.data.prepare import Prepared
from podlt.draft.choices import arguments_for
from podlt.errors import PodltError, UsageError
from podlt.execution.task_executor import as_batch
from podlt.manager.modules import build_model, find_loss, load_name
from podlt.program.ir import FieldSpec
from podlt.program.step import SummedLoss
from podlt.recipe import Recipe

FEW = 4


def own_arguments(name: str, base: Path, prepared: Prepared, given: Mapping[str, Any]) -> dict[str, Any]:
    """What to call a user's own `module:callable` with.

    Args:
        name: of the model.
        base: the folder of the recipe.
        prepared: the examples.
        given: arguments that the user gave.

    Raises:
        UsageError: it cannot be imported, or an argument is not known.
    """
    if ":" not in name:
        raise UsageError(f"--model {name}: expected module:callable, such as my_model:build for my_model.py")
    try:
        signature = inspect.signature(load_name(name, base, "model"))
    except ValueError:  # of a class in C
        return dict(given)
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    wanted = {
        key: parameter.default is inspect.Parameter.empty
        for key, parameter in signature.parameters.items()
        if parameter.kind not in kinds
    }
    return arguments_for(wanted, prepared, given)


def try_recipe(recipe: Recipe, base: Path, prepared: Prepared) -> int:
    """Builds the model and computes the loss of a few examples; returns how many parameters it has.

    Args:
        recipe: as it is written.
        base: the folder of its file.
        prepared: its examples.

    Raises:
        UsageError: the model or the loss does not take the examples; says why.
    """
    model = copy.deepcopy(build_model(recipe, prepared.train.info, base))
    loss = find_loss(recipe, base)
    examples = prepared.train.examples
    batch = as_batch(prepared.train.read(np.linspace(0, examples - 1, min(FEW, examples)).astype(np.int64)))
    fields = [FieldSpec(f.name, f.dtype, f.shape, f.scale, f.role) for f in prepared.train.fields]
    try:
        with torch.no_grad():
            SummedLoss(loss, fields)(model, *(batch[field.name] for field in fields))
    except PodltError:
        raise
    except Exception as error:  # the user's own code may raise anything
        shapes = ", ".join(f"{field.name} {[FEW, *field.shape]}" for field in fields if field.role == "input")
        raise UsageError(f"{recipe.model.name} does not take these examples ({shapes}): {error}") from error
    return sum(parameter.numel() for parameter in model.parameters())
