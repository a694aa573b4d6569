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
    require_lines,
    require_memory,
    task_lines,
    tried_lines,
    with_plan,
)
from podlt.manager.metrics import evaluate
from podlt.program.capture import capture
from podlt.program.ir import FieldSpec, Program
from podlt.program.memory import peak_bytes
from podlt.protocol.plan import RoundCut, fragment_bounds
from podlt.recipe import ProtocolSpec, run_seed

PIXELS = [FieldSpec("x", "f32", (64,), None, "input"), FieldSpec("y", "i64", (), None, "label")]


@cache
def normed() -> Program:
    """A model that needs two lines."""
    model = nn.Sequential(nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, 10))
    return capture(model, "cross_entropy", PIXELS).program


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (
            {"workers": 8, "block_lines": 6, "protocol": CLASSIC},
            r"would have 1 of 200 lines.*needs 2: BatchNorm.*block_lines = 17,",
        ),
        (
            {"workers": 8, "block_lines": 97, "protocol": CLASSIC},
            r"block_lines = 97: the smallest fragment would have 1 of",
        ),
        (
            {"workers": 8, "block_lines": 100, "fragment_lines": 1, "protocol": CLASSIC},
            r"fragment_lines = 1:.*fragment_lines = 5,",
        ),
        ({"workers": 8, "block_lines": 6}, r"would have 1 of 200 lines.*needs 2: BatchNorm.*block_lines = 20,"),
        ({"workers": 8, "block_lines": 97}, r"block_lines = 97: the smallest fragment would have 1 of 200"),
        ({"workers": 8, "block_lines": 100, "local_steps": 16, "local_lr": 0.1}, r"would have 1 of 200 lines"),
    ],
)
def test_fragments_of_one_line_are_refused_for_a_model_with_batch_norm(training: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        require_lines(normed(), tiny_recipe(**training), 200)


@pytest.mark.parametrize(
    "training",
    [
        {"workers": 8, "block_lines": 100},
        {"workers": 8, "block_lines": 100, "fragment_lines": 5},
        {"workers": 8, "block_lines": 20, "protocol": CLASSIC},
        {"workers": 8, "block_lines": 100, "fragment_lines": 5, "protocol": CLASSIC},
        {"workers": 8, "block_lines": 100, "fragment_lines": 5, "protocol": ProtocolSpec(checked=0.0)},
        {"workers": 8, "block_lines": 100, "local_steps": 8, "local_lr": 0.1, "protocol": CLASSIC},
        {"workers": 8, "block_lines": 100, "local_steps": 3, "local_lr": 0.1},
    ],
)
def test_fragments_of_two_lines_are_enough(training: dict[str, Any]) -> None:
    require_lines(normed(), tiny_recipe(**training), 200)


def test_a_model_without_batch_norm_may_have_fragments_of_one_line() -> None:
    program = capture(nn.Linear(64, 10), "cross_entropy", PIXELS).program
    require_lines(program, tiny_recipe(workers=8, block_lines=6), 200)


def test_a_program_is_tried_on_lines_from_all_over_the_data() -> None:
    train = prepare(tiny_recipe().data, None, None, Path()).train
    for block, count in ((3, 7), (40, 20), (500, 32)):
        lines = tried_lines(tiny_recipe(block_lines=block), train)
        assert {len(value) for value in lines.values()} == {count}
    assert len(lines["label"].unique()) > 5


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
    ("training", "lines"),
    [
        ({"workers": 8, "block_lines": 100, "protocol": CLASSIC}, 17),
        ({"workers": 8, "block_lines": 100, "fragment_lines": 5, "protocol": CLASSIC}, 5),
        ({"workers": 8, "block_lines": 1000, "protocol": CLASSIC}, 34),
        ({"workers": 8, "block_lines": 100, "local_steps": 4, "local_lr": 0.1, "protocol": CLASSIC}, 5),
        ({"workers": 8, "block_lines": 100}, 15),
        ({"workers": 8, "block_lines": 100, "fragment_lines": 5}, 5),
        ({"workers": 8, "block_lines": 1000}, 29),
    ],
)
def test_the_lines_of_a_task_follow_from_the_plan(training: dict[str, Any], lines: int) -> None:
    assert task_lines(tiny_recipe(**training), 200) == lines


@given(
    lines=st.integers(1, 300),
    block_lines=st.integers(1, 100),
    fragment_lines=st.sampled_from([0, 0, 1, 5, 12]),
    workers=st.integers(1, 12),
    protocol=st.sampled_from([ProtocolSpec(), OFTEN, ProtocolSpec(checked=0.0)]),
)
def test_no_round_of_a_run_has_a_fragment_beyond_what_the_plan_says(
    lines: int, block_lines: int, fragment_lines: int, workers: int, protocol: ProtocolSpec
) -> None:
    fragment_lines = min(fragment_lines, block_lines)
    recipe = tiny_recipe(workers=workers, block_lines=block_lines, fragment_lines=fragment_lines, protocol=protocol)
    bounds, found = batch_bounds(recipe, lines, block_lines, fragment_lines), set[int]()
    options, cut, offset, round = protocol.options, RoundCut(lines, block_lines, fragment_lines), 0, 0
    for epoch in range(recipe.training.epochs):
        offset = 0
        while offset < lines:
            plan = cut.upcoming(epoch, offset, workers - options.spares_of(run_seed(recipe), round, workers))
            found |= {stop - start for start, stop in fragment_bounds(plan.lines, plan.fragments)}
            offset, round = offset + plan.lines, round + 1
    assert bounds == (min(found), max(found))


def test_a_task_that_does_not_fit_is_refused_with_the_pieces_that_do() -> None:
    recipe, room = tiny_recipe(workers=8, block_lines=100), peak_bytes(normed(), 5, is_summed=True)[0]
    with pytest.raises(UsageError, match=r"15 lines of this model take .*set training.micro_lines = \d") as refused:
        require_memory(normed(), recipe, 200, room)
    fits = int(str(refused.value).rpartition(" ")[2])
    assert fits == 5
    pieces = tiny_recipe(workers=8, block_lines=100, micro_lines=fits)
    require_memory(with_plan(normed(), pieces), pieces, 200, room)
    with pytest.raises(UsageError, match="a smaller model, or a larger machine"):
        require_memory(normed(), recipe, 200, 1_000)


def test_pieces_of_one_line_are_refused_for_a_model_with_batch_norm_and_others_are_told_of() -> None:
    recipe = tiny_recipe(workers=8, block_lines=100, micro_lines=1)
    with pytest.raises(UsageError, match=r"training.micro_lines = 1: .* Take training.micro_lines = 3"):
        require_lines(normed(), recipe, 200)
    recipe = tiny_recipe(workers=8, block_lines=100, micro_lines=3)
    require_lines(normed(), recipe, 200)
    assert "BatchNorm takes its means and variances over a piece" in piece_notice(with_plan(normed(), recipe))
    assert not piece_notice(normed())


def test_a_run_in_pieces_is_trained_and_audited(tmp_path: Path) -> None:
    recipe = tiny_recipe(micro_lines=3)
    run = train_near(tmp_path / "run", recipe, entropy=seeded(1)).result.run
    assert Program.from_bytes((run / "program.json").read_bytes()).micro_lines == 3
    assert audit(run, 1.0).exit_code == 0
