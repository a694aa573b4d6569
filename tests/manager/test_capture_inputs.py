"""What a run asks of its captured program before the first round, and what its user hears of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from near_hosts import train_near
from small_runs import CLASSIC, OFTEN, seeded, tiny_recipe
from torch import nn
from torch.nn import functional

from podlt.data.prepare import prepare
from podlt.errors import UsageError
from podlt.manager import events as ev
from podlt.manager.audit import audit
from podlt.manager.capture_inputs import (
    batch_bounds,
    piece_notice,
    require_examples,
    require_memory,
    task_examples,
    tried_examples,
    with_plan,
)
from podlt.manager.metrics import evaluate
from podlt.program.capture import capture
from podlt.program.ir import FieldSpec, Program
from podlt.program.memory import peak_bytes
from podlt.protocol.plan import RoundCut, shard_bounds
from podlt.recipe import ProtocolSpec, run_seed

PIXELS = [FieldSpec("x", "f32", (64,), None, "input"), FieldSpec("y", "i64", (), None, "label")]


@cache
def normed() -> Program:
    """A model that needs two examples."""
    model = nn.Sequential(nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, 10))
    return capture(model, "cross_entropy", PIXELS).program


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (
            {"workers": 8, "batch_size": 6, "protocol": CLASSIC},
            r"would have 1 of 200 examples.*needs 2: BatchNorm.*batch_size = 17,",
        ),
        (
            {"workers": 8, "batch_size": 97, "protocol": CLASSIC},
            r"batch_size = 97: the smallest shard would have 1 of",
        ),
        (
            {"workers": 8, "batch_size": 100, "shard_size": 1, "protocol": CLASSIC},
            r"shard_size = 1:.*shard_size = 5,",
        ),
        ({"workers": 8, "batch_size": 6}, r"would have 1 of 200 examples.*needs 2: BatchNorm.*batch_size = 20,"),
        ({"workers": 8, "batch_size": 97}, r"batch_size = 97: the smallest shard would have 1 of 200"),
        ({"workers": 8, "batch_size": 100, "local_steps": 16, "local_lr": 0.1}, r"would have 1 of 200 examples"),
    ],
)
def test_shards_of_one_example_are_refused_for_a_model_with_batch_norm(training: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        require_examples(normed(), tiny_recipe(**training), 200)


@pytest.mark.parametrize(
    "training",
    [
        {"workers": 8, "batch_size": 100},
        {"workers": 8, "batch_size": 100, "shard_size": 5},
        {"workers": 8, "batch_size": 20, "protocol": CLASSIC},
        {"workers": 8, "batch_size": 100, "shard_size": 5, "protocol": CLASSIC},
        {"workers": 8, "batch_size": 100, "shard_size": 5, "protocol": ProtocolSpec(checked=0.0)},
        {"workers": 8, "batch_size": 100, "local_steps": 8, "local_lr": 0.1, "protocol": CLASSIC},
        {"workers": 8, "batch_size": 100, "local_steps": 3, "local_lr": 0.1},
    ],
)
def test_shards_of_two_examples_are_enough(training: dict[str, Any]) -> None:
    require_examples(normed(), tiny_recipe(**training), 200)


def test_a_model_without_batch_norm_may_have_shards_of_one_line() -> None:
    program = capture(nn.Linear(64, 10), "cross_entropy", PIXELS).program
    require_examples(program, tiny_recipe(workers=8, batch_size=6), 200)


def test_a_program_is_tried_on_examples_from_all_over_the_data() -> None:
    train = prepare(tiny_recipe().data, None, None, Path()).train
    for batch, count in ((3, 7), (40, 20), (500, 32)):
        examples = tried_examples(tiny_recipe(batch_size=batch), train)
        assert {len(value) for value in examples.values()} == {count}
    assert len(examples["label"].unique()) > 5


class WithLater(nn.Module):
    """A model with a layer that its loss does not use, trained by a mean loss."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line, self.later = nn.Linear(64, 10), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x)


def test_parameters_that_the_loss_does_not_use_come_out_as_they_went_in(tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(tiny_recipe(), optimizer={"name": "adamw", "lr": 0.05, "weight_decay": 0.1})
    run = train_near(tmp_path / "run", recipe, model=nn.DataParallel(WithLater()), processes=1)
    first, trained = WithLater(), run.result.model
    assert isinstance(trained, WithLater)
    assert torch.equal(trained.later.weight, first.later.weight)
    assert not torch.equal(trained.line.weight, first.line.weight)
    notices = [event.what for event in run.of(ev.Preparing) if "does not use" in event.what]
    assert len(notices) == 1 and "later.weight, later.bias" in notices[0]


def test_figures_of_a_mean_loss_are_those_of_its_sum() -> None:
    test = prepare(tiny_recipe().data, None, None, Path()).test
    assert test is not None
    module = WithLater()

    def mean(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(model(x), y)

    assert evaluate(module, mean, test)["loss"] == pytest.approx(evaluate(module, "cross_entropy", test)["loss"])


@pytest.mark.parametrize(
    ("training", "examples"),
    [
        ({"workers": 8, "batch_size": 100, "protocol": CLASSIC}, 17),
        ({"workers": 8, "batch_size": 100, "shard_size": 5, "protocol": CLASSIC}, 5),
        ({"workers": 8, "batch_size": 1000, "protocol": CLASSIC}, 34),
        ({"workers": 8, "batch_size": 100, "local_steps": 4, "local_lr": 0.1, "protocol": CLASSIC}, 5),
        ({"workers": 8, "batch_size": 100}, 15),
        ({"workers": 8, "batch_size": 100, "shard_size": 5}, 5),
        ({"workers": 8, "batch_size": 1000}, 29),
    ],
)
def test_the_examples_of_a_task_follow_from_the_plan(training: dict[str, Any], examples: int) -> None:
    assert task_examples(tiny_recipe(**training), 200) == examples


@given(
    examples=st.integers(1, 300),
    batch_size=st.integers(1, 100),
    shard_size=st.sampled_from([0, 0, 1, 5, 12]),
    workers=st.integers(1, 12),
    protocol=st.sampled_from([ProtocolSpec(), OFTEN, ProtocolSpec(checked=0.0)]),
)
def test_no_round_of_a_run_has_a_shard_beyond_what_the_plan_says(
    examples: int, batch_size: int, shard_size: int, workers: int, protocol: ProtocolSpec
) -> None:
    shard_size = min(shard_size, batch_size)
    recipe = tiny_recipe(workers=workers, batch_size=batch_size, shard_size=shard_size, protocol=protocol)
    bounds, found = batch_bounds(recipe, examples, batch_size, shard_size), set[int]()
    options, cut, offset, round = protocol.options, RoundCut(examples, batch_size, shard_size), 0, 0
    for epoch in range(recipe.training.epochs):
        offset = 0
        while offset < examples:
            plan = cut.upcoming(epoch, offset, workers - options.spares_of(run_seed(recipe), round, workers))
            found |= {stop - start for start, stop in shard_bounds(plan.examples, plan.shards)}
            offset, round = offset + plan.examples, round + 1
    assert bounds == (min(found), max(found))


def test_a_task_that_does_not_fit_is_refused_with_the_pieces_that_do() -> None:
    recipe, room = tiny_recipe(workers=8, batch_size=100), peak_bytes(normed(), 5, is_summed=True)[0]
    with pytest.raises(
        UsageError, match=r"15 examples of this model take .*set training.micro_batch_size = \d"
    ) as refused:
        require_memory(normed(), recipe, 200, room)
    fits = int(str(refused.value).rpartition(" ")[2])
    assert fits == 5
    pieces = tiny_recipe(workers=8, batch_size=100, micro_batch_size=fits)
    require_memory(with_plan(normed(), pieces), pieces, 200, room)
    with pytest.raises(UsageError, match="a smaller model, or a larger machine"):
        require_memory(normed(), recipe, 200, 1_000)


def test_pieces_of_one_example_are_refused_for_a_model_with_batch_norm_and_others_are_told_of() -> None:
    recipe = tiny_recipe(workers=8, batch_size=100, micro_batch_size=1)
    with pytest.raises(UsageError, match=r"training.micro_batch_size = 1: .* Take training.micro_batch_size = 3"):
        require_examples(normed(), recipe, 200)
    recipe = tiny_recipe(workers=8, batch_size=100, micro_batch_size=3)
    require_examples(normed(), recipe, 200)
    assert "BatchNorm takes its means and variances over a piece" in piece_notice(with_plan(normed(), recipe))
    assert not piece_notice(normed())


def test_a_run_in_pieces_is_trained_and_audited(tmp_path: Path) -> None:
    recipe = tiny_recipe(micro_batch_size=3)
    run = train_near(tmp_path / "run", recipe, entropy=seeded(1)).result.run
    assert Program.from_bytes((run / "program.json").read_bytes()).micro_batch_size == 3
    assert audit(run, 1.0).exit_code == 0
