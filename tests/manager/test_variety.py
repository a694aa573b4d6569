"""Runs of every shape: each example is used once an epoch, what was applied is what the tasks give, and the proof
holds.

Each run is verified, and audited as a whole: every task executed again, every average and every update worked out anew.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from small_runs import CLASSIC, Trained, entries, seeded, small_recipe, tiny_recipe, train

from podlt.data.order import EpochOrder
from podlt.manager.audit import audit
from podlt.manager.batches import example_ids
from podlt.manager.metrics import evaluate
from podlt.manager.metrics.named import area
from podlt.protocol import entries as e
from podlt.protocol.plan import Upcoming
from podlt.recipe import ModelSpec, ProtocolSpec, Recipe

RESNET = ModelSpec("podlt.models:resnet", {"side": 8, "width": 4, "blocks": 1})


EVEN = ProtocolSpec(checked=0.0)
"""Rounds are cut alike, whatever is drawn."""


def with_model(recipe: Recipe, model: ModelSpec) -> Recipe:
    """A recipe for another model."""
    return msgspec.structs.replace(recipe, model=model)


def sound(path: Path, recipe: Recipe, **options: Any) -> Trained:
    """Trains, verifies, and audits everything."""
    trained = train(path, recipe, entropy=seeded(8), **options)
    report = audit(path, 1.0, jobs=1)
    assert report.exit_code == 0, report.findings
    assert report.executed == report.tasks and not report.mismatches
    assert report.averaged == list(range(report.rounds))
    return trained


def used_examples(run: Path) -> dict[int, Counter[int]]:
    """Epoch -> how often each example was taken, by the log alone."""
    log = entries(run)
    begin, orders = log[0], dict[int, EpochOrder]()
    found: dict[int, Counter[int]] = {}
    for opened in log:
        if isinstance(opened, e.Open):
            plan = Upcoming(opened.epoch, opened.offset, opened.examples, len(opened.shards))
            ids = example_ids(orders, begin.examples, begin.seed, plan)
            found.setdefault(opened.epoch, Counter()).update(ids.tolist())
    return found


@pytest.mark.slow
def test_shards_of_fixed_size_carry_the_rest_on_and_use_every_example_once(tmp_path: Path) -> None:
    recipe = with_model(
        tiny_recipe(examples=130, workers=6, batch_size=50, shard_size=7, epochs=2, protocol=EVEN), RESNET
    )
    trained = sound(tmp_path / "run", recipe, processes=1)
    opens = [entry for entry in entries(tmp_path / "run") if isinstance(entry, e.Open)]
    assert [entry.examples for entry in opens] == [42, 42, 42, 4] * 2
    for epoch in used_examples(tmp_path / "run").values():
        assert set(epoch.values()) == {1} and len(epoch) == 130
    buffers = {name: value for name, value in trained.result.state_dict.items() if "running_var" in name}
    assert buffers and all(not torch.equal(value, torch.ones_like(value)) for value in buffers.values())
    assert all(bool(torch.isfinite(value).all()) for value in trained.result.state_dict.values())


@pytest.mark.slow
def test_a_run_learns_and_its_result_is_the_module_that_was_measured(cheated: Trained) -> None:
    result = cheated.result
    assert result.metrics["accuracy"] > 0.8
    assert set(result.state_dict) == set(result.model.state_dict())
    assert len(used_examples(result.run)) == 2
    for epoch in used_examples(result.run).values():
        assert set(epoch.values()) == {1} and sorted(epoch) == list(range(cheated.state.begin.examples))  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize(
    "training",
    [
        {"local_steps": 3, "local_lr": 0.05},
        {"examples": 130, "batch_size": 50},
        {"workers": 12, "batch_size": 5, "examples": 23},
        {"workers": 7, "shard_size": 3, "epochs": 3},
        {"history": "all", "checkpoint_every": 1},
    ],
    ids=["local steps", "a short last batch", "more workers than examples", "small shards", "every round kept"],
)
@pytest.mark.parametrize("model", [None, RESNET], ids=["mlp", "resnet"])
def test_every_shape_of_run_is_sound(tmp_path: Path, training: dict[str, Any], model: ModelSpec | None) -> None:
    recipe = tiny_recipe(**training)
    sound(tmp_path / "run", recipe if model is None else with_model(recipe, model), processes=2)
    for epoch in used_examples(tmp_path / "run").values():
        assert set(epoch.values()) == {1}


@pytest.mark.slow
def test_with_other_workers_the_parameters_are_nearly_the_same(tmp_path: Path, cheated: Trained) -> None:
    """Shards are cut otherwise, so that sums are rounded otherwise: near, and not the same bits."""
    few = train(tmp_path / "few", small_recipe(workers=4, protocol=CLASSIC)).result.state_dict
    many = train(tmp_path / "many", small_recipe(workers=20, protocol=CLASSIC)).result.state_dict
    for name, value in few.items():
        np.testing.assert_allclose(value, many[name], rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_other_secrets_deal_otherwise_and_train_the_same(tmp_path: Path) -> None:
    """Who computes what is drawn; what is computed follows from the recipe alone, where the number of spares does."""
    recipe = tiny_recipe(workers=5, protocol=CLASSIC)
    first = train(tmp_path / "first", recipe, entropy=seeded(1)).result
    second = train(tmp_path / "second", recipe, entropy=seeded(2)).result
    assert first.parameters == second.parameters
    assert first.ledger != second.ledger


@pytest.mark.slow
def test_history_last_keeps_enough_to_go_on(tmp_path: Path) -> None:
    train(tmp_path / "run", tiny_recipe(epochs=4, history="last", checkpoint_every=4, protocol=CLASSIC), processes=1)
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["00000000.safetensors", "00000012.safetensors", "00000016.safetensors"]
    assert min(path.name for path in (tmp_path / "run" / "updates").iterdir()) == "00000012.bin"


def test_figures_that_cannot_be_measured_are_one_error() -> None:
    from podlt.data.prepare import prepare
    from podlt.errors import UsageError

    data = prepare(tiny_recipe().data, None, None, Path()).test
    assert data is not None
    with pytest.raises(UsageError, match="figures on the test set"):
        evaluate(torch.nn.Linear(64, 5), "cross_entropy", data)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 3e38])
def test_figures_that_are_not_finite_are_left_out(weight: float) -> None:
    from podlt.data.prepare import prepare

    data = prepare(tiny_recipe().data, None, None, Path()).test
    assert data is not None
    module = torch.nn.Linear(64, 10)
    assert set(evaluate(module, "cross_entropy", data)) == {"loss", "accuracy"}
    torch.nn.init.constant_(module.weight, weight)
    assert set(evaluate(module, "cross_entropy", data)) == {"accuracy"}


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_have_no_area_under_their_curve(score: float) -> None:
    truths = np.array([0.0, 1.0, 1.0])
    assert area(truths, np.array([0.1, 0.2, 0.3])) == 1.0
    assert np.isnan(area(truths, np.array([0.1, score, 0.3])))
    assert np.isnan(area(np.ones(3), np.array([0.1, 0.2, 0.3])))
