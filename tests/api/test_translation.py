"""A loss, an optimiser and data of PyTorch's kind in a recipe's words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from object_runs import arrays, network
from torch import nn
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.utils.data import DataLoader, Subset, TensorDataset, WeightedRandomSampler

from podlt.data.spec import DataSpec
from podlt.errors import UnsupportedError, UsageError
from podlt.program.losses import NAMED
from podlt.program.step import loss_value
from podlt.recipe import Recipe
from podlt.translation.datasets import data_table
from podlt.translation.losses import loss_of_recipe, translate_loss
from podlt.translation.optimizers import translate_optimizer
from podlt.translation.recipes import recipe_of

# -- losses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (nn.CrossEntropyLoss(), "cross_entropy"),
        (nn.NLLLoss(), "nll"),
        (nn.MSELoss(), "mse"),
        (nn.L1Loss(), "l1"),
        (nn.SmoothL1Loss(), "smooth_l1"),
        (nn.HuberLoss(), "huber"),
        (nn.BCEWithLogitsLoss(), "bce"),
        ("token_cross_entropy", "token_cross_entropy"),
    ],
)
def test_a_loss_with_default_options_is_the_named_one(loss: Any, name: str) -> None:
    assert translate_loss(loss) == (name, None)


@pytest.mark.parametrize(
    ("module", "labels"),
    [(nn.CrossEntropyLoss(), "classes"), (nn.MSELoss(), "numbers"), (nn.L1Loss(), "numbers"), (nn.HuberLoss(), "x")],
)
def test_the_named_loss_is_what_the_module_computes(module: nn.Module, labels: str) -> None:
    output = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    wanted = torch.arange(7) % 3 if labels == "classes" else output.flip(0)
    found = NAMED[translate_loss(module).name](output, wanted) / 7
    assert torch.allclose(found, module(output, wanted))


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(weight=torch.ones(3)),
        nn.CrossEntropyLoss(ignore_index=0),
        nn.SmoothL1Loss(beta=0.5),
        nn.BCEWithLogitsLoss(pos_weight=torch.ones(1)),
        nn.KLDivLoss(),
    ],
)
def test_a_loss_with_other_options_is_captured_as_it_is(loss: nn.Module) -> None:
    assert translate_loss(loss) == (f"given:{type(loss).__name__}", loss)


def test_a_sum_over_examples_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r'CrossEntropyLoss\(reduction="sum"\)'):
        translate_loss(nn.CrossEntropyLoss(reduction="sum"))


def squared(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A loss of a module that can be imported."""
    return functional.mse_loss(model(x), y)


def test_a_function_that_can_be_imported_is_named_and_a_lambda_is_given() -> None:
    assert translate_loss(squared) == (f"{__name__}:squared", None)
    own = lambda model, x, y: squared(model, x, y)  # noqa: E731
    assert translate_loss(own) == ("given:lambda", own)


@pytest.mark.parametrize("name", ["cross_entropy", "mse_loss", "binary_cross_entropy_with_logits"])
def test_a_loss_of_torchs_functions_is_the_named_one(name: str) -> None:
    modules = {"cross_entropy": nn.CrossEntropyLoss(), "mse_loss": nn.MSELoss()}
    assert translate_loss(getattr(functional, name)) == translate_loss(modules.get(name, nn.BCEWithLogitsLoss()))


def test_a_function_of_scores_and_labels_is_refused_with_what_a_loss_takes() -> None:
    with pytest.raises(UsageError, match=r"kl_div takes scores and labels: .*\(model, \*inputs, \*labels\)"):
        translate_loss(functional.kl_div)
    model, x, y = nn.Linear(4, 3), torch.ones(2, 4), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(UnsupportedError, match=r"is called with \(model, input, label\), which it does not take"):
        loss_value(lambda scores, labels: functional.cross_entropy(scores, labels), model, [x], [y])


def test_an_unknown_loss_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="expected one of cross_entropy"):
        translate_loss("crossentropy")
    with pytest.raises(UsageError, match="got int"):
        translate_loss(3)  # type: ignore[arg-type]


def test_another_loss_than_the_recipes_is_refused(recipe: Recipe) -> None:
    assert loss_of_recipe(nn.CrossEntropyLoss(), recipe) is None
    with pytest.raises(UsageError, match="the recipe names 'cross_entropy', and 'mse' was given"):
        loss_of_recipe("mse", recipe)


# -- optimisers ----------------------------------------------------------------------------------------------------


def test_names_tables_and_plain_optimisers_are_tables() -> None:
    model = network()
    assert translate_optimizer("sgd", model) == {"name": "sgd", "lr": 0.001}
    assert translate_optimizer({"name": "sgd", "lr": 1.0}, model) == {"name": "sgd", "lr": 1.0}
    assert translate_optimizer(SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True), model) == {
        "name": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0,
        "nesterov": True,
    }
    adam = {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-08}
    assert translate_optimizer(Adam(model.parameters()), model) == {"name": "adam", **adam, "weight_decay": 0}
    assert translate_optimizer(AdamW(model.parameters()), model) == {"name": "adamw", **adam, "weight_decay": 0.01}
    decoupled = Adam(model.parameters(), weight_decay=0.1, decoupled_weight_decay=True)
    assert translate_optimizer(decoupled, model) == {"name": "adamw", **adam, "weight_decay": 0.1}


def test_the_largest_group_stands_for_all_and_the_others_name_their_parameters() -> None:
    model = network()
    biases = [p for n, p in model.named_parameters() if n.endswith("bias")]
    weights = [p for n, p in model.named_parameters() if n.endswith("weight")]
    groups = [{"params": biases[:1], "weight_decay": 0.0}, {"params": weights + biases[1:], "lr": 0.5}]
    found = translate_optimizer(AdamW(groups, lr=0.1), model)
    assert (found["lr"], found["weight_decay"]) == (0.5, 0.01)
    assert found["groups"] == [{"match": ["0.bias"], "lr": 0.1, "weight_decay": 0.0}]


def test_groups_with_the_same_values_are_one() -> None:
    model = network()
    assert "groups" not in translate_optimizer(SGD([{"params": [p]} for p in model.parameters()], lr=0.1), model)


def scheduled(model: nn.Module) -> torch.optim.Optimizer:
    """One whose learning rate a scheduler has begun to change."""
    optimizer = SGD(model.parameters(), lr=0.1)
    torch.optim.lr_scheduler.LinearLR(optimizer)
    return optimizer


def stepped(model: nn.Module) -> torch.optim.Optimizer:
    """One that has made a step."""
    optimizer = AdamW(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda m: AdamW(m.parameters(), amsgrad=True), r"AdamW\(amsgrad=True\)"),
        (lambda m: SGD(m.parameters(), lr=0.1, maximize=True), r"SGD\(maximize=True\)"),
        (lambda m: SGD(m.parameters(), lr=0.1, momentum=0.9, dampening=0.5), r"SGD\(dampening=0.5\)"),
        (lambda m: RMSprop(m.parameters()), "RMSprop: expected torch.optim.SGD"),
        (lambda m: AdamW(network().parameters()), r"shape \(8, 4\) that is none of the model's"),
        (lambda m: AdamW(m[0].parameters()), "2.weight and 1 more of the model: in no group of AdamW"),
        (scheduled, "SGD has a scheduler"),
        (stepped, "AdamW has made steps already"),
        (lambda m: 0.1, "got float"),
    ],
)
def test_what_a_recipe_does_not_have_is_refused_by_name(make: Callable[[nn.Module], Any], reason: str) -> None:
    model = network()
    with pytest.raises(UsageError, match=reason):
        translate_optimizer(make(model), model)


def test_frozen_parameters_are_in_no_group() -> None:
    model = network()
    model[0].requires_grad_(False)
    assert "groups" not in translate_optimizer(AdamW(model.parameters()), model)
    assert "groups" not in translate_optimizer(AdamW([p for p in model.parameters() if p.requires_grad]), model)


# -- data ----------------------------------------------------------------------------------------------------------


class Split:
    """A data set of two plain columns, as Hugging Face's are: by its looks alone."""

    column_names = ("x", "label")
    features = None

    def __init__(self, examples: int) -> None:
        self.examples = examples

    def to_parquet(self, path: Path) -> None:
        """Writes it."""
        pd.DataFrame({"x": np.arange(self.examples) / 7, "label": np.arange(self.examples) % 2}).to_parquet(path)


def test_a_path_and_a_spec_are_taken_as_they_are() -> None:
    assert data_table("digits", None, {}) == {"source": "digits"}
    assert data_table(Path("a.csv"), "b.csv", {"label": "y"}) == {"source": "a.csv", "test": "b.csv", "label": "y"}
    spec = DataSpec("digits", limit=9, test_fraction=0.5)
    assert data_table(spec, None, {}) == {"source": "digits", "limit": 9, "test_fraction": 0.5}


def test_a_frames_label_is_found_by_its_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0], "target": [0, 1]})
    assert data_table(frame, None, {}, tmp_path)["label"] == "target"
    assert data_table(frame, None, {"label": "x"}, tmp_path)["label"] == "x"


def test_a_label_that_is_named_is_no_input(tmp_path: Path) -> None:
    found = data_table({"a": np.ones(4), "b": np.arange(4)}, None, {"label": "b"}, tmp_path)
    assert (found["inputs"], found["label"]) == (["a"], "b")


@pytest.mark.filterwarnings("ignore:podlt ignores the splits")
def test_splits_bring_the_examples_to_test_on(tmp_path: Path) -> None:
    whole = data_table({"train": Split(6), "validation": Split(3), "test": Split(4)}, None, {}, tmp_path)
    assert whole["label"] == "label" and whole["source"] != whole["test"]
    assert len(pd.read_parquet(whole["source"])) == 6 and len(pd.read_parquet(whole["test"])) == 4
    own = data_table({"train": Split(6), "validation": Split(3)}, None, {}, tmp_path)
    assert len(pd.read_parquet(own["test"])) == 3
    with pytest.warns(UserWarning, match="ignores the splits validation"):
        data_table({"train": Split(6), "validation": Split(3), "test": Split(4)}, None, {}, tmp_path)


def tensors() -> TensorDataset:
    """The arrays as a map-style data set."""
    x, y = arrays()
    return TensorDataset(torch.from_numpy(x), torch.from_numpy(y))


def test_a_loader_is_taken_for_its_data_set_with_a_word(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"ignores batch_size=8 .*, shuffle .*, drop_last"):
        found = data_table(DataLoader(tensors(), batch_size=8, shuffle=True, drop_last=True), None, {}, tmp_path)
    assert found == data_table(tensors(), None, {}, tmp_path) == data_table(arrays(), None, {}, tmp_path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: DataLoader(tensors(), collate_fn=lambda items: items), "collate_fn <lambda> makes batches"),
        (lambda: DataLoader(tensors(), sampler=WeightedRandomSampler([1.0] * 9, 9)), "sampler WeightedRandomSampler"),
        (lambda: DataLoader(tensors(), batch_size=None), "podlt trains on each example once"),
        (lambda: iter([1]), "expected a path, a frame, arrays"),
    ],
)
def test_a_loader_that_chooses_or_changes_is_refused(make: Callable[[], Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        data_table(make(), None, {}, tmp_path)


def test_a_part_of_a_data_set_is_a_data_set(tmp_path: Path) -> None:
    found = data_table(Subset(tensors(), [3, 1]), Subset(tensors(), [0]), {}, tmp_path)
    assert np.load(found["source"])["x"].tolist() == arrays()[0][[3, 1]].tolist()
    assert len(np.load(found["test"])["y"]) == 1


# -- the recipe ----------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Of a call with most of its arguments."""
    return recipe_of(
        network(), arrays(), epochs=3, workers=5, seed=7, digits=3, training={"local_steps": 2, "local_lr": 0.1},
        test_fraction=0.5, data={"split": "last"}, folder=tmp_path,
    )  # fmt: skip


def test_a_call_makes_the_recipe_that_a_file_would_say(recipe: Recipe) -> None:
    training = recipe.training
    assert (training.epochs, training.workers, training.seed, training.local_steps) == (3, 5, 7, 2)
    assert (recipe.digits, recipe.data.split, recipe.data.test_fraction) == (3, "last", 0.5)
    assert (recipe.model.name, recipe.loss.name) == ("given:Sequential", "cross_entropy")
    assert Recipe.from_bytes(recipe.to_bytes()) == recipe


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"epoch": 3}, "there is no argument epoch; was epochs meant"),
        ({"worker": 3}, "there is no argument worker; was workers meant"),
        ({"scheduler": "cosine"}, "there is no argument scheduler: the rate follows the optimizer's schedule"),
        ({"training": {"batch": 3}}, r"the field batch of \[training\] is none that a recipe has"),
        ({"workers": 2, "protocol": {"preset": "classic"}}, "expected at least 3"),
        ({"workers": 0}, "workers"),
        ({"optimizer": {"lr": torch.ones(1)}}, "recipe: "),
    ],
)
def test_what_no_recipe_has_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        recipe_of(network(), "digits", **options)
