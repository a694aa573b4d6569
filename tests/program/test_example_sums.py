"""An update is a sum over examples, however they are dealt: what is no such sum is refused, with the operation and
line.

Source: an example's update must not depend on who else is in its shard; BatchNorm alone may do so, as it is meant to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from podlt.errors import UnsupportedError
from podlt.program.capture import capture
from podlt.program.needs import least_examples

from .against_pytorch import FOUR, IMAGE, NUMBER, assert_as_pytorch, examples_of, some_fast, update

Forward = Callable[[nn.Linear, torch.Tensor], torch.Tensor]


def layer(forward: Forward) -> nn.Module:
    """A linear layer with another forward pass."""
    torch.manual_seed(0)
    return type("Made", (nn.Linear,), {"forward": forward})(4, 3)


def inner(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return nn.Linear.forward(self, x)


SEEING: dict[str, tuple[Forward, str]] = {
    "a mean": (lambda self, x: inner(self, x - x.mean(0)), "mean.dim"),
    "a maximum": (lambda self, x: inner(self, x / x.abs().amax(0)), "amax.default"),
    "a deviation": (lambda self, x: inner(self, x / (x.std(0, correction=0) + 1e-3)), "var"),
    "the first example": (lambda self, x: inner(self, x) + inner(self, x)[0], "select.int"),
    "the last example": (lambda self, x: inner(self, x) + inner(self, x)[-1], "select.int"),
    "the largest example": (lambda self, x: inner(self, x) + inner(self, x).amax(0), "amax.default"),
    "the order": (lambda self, x: inner(self, x) + inner(self, x).flip(0), "flip.default"),
    "the place": (lambda self, x: inner(self, x) * torch.arange(x.shape[0])[:, None], "arange"),
    "attention over examples": (lambda self, x: torch.softmax(x @ x.T, 1) @ inner(self, x), "_softmax.default"),
    "a running sum": (lambda self, x: inner(self, x.cumsum(0)), "cumsum.default"),
}


@pytest.mark.parametrize("name", some_fast(SEEING, ("a mean", "the last example", "the order", "the place")))
def test_examples_that_see_each_other_are_refused_with_operation_and_line(name: str) -> None:
    forward, operation = SEEING[name]
    with pytest.raises(UnsupportedError, match="see each other") as found:
        capture(layer(forward), "cross_entropy", FOUR)
    assert operation in str(found.value) and "how the examples are dealt" in str(found.value)
    assert f"{Path(__file__).name}:{forward.__code__.co_firstlineno}" in str(found.value)


@pytest.mark.parametrize("name", some_fast(SEEING, ("a mean", "the last example")))
def test_a_large_model_is_tried_on_three_examples_and_refused_as_well(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlt.program.capture.LARGE", 0)
    monkeypatch.setattr("podlt.program.example_sums.HELD_BYTES", 0)
    forward, operation = SEEING[name]
    with pytest.raises(UnsupportedError, match="see each other") as found:
        capture(layer(forward), "cross_entropy", FOUR)
    assert operation in str(found.value)


def test_a_contrastive_loss_is_refused_as_its_examples_see_each_other() -> None:
    def contrast(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z = functional.normalize(model(x), dim=1)
        return functional.cross_entropy(z @ z.T, torch.arange(len(z)), reduction="none")

    with pytest.raises(UnsupportedError, match="see each other"):
        capture(nn.Linear(4, 8), contrast, FOUR)


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        pytest.param(
            lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)),
            FOUR,
            marks=pytest.mark.slow,
        ),
        (
            lambda: nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 2)
            ),
            IMAGE,
        ),
    ],
)
def test_batch_norms_are_admitted_beside_everything_else(make: Callable[[], nn.Module], fields: list[object]) -> None:
    torch.manual_seed(1)
    program = capture(make(), "cross_entropy", fields).program  # type: ignore[arg-type]
    assert "_native_batch_norm_legit_functional.default" in {node.operation for node in program.nodes}


def test_a_large_model_with_batch_norm_and_a_mean_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    small = capture(model, nn.CrossEntropyLoss(), FOUR).program
    monkeypatch.setattr("podlt.program.capture.LARGE", 0)
    monkeypatch.setattr("podlt.program.example_sums.HELD_BYTES", 0)
    assert capture(model, nn.CrossEntropyLoss(), FOUR).program.digest == small.digest


def test_a_model_that_sees_other_examples_by_more_than_its_batch_norm_is_refused() -> None:
    class Both(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 3)
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(super().forward(x)) * (1 + x.mean())

    with pytest.raises(UnsupportedError, match=r"see each other in mean"):
        capture(Both(), "cross_entropy", FOUR)


def test_instance_norms_with_running_statistics_are_no_sight_of_other_examples() -> None:
    model = nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten(), nn.Linear(4, 3)
    )
    assert_as_pytorch(
        model, "cross_entropy", FOUR, lambda m, b: functional.cross_entropy(m(b["x"]), b["y"], reduction="sum"), below=3
    )


def test_batch_norm_needs_two_values_a_channel() -> None:
    flat = capture(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), "cross_entropy", FOUR).program
    assert least_examples(flat)[0] == 2 and "BatchNorm" in least_examples(flat)[1]
    images = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 2))
    assert least_examples(capture(images, "cross_entropy", IMAGE).program) == (1, "")


def test_a_model_that_squeezes_its_examples_away_needs_two() -> None:
    program = capture(nn.Linear(4, 1), lambda m, x, y: (m(x).squeeze() - y).square(), NUMBER).program
    assert least_examples(program)[0] == 2


# -- means -----------------------------------------------------------------------------------------------------------

MEANS: dict[str, Callable[..., torch.Tensor]] = {
    "cross_entropy": lambda m, x, y: functional.cross_entropy(m(x), y),
    "smoothed": lambda m, x, y: functional.cross_entropy(m(x), y, label_smoothing=0.1),
    "squares": lambda m, x, y: (m(x) - 1).square().mean(),
    "divided by hand": lambda m, x, y: m(x).square().sum() / x.shape[0],
    "a mean of means": lambda m, x, y: m(x).square().mean(1).mean(),
    "huber": lambda m, x, y: functional.huber_loss(m(x), x[:, :3]),
    "with a penalty": lambda m, x, y: functional.cross_entropy(m(x), y) + 0.1 * m.weight.square().sum(),
}


@pytest.mark.parametrize("name", some_fast(MEANS, ("cross_entropy", "squares", "with a penalty")))
def test_a_mean_over_examples_is_taken_as_the_sum_that_it_is_of(name: str) -> None:
    torch.manual_seed(0)
    loss = MEANS[name]
    assert_as_pytorch(nn.Linear(4, 3), loss, FOUR, lambda m, b: len(b["x"]) * loss(m, b["x"], b["y"]), below=3)


def test_parts_of_a_batch_give_together_what_the_whole_gives_for_a_mean() -> None:
    captured = capture(nn.Linear(4, 3), MEANS["cross_entropy"], FOUR)
    batch = examples_of(FOUR, 12, 3)
    whole = update(captured, batch)
    parts = [update(captured, {n: v[i:j] for n, v in batch.items()}) for i, j in ((0, 1), (1, 3), (3, 12))]
    for name, value in whole.items():
        torch.testing.assert_close(sum(part[name] for part in parts), value)


def test_a_mean_over_a_batch_norm_is_a_mean() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    loss = MEANS["cross_entropy"]
    assert_as_pytorch(model, loss, FOUR, lambda m, b: len(b["x"]) * loss(m, b["x"], b["y"]), below=3)


def rooted(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return model(x).square().sum(1).mean() / x.sum().sqrt()


def scored(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    own = model(x).square().sum(1)
    return (own * x[:, 0]).sum() / own.sum()


@pytest.mark.parametrize("loss", [pytest.param(rooted, marks=pytest.mark.slow), scored])
def test_a_divisor_that_is_no_sum_over_examples_is_refused_with_its_place(loss: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(UnsupportedError, match="depends on the data") as found:
        capture(nn.Linear(4, 3), loss, FOUR)
    assert "reduction='none'" in str(found.value) and f"{Path(__file__).name}:" in str(found.value)


def test_a_penalty_beside_a_sum_is_refused_with_the_cure() -> None:
    def penalised(model: nn.Linear, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(model(x), y, reduction="sum") + model.weight.square().sum()

    with pytest.raises(UnsupportedError, match=r"term beside the examples.*weight_decay"):
        capture(nn.Linear(4, 3), penalised, FOUR)


# -- buffers ---------------------------------------------------------------------------------------------------------


class Counting(nn.Linear):
    """Counts the examples that it has seen in a buffer, of a type of one's choice."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__(4, 3)
        self.register_buffer("seen", torch.zeros((), dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += x.shape[0]
        return super().forward(x)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_a_buffer_that_counts_examples_is_refused_as_a_shard_has_fewer(dtype: torch.dtype) -> None:
    with pytest.raises(UnsupportedError, match="buffer seen is no mean over examples"):
        capture(Counting(dtype), "cross_entropy", FOUR)
