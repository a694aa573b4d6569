"""Metrics: their values are those of scikit-learn and torchmetrics, and what they are not of is refused by name."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import tiny_recipe
from torch import nn
from torch.nn import functional

from podlt.data.dataset import Dataset
from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec
from podlt.errors import UsageError
from podlt.manager.metrics.evaluation import Evaluation, batch_examples, evaluate_part, load_state
from podlt.manager.metrics.given import MetricSet, choose_metrics, naming_metrics
from podlt.manager.metrics.named import better_of
from podlt.program.capture import capture
from podlt.program.ir import FieldSpec, TensorType
from podlt.recipe import EvaluationSpec, Recipe

EXAMPLES = 60


def reference() -> Any:
    """scikit-learn's metrics. It takes a second to import, which no process that collects this file needs to spend."""
    from sklearn import metrics

    return metrics


def recipe_of(*metrics: str) -> Recipe:
    import msgspec

    return msgspec.structs.replace(tiny_recipe(), evaluation=EvaluationSpec(metrics=metrics))


def no_code(name: str) -> Callable[..., Any]:
    raise AssertionError(name)


def chosen(*metrics: str) -> MetricSet:
    return choose_metrics(recipe_of(*metrics), no_code)


def part(folder: Path, x: np.ndarray, y: np.ndarray, **options: Any) -> Dataset:
    """Examples that nothing is held out of."""
    np.savez(folder / "examples.npz", x=x, y=y)
    kind = {} if y.dtype.kind in "iu" else {"target": "number"}
    spec = DataSpec(str(folder / "examples.npz"), inputs=("x",), label="y", **kind, **options)  # type: ignore[arg-type]
    return prepare(spec, folder / "cache", None).train


def values(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels in the order in which the part has them."""
    found = dataset.read(np.arange(dataset.examples, dtype=np.int64))
    return found["x"], found[next(field.name for field in dataset.fields if field.role == "label")]


class Same(nn.Module):
    """Gives its inputs."""

    def __init__(self, shape: Callable[[torch.Tensor], Any] = lambda x: x) -> None:
        super().__init__()
        self.scale, self._shape = nn.Parameter(torch.ones(())), shape

    def forward(self, x: torch.Tensor) -> Any:
        return self._shape(x * self.scale)


def measured(dataset: Dataset, loss: Any, metrics: MetricSet, module: nn.Module | None = None) -> Evaluation:
    return evaluate_part(module or Same(), loss, dataset, metrics, examples=7)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Scores of four classes, one of which is never right."""
    dice = np.random.default_rng(1)
    y = np.append(dice.integers(0, 3, EXAMPLES - 1), 3)
    x = dice.normal(size=(EXAMPLES, 4)).astype("f4") + np.eye(4, dtype="f4")[y] * np.float32(0.7)
    return part(tmp_path_factory.mktemp("scored"), x, y)


def test_metrics_of_classes_are_those_of_scikit_learn(scored: Dataset) -> None:
    x, y = values(scored)
    found = measured(scored, "cross_entropy", chosen("accuracy", "top2", "top3", "f1", "f1_macro", "perplexity"))
    guess = x.argmax(1)
    macro = reference().f1_score(y, guess, average="macro")
    assert not found.missing
    assert found.values == pytest.approx(
        {
            "loss": reference().log_loss(y, functional.softmax(torch.from_numpy(x).double(), 1).numpy()),
            "accuracy": reference().accuracy_score(y, guess),
            "top2": reference().top_k_accuracy_score(y, x, k=2),
            "top3": reference().top_k_accuracy_score(y, x, k=3),
            "f1": macro,
            "f1_macro": macro,
            "perplexity": np.exp(found.values["loss"]),
        },
        rel=1e-6,
    )


@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "own"])
def test_metrics_of_two_classes_are_those_of_scikit_learn(loss: str, tmp_path: Path) -> None:
    dice = np.random.default_rng(2)
    y = dice.integers(0, 2, EXAMPLES)
    x = (dice.normal(size=EXAMPLES) + y).astype("f4")[:, None]
    dataset = part(tmp_path, x, y)
    x, y = values(dataset)
    module = Same(lambda x: torch.cat([-x, x], 1) / 2) if loss == "cross_entropy" else Same()

    def own(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(model(x)[:, 0], y.float(), reduction="sum")

    found = measured(dataset, own if loss == "own" else loss, chosen("accuracy", "f1", "f1_macro", "auc"), module)
    guess = x[:, 0] > 0
    assert found.values == pytest.approx(
        {
            "loss": found.values["loss"],
            "accuracy": reference().accuracy_score(y, guess),
            "f1": reference().f1_score(y, guess),
            "f1_macro": reference().f1_score(y, guess, average="macro"),
            "auc": reference().roc_auc_score(y, x[:, 0]),
        },
        rel=1e-6,
    )


@pytest.mark.parametrize("loss", ["mse", nn.L1Loss(reduction="sum")])
def test_metrics_of_numbers_are_those_of_scikit_learn(loss: Any, tmp_path: Path) -> None:
    dice = np.random.default_rng(3)
    y = (dice.normal(size=EXAMPLES) * 0.01 + 1000).astype("f4")  # a mean of squares would lose all of its digits
    x = (y + dice.normal(size=EXAMPLES).astype("f4") * 0.003)[:, None].astype("f4")
    dataset = part(tmp_path, x, y)
    x, y = values(dataset)
    module = Same() if loss == "mse" else Same(lambda x: x[:, 0])
    found = measured(dataset, loss, chosen("mae", "rmse", "r2"), module)
    assert found.values["mae"] == pytest.approx(reference().mean_absolute_error(y, x[:, 0]))
    assert found.values["rmse"] == pytest.approx(reference().root_mean_squared_error(y, x[:, 0]))
    assert found.values["r2"] == pytest.approx(reference().r2_score(y.astype("f8"), x[:, 0].astype("f8")), rel=1e-6)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Scores of three classes at each place of a picture of 3 x 3: as many classes as rows."""
    dice = np.random.default_rng(4)
    x = dice.normal(size=(EXAMPLES, 3, 3, 3)).astype("f4")
    return part(tmp_path_factory.mktemp("pictures"), x, dice.integers(0, 3, (EXAMPLES, 3, 3)))


@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss()])
def test_classes_of_pictures_are_where_pytorch_has_them(loss: Any, pictures: Dataset) -> None:
    x, y = values(pictures)
    found = measured(pictures, loss, chosen("accuracy", "top2", "f1"))
    assert found.values["accuracy"] == pytest.approx((x.argmax(1) == y).mean())
    flat = np.moveaxis(x, 1, -1).reshape(-1, 3)
    assert found.values["top2"] == pytest.approx(reference().top_k_accuracy_score(y.reshape(-1), flat, k=2))
    assert found.values["f1"] == pytest.approx(
        reference().f1_score(y.reshape(-1), flat.argmax(1), average="macro"), rel=1e-6
    )


@pytest.mark.parametrize("give", [lambda x: {"logits": x}, lambda x: (x,)], ids=["a dict", "a tuple"])
def test_a_loss_of_ones_own_has_metrics_of_what_the_model_gives(give: Any, scored: Dataset) -> None:
    x, y = values(scored)

    def own(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        output = model(x)
        return functional.cross_entropy(output["logits"] if isinstance(output, dict) else output[0], y)

    found = measured(scored, own, chosen("accuracy", "perplexity"), Same(give))
    assert found.values["accuracy"] == pytest.approx((x.argmax(1) == y).mean())
    assert found.values["perplexity"] == pytest.approx(np.exp(found.values["loss"]))
    assert set(measured(scored, own, MetricSet(), Same(give)).values) == {"loss"}


@pytest.mark.parametrize(
    ("metric", "loss", "why"),
    [
        ("mae", "cross_entropy", "mae is of numbers, and the outputs are scores of classes: take accuracy, top5, f1"),
        ("auc", "cross_entropy", "auc is of two classes, and there are 4"),
        ("top4", "cross_entropy", "top4 of 4 classes is always 1"),
        ("accuracy", "mse", "accuracy is of classes, and the labels are numbers: take mae, rmse, r2"),
        ("perplexity", "mse", "perplexity is of scores of classes"),
    ],
)
def test_a_metric_that_makes_no_sense_is_missing_by_name_and_costs_no_other(
    metric: str, loss: str, why: str, scored: Dataset, tmp_path: Path
) -> None:
    x, _ = values(scored)
    dataset = scored if loss == "cross_entropy" else part(tmp_path, x, x)
    fits = "f1" if loss == "cross_entropy" else "rmse"
    found = measured(dataset, loss, chosen(metric, fits))
    assert set(found.missing) == {metric} and why in found.missing[metric]
    assert set(found.values) == {"loss", fits}


def test_labels_that_pytorch_ignores_count_for_no_metric() -> None:
    from podlt.manager.metrics.forms import form_of
    from podlt.manager.metrics.named import named_metric

    output, target = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, -100, 1])
    form = form_of("cross_entropy", output, target)
    for name in ("accuracy", "top2", "f1", "perplexity"):
        all_of_them, rest = named_metric(name).make(form), named_metric(name).make(form)
        all_of_them.update(output, target)
        rest.update(output[target >= 0], target[target >= 0])
        assert all_of_them.compute() == rest.compute()


def test_no_label_of_a_byte_is_taken_for_one_that_is_ignored() -> None:
    from podlt.manager.metrics.forms import counted

    assert counted(torch.tensor([156, 0], dtype=torch.uint8)).all()  # 156 is -100 in a byte


def test_a_callable_gets_all_examples_at_once_and_one_output_a_label(tmp_path: Path) -> None:
    y = np.arange(EXAMPLES, dtype="f4")
    dataset = part(tmp_path, y[:, None] + 1, y)
    seen: list[tuple[int, ...]] = []

    def largest(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.extend((outputs.shape, targets.shape))  # type: ignore[arg-type]
        return (outputs - targets).abs().max()

    metrics = [largest, "mae"]
    recipe = naming_metrics(tiny_recipe(), metrics)  # type: ignore[arg-type]
    assert recipe.evaluation.metrics == ("object:largest", "mae")
    found = measured(dataset, "mse", choose_metrics(recipe, no_code, {"object:largest": largest}))
    assert found.values == {"loss": 1.0, "largest": 1.0, "mae": 1.0}
    assert seen == [(EXAMPLES,), (EXAMPLES,)]


def test_an_object_that_is_not_here_is_missing_and_the_others_are_measured(scored: Dataset) -> None:
    metrics = choose_metrics(recipe_of("object:mine", "accuracy"), no_code)
    found = measured(scored, "cross_entropy", metrics)
    assert set(found.values) == {"loss", "accuracy"} and "given as an object" in found.missing["mine"]


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        (["acuracy"], "expected one of accuracy, top5"),
        (["f1", "pkg:f1"], "two figures would be called f1"),
        ([lambda o, t: 0.0], "cannot be called '<lambda>'.*metrics={name: metric}"),
        ({"loss": lambda o, t: 0.0}, "cannot be called 'loss'"),
        ({"val_x": lambda o, t: 0.0}, "cannot be called 'val_x'"),
        ({"mine": 3}, "mine is 3: expected a callable"),
        ({"mine": "f1"}, "f1 cannot be called mine"),
    ],
)
def test_a_metric_that_cannot_be_used_is_refused_before_anything_is_measured(metrics: Any, why: str) -> None:
    from podlt.manager.metrics.given import named_objects

    with pytest.raises(UsageError, match=f"(?s){why}"):
        choose_metrics(naming_metrics(tiny_recipe(), metrics), lambda name: max, named_objects(metrics))


@pytest.mark.parametrize("gives", [lambda o, t: o, lambda o, t: {"a": 1}, lambda o, t: None])
def test_a_callable_must_give_one_number(gives: Any, scored: Dataset) -> None:
    recipe = naming_metrics(tiny_recipe(), {"mine": gives})
    found = measured(scored, "cross_entropy", choose_metrics(recipe, no_code, {"object:mine": gives}))
    assert "expected one number, got a" in found.missing["mine"]


def operators_of_torchvision() -> torch.library.Library | None:
    """What torchvision, which torchmetrics imports, wants where its own library is of another PyTorch."""
    if importlib.util.find_spec("torchvision") is None or hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def test_metrics_of_torchmetrics_are_taken_batch_by_batch(scored: Dataset) -> None:
    library = operators_of_torchvision()  # is needed while it lives
    torchmetrics = pytest.importorskip("torchmetrics")
    metric = torchmetrics.classification.MulticlassF1Score(num_classes=4, average="macro")
    assert library is None or library.ns == "torchvision"
    recipe = naming_metrics(tiny_recipe(), [metric, "f1"])
    assert recipe.evaluation.metrics == ("object:multiclass_f1_score", "f1")
    metrics = choose_metrics(recipe, no_code, {"object:multiclass_f1_score": metric})
    for _ in range(2):  # the second time it begins anew
        found = measured(scored, "cross_entropy", metrics)
        assert found.values["multiclass_f1_score"] == pytest.approx(found.values["f1"], rel=1e-6)


def test_evaluating_leaves_every_part_of_a_module_in_its_mode(scored: Dataset) -> None:
    module = nn.Sequential(Same(), nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(4)))
    module[1][1].eval()
    modes = [one.training for one in module.modules()]
    assert measured(scored, "cross_entropy", MetricSet(), module).values["loss"]
    assert [one.training for one in module.modules()] == modes and modes[0] and not modes[-1]


def test_a_batch_has_as_many_examples_as_fit() -> None:
    torch.manual_seed(0)
    fields = [FieldSpec("x", "f32", (4,), None, "input"), FieldSpec("y", "i64", (), None, "label")]
    small = capture(nn.Linear(4, 2), "cross_entropy", fields, "stock").program
    wide = TensorType("f32", ({"B": [1, 0]}, 2**18))
    large = dataclasses.replace(small, types=(*small.types, wide))
    assert batch_examples(small) == 1000
    assert batch_examples(large) == 64  # of 1 MiB each


@pytest.mark.parametrize(
    ("figure", "better"),
    [("val_loss", "min"), ("top3", "max"), ("val_r2", "max"), ("perplexity", "min"), ("mine", None)],
)
def test_whether_less_is_better_follows_from_a_figures_name(figure: str, better: str | None) -> None:
    assert better_of(figure) == better


def test_a_module_is_given_buffers_that_its_state_dict_leaves_out() -> None:
    module = nn.BatchNorm1d(3)
    module.register_buffer("seen", torch.zeros(2), persistent=False)
    module.register_buffer("running_mean", module.running_mean, persistent=False)
    load_state(
        module,
        {
            "param:weight": torch.full((3,), 2.0),
            "buffer:seen": torch.ones(2),
            "buffer:running_mean": torch.full((3,), 5.0),
        },
    )
    assert module.weight.tolist() == [2.0] * 3 and module.seen.tolist() == [1.0] * 2
    assert module.running_mean is not None and module.running_mean.tolist() == [5.0] * 3
