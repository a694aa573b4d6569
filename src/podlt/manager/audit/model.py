"""Claims START and FIGURES: the model, built again from the recipe, where its code may be run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from podlt import models
from podlt.data.dataset import Dataset
from podlt.errors import NotCheckedError, PodltError, UsageError
from podlt.manager.metrics.evaluation import MOST_EXAMPLES
from podlt.manager.metrics.evaluator import VALIDATION, Evaluator
from podlt.manager.metrics.given import FIELD, MetricSet, choose_metrics
from podlt.manager.metrics.named import is_top
from podlt.manager.modules import call_factory, is_given, load_vouched, named_loss
from podlt.manager.weights import Weights
from podlt.program.preparation import state_of, unwrapped
from podlt.program.step import Loss
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.recipe import Recipe

FIRST_RELATIVE, FIRST_ABSOLUTE = 1e-5, 1e-6
"""How far first parameters may be from those that are worked out again: PyTorch's initial values may differ in their
last bits between processors. Relative to each value, or to the largest of its tensor."""

RELATIVE: Mapping[str, float] = {"loss": 1e-4, "mae": 1e-4, "rmse": 1e-4, "perplexity": 1e-3}
ABSOLUTE: Mapping[str, float] = {"auc": 1e-3, "r2": 1e-3}
OF_EXAMPLES: Mapping[str, float] = {"accuracy": 1e-3, "f1": 1e-2, "f1_macro": 1e-2}
TOP_TOLERANCE = CALLABLE_TOLERANCE = 1e-3
"""How far a figure may be from the one that is evaluated again, as plain PyTorch evaluates both: relative to its size,
as it is, or as a share of the part's examples (one example at least; top-k too). What a callable gives: relative."""


class Rebuilt(msgspec.Struct):
    """The recipe's model, built again.

    Attributes:
        module: None where it could not be.
        loss: of the figures; None where it could not be.
        metrics: of the figures, those that could be had.
        examples: how many are evaluated at once.
        why: why one of the first two is None.
    """

    module: nn.Module | None = None
    loss: Loss | None = None
    metrics: MetricSet = MetricSet()
    examples: int = MOST_EXAMPLES
    why: str = ""


def model_remedy(command: str, recipe: Recipe) -> str:
    """How to give a check the recipe's model and loss; "" where nobody but the program that began the run has them."""
    if is_given(recipe.loss.name):
        return ""
    return f"{command} --model MODULE:CALLABLE" if is_given(recipe.model.name) else f"{command} --code DIR"


def rebuild(
    recipe: Recipe,
    weights: Weights,
    info: Mapping[str, Any] | None,
    code: Path | None,
    given: nn.Module | None = None,
) -> Rebuilt:
    """Builds the model from the recipe's seed, and finds its loss, where their code may be run.

    Args:
        recipe: a stranger's.
        weights: whose tensors it must have.
        info: what the data say of themselves; None if they are not here.
        code: the folder whose code the user vouches for.
        given: the module itself, for a recipe whose model was given as an object.

    Raises:
        UsageError: a module is given, and the recipe names its own.
    """
    if given is not None and not is_given(recipe.model.name):
        raise UsageError(f"--model: the recipe names its model, {recipe.model.name}: --code DIR says where that is")
    found = Rebuilt()
    try:
        if given is not None:
            found.module = unwrapped(given)
            _require_shapes(found.module, weights)
            return _with_figures(found, recipe, code)
        factory = load_vouched(recipe.model.name, code, "model.name")
        if info is None and any(isinstance(v, str) and v.startswith("@") for v in recipe.model.args.values()):
            raise NotCheckedError("model.args name facts of the data, which are not here")
        if getattr(factory, "__module__", "") == models.__name__:
            with torch.device("meta"):  # a stranger's sizes, before any memory is taken
                _require_shapes(call_factory(factory, recipe, info or {}), weights)
        module = call_factory(factory, recipe, info or {})
        _require_shapes(module, weights)
        found.module = module
        return _with_figures(found, recipe, code)
    except PodltError as error:
        found.why = str(error)
    return found


def _with_figures(found: Rebuilt, recipe: Recipe, code: Path | None) -> Rebuilt:
    """Adds loss and metrics to a model."""
    found.loss = named_loss(recipe) or load_vouched(recipe.loss.name, code, "loss.name")
    found.metrics = choose_metrics(recipe, lambda name: load_vouched(name, code, FIELD))
    return found


def _require_shapes(module: nn.Module, weights: Weights) -> None:
    has = {name: (value.shape, value.dtype) for name, value in state_of(module, weights.views).items()}
    for name, view in weights.views.items():
        if has.get(name) != (view.shape, view.dtype):
            raise UsageError(f"the model that was built has no {name} of shape {tuple(view.shape)}, as the program has")


def check_start(
    recipe: Recipe, begin: e.Begin, weights: Weights, missing: str, rebuilt: Rebuilt, remedy: str
) -> Finding:
    """Claim START. Afterwards `weights` hold the first parameters, if anything here has them.

    Args:
        recipe: the run's.
        begin: its first entry.
        weights: hold the first checkpoint, if it is there and is the log's.
        missing: "" if they do, else why not.
        rebuilt: the model from the recipe's seed.
        remedy: the command that would have built it.
    """
    if recipe.model.parameters:  # verify holds the first entry against it: claim TERMS
        return Finding(Claim.START, Outcome.HOLDS, f"a given input: the recipe names {recipe.model.parameters[:16]}")
    if rebuilt.module is None:
        return Finding(Claim.START, Outcome.NOT_CHECKED, why=rebuilt.why, remedy=remedy)
    first, before = (
        state_of(rebuilt.module, weights.views),
        {name: view.clone() for name, view in weights.views.items()},
    )
    weights.set(first)
    if weights.digest() == begin.parameters:
        return Finding(Claim.START, Outcome.HOLDS, f"from seed {recipe.training.seed}: the same bits")
    for name, view in weights.views.items():
        view.copy_(before[name])
    if missing:
        why = f"the seed gives other bits on this machine, and {missing}: nothing to compare them with"
        return Finding(Claim.START, Outcome.NOT_CHECKED, why=why, remedy="give the run or a bundle made with --updates")
    worst, name = _distance(before, first)
    if name:
        why = f"{name}: differs by {worst:.3g} from what seed {recipe.training.seed} gives, more than rounding can"
        return Finding(Claim.START, Outcome.FAILS, why=why)
    return Finding(
        Claim.START, Outcome.HOLDS, f"from seed {recipe.training.seed}, up to rounding (largest difference {worst:.3g})"
    )


def _distance(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> tuple[float, str]:
    """The largest difference, and the first tensor in which one is more than rounding ("" if none)."""
    worst = 0.0
    for name, value in found.items():
        wanted = expected[name].to(torch.float64)
        difference = (value.to(torch.float64) - wanted).abs()
        if not difference.numel():
            continue
        bound = torch.maximum(FIRST_RELATIVE * wanted.abs(), FIRST_ABSOLUTE * wanted.abs().max())
        if not bool((difference <= bound).all()):  # a NaN is no rounding either
            return float(difference.max()), name
        worst = max(worst, float(difference.max()))
    return worst, ""


class ComparedFigures(msgspec.Struct):
    """What evaluating the figures of an epoch again came to.

    Attributes:
        done: how many were.
        faults: what differs beyond the tolerance.
        equal: whether all is equal to the last bit.
        unchecked: figure -> why it could not be evaluated here.
    """

    done: int = 0
    faults: list[str] = []
    equal: bool = True
    unchecked: dict[str, str] = {}


def compare_figures(
    entry: e.Measure, rebuilt: Rebuilt, weights: Weights, test: Dataset, validation: Dataset | None
) -> ComparedFigures:
    """Evaluates the figures of an epoch again.

    Args:
        entry: what the log says.
        rebuilt: model and loss, both there.
        weights: the parameters that it speaks of.
        test: the test set that it speaks of.
        validation: the validation part of the same data, None if there is none.
    """
    assert rebuilt.module is not None and rebuilt.loss is not None
    evaluator = Evaluator(rebuilt.module, rebuilt.loss, rebuilt.metrics, test, validation, rebuilt.examples)
    missing = {prefix + name: why for prefix, _ in evaluator.parts for name, why in rebuilt.metrics.missing.items()}
    logged = {figure.name: figure.value for figure in entry.figures}
    unchecked = {name: why for name, why in missing.items() if name in logged}
    logged = {name: value for name, value in logged.items() if name not in missing}
    found = evaluator.measure(weights.views).finite
    if found.keys() != logged.keys():
        says, has = (" and ".join(sorted(names)) or "no figure" for names in (logged, found))
        fault = f"epoch {entry.epoch + 1}: the log has {says}, evaluating gives {has}"
        return ComparedFigures(len(logged), [fault], False, unchecked)
    examples = {prefix: part.examples for prefix, part in evaluator.parts}
    faults = [
        f"epoch {entry.epoch + 1}: {name} is {logged[name]:.6g} in the log, {value:.6g} when evaluated again"
        for name, value in found.items()
        if not abs(value - logged[name])
        <= _tolerance(name.removeprefix(VALIDATION), value, examples[VALIDATION if name.startswith(VALIDATION) else ""])
    ]
    return ComparedFigures(len(logged), faults, found == logged, unchecked)


def _tolerance(name: str, value: float, examples: int) -> float:
    if name in ABSOLUTE:
        return ABSOLUTE[name]
    if name in OF_EXAMPLES or is_top(name):
        return max(OF_EXAMPLES.get(name, TOP_TOLERANCE), 1 / examples)
    return RELATIVE.get(name, CALLABLE_TOLERANCE) * abs(value)
