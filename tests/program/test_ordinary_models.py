"""Models as PyTorch's users write them: captured, with the loss, gradients and buffers of plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from podlt.errors import UnsupportedError
from podlt.program.capture import capture
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec

from .against_pytorch import FOUR, IMAGE, NUMBER, WORDS, assert_as_pytorch, examples_of, run_program, some_fast


def total(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(model(batch["x"]), batch["y"], reduction="sum")


def layer(forward: Callable[[nn.Linear, torch.Tensor], torch.Tensor]) -> nn.Module:
    """A linear layer with another forward pass."""
    return type("Made", (nn.Linear,), {"forward": forward})(4, 3)


def inner(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return nn.Linear.forward(self, x)


def add_one(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    y = inner(self, x)
    y[:, 0] += 1
    return y


def fill_a_part(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    y = inner(self, x).clone()
    y[:, 1:] = y[:, :1] * 2
    y[:, 0] = 3
    return y


class Constant(nn.Linear):
    """A tensor as a plain attribute."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.scale = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.scale


class Caching(nn.Linear):
    """Keeps its last output and a table that it makes at its first call: harmless."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.last = self.table = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.table is None:
            self.table = torch.arange(3.0)
        self.last = super().forward(x)
        return self.last * self.table.to(x)


def convolutional(tail: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(tail(functional.relu(self.first(x))).flatten(2).mean(2))

    return Model()


WIDE: dict[str, tuple[Callable[[], nn.Module], list[FieldSpec]]] = {
    "a slice changed in place": (lambda: layer(add_one), FOUR),
    "slices written to": (lambda: layer(fill_a_part), FOUR),
    "max_pool2d without stride": (lambda: convolutional(lambda x: functional.max_pool2d(x, 2)), IMAGE),
    "max_pool2d with padding": (lambda: convolutional(lambda x: functional.max_pool2d(x, 3, padding=1)), IMAGE),
    "avg_pool2d without stride": (lambda: convolutional(lambda x: functional.avg_pool2d(x, 2)), IMAGE),
    "embedding with padding_idx": (
        lambda: nn.Sequential(nn.Embedding(9, 4, padding_idx=0), nn.Flatten(), nn.Linear(24, 3)),
        WORDS,
    ),
    "a cache": (Caching, FOUR),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), FOUR),
    "silu and layer norm": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.SiLU(), nn.Linear(6, 3)), FOUR),
}


@pytest.mark.parametrize("name", some_fast(WIDE, ("a slice changed in place", "max_pool2d without stride", "a cache")))
def test_it_gives_what_pytorch_gives_in_float64(name: str) -> None:
    make, fields = WIDE[name]
    torch.manual_seed(0)
    assert_as_pytorch(make(), "cross_entropy", fields, total)


NARROW: dict[str, tuple[Callable[[], nn.Module], list[FieldSpec]]] = {
    "float()": (lambda: layer(lambda self, x: inner(self, x.float())), FOUR),
    "softmax in float32": (lambda: layer(lambda self, x: inner(self, x).softmax(1, dtype=torch.float32)), FOUR),
    "RMSNorm with its own eps": (lambda: nn.Sequential(nn.Linear(4, 5), nn.RMSNorm(5), nn.Linear(5, 3)), FOUR),
    "a tensor as an attribute": (Constant, FOUR),
    "hardsigmoid": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Hardsigmoid(), nn.Linear(5, 3)), FOUR),
}


@pytest.mark.parametrize("name", some_fast(NARROW, ("float()", "RMSNorm with its own eps")))
def test_it_gives_what_pytorch_gives_in_float32_where_it_makes_float32_itself(name: str) -> None:
    make, fields = NARROW[name]
    torch.manual_seed(0)
    assert_as_pytorch(make(), "cross_entropy", fields, total, double=False)


def test_one_hot_does_not_stop_at_its_own_assertions() -> None:
    def brier(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (model(x).softmax(1) - functional.one_hot(y, 3)).square().sum(1)

    assert_as_pytorch(nn.Linear(4, 3), brier, FOUR, lambda m, b: brier(m, b["x"], b["y"]).sum(), below=3)


@pytest.mark.parametrize("reduction", some_fast(["none", "mean", "sum"], ["mean"]))
def test_gaussian_nll_is_captured_without_its_look_at_the_variances(reduction: str) -> None:
    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        out = model(x)
        return functional.gaussian_nll_loss(out[:, 0], y, out[:, 1].exp(), reduction=reduction)

    def whole(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        value = loss(model, batch["x"], batch["y"])
        return len(batch["x"]) * value if reduction == "mean" else value.sum()

    assert_as_pytorch(nn.Linear(4, 2), loss, NUMBER, whole, counts=(3,))


@pytest.mark.parametrize("rate", [0.1, pytest.param(0.5, marks=pytest.mark.slow)])
def test_dropout_is_held_against_pytorch_with_the_same_draws(rate: float) -> None:
    model = nn.Sequential(nn.Embedding(9, 4, padding_idx=0), nn.Dropout(rate), nn.Flatten(), nn.Linear(24, 3))
    assert "uniform" in {node.operation for node in capture(model, "cross_entropy", WORDS).program.nodes}


def test_a_gradient_that_dropout_hides_is_found() -> None:
    class Wrong(torch.autograd.Function):
        """Gives another gradient where it is not traced."""

        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            traced = type(gradient) is not torch.Tensor
            return gradient * (2 if traced else 1)

    model = layer(lambda self, x: functional.dropout(Wrong.apply(inner(self, x)), 0.1))
    with pytest.raises(UnsupportedError, match="another grad:weight"):
        capture(model, "cross_entropy", FOUR)


@pytest.mark.parametrize("arithmetic", some_fast(["exact/2", "exact/3"], ["exact/2"]))
def test_pooling_without_stride_is_exact_as_well(arithmetic: str) -> None:
    torch.manual_seed(0)
    model = convolutional(lambda x: functional.max_pool2d(x, 2))
    captured, batch = capture(model, "cross_entropy", IMAGE, arithmetic), examples_of(IMAGE, 3)
    found = run_program(Executor(captured.program), captured.state, batch, 0, double=False)
    total(model, batch).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[f"grad:{name}"], parameter.grad, rtol=2e-2, atol=2e-3)


# -- what a module keeps in Python -----------------------------------------------------------------------------------


class Kept(nn.Linear):
    """A mean in a plain attribute."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.mean = torch.zeros(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x - self.mean.to(x))
        self.mean = 0.9 * self.mean.to(x) + 0.1 * x.detach().mean(0)
        return y


class Annealed(nn.Linear):
    """A counter that will only matter after many calls."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x) * (2 if self.calls > 1000 else 1)


class Logging(nn.Linear):
    """A list that grows."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.history: list[float] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.history.append(1.0)
        return super().forward(x)


@pytest.mark.parametrize(("make", "name"), [(Kept, "mean"), (lambda: Annealed(4, 3), "calls"), (Logging, "history")])
def test_state_in_a_plain_attribute_is_refused_by_its_name_with_the_cure(
    make: Callable[[], nn.Module], name: str
) -> None:
    with pytest.raises(UnsupportedError, match=rf"attribute 0\.{name} changes with every call.*register_buffer"):
        capture(nn.Sequential(make()), "cross_entropy", FOUR)


def test_a_branch_on_the_number_of_examples_is_refused_where_examples_of_the_data_show_it() -> None:
    model = layer(lambda self, x: inner(self, x) * (2 if x.shape[0] > 20 else 1))
    capture(model, "cross_entropy", FOUR)
    with pytest.raises(UnsupportedError, match="on a batch of 24"):
        capture(model, "cross_entropy", FOUR, examples=examples_of(FOUR, 24))


def test_a_branch_on_the_number_of_examples_is_refused_where_the_largest_shard_shows_it() -> None:
    model = layer(lambda self, x: inner(self, x) * (2 if x.shape[0] > 200 else 1))
    capture(model, "cross_entropy", FOUR, most=200)
    with pytest.raises(UnsupportedError, match="on a batch of 201"):
        capture(model, "cross_entropy", FOUR, most=201)


def test_a_step_that_is_written_otherwise_for_many_examples_and_computes_the_same_is_taken() -> None:
    model = layer(lambda self, x: inner(self, x) * 2 if x.shape[0] > 200 else inner(self, x) + inner(self, x))
    capture(model, "cross_entropy", FOUR, most=300)


def test_a_class_out_of_range_is_found_in_examples_of_the_data() -> None:
    with pytest.raises(UnsupportedError, match="out of bounds"):
        capture(nn.Linear(4, 3), "cross_entropy", FOUR, examples={"x": torch.rand(2, 4), "y": torch.tensor([0, 3])})


def test_a_loss_that_is_not_finite_is_named() -> None:
    with pytest.raises(UnsupportedError, match="its loss is nan on the examples"):
        capture(nn.Linear(4, 3), lambda m, x, y: (m(x) - 100).log().sum(1), FOUR)


def test_the_example_of_a_users_loss_is_named() -> None:
    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.special.i0e(model(x)).sum(1)

    place = f"{Path(__file__).name}:{loss.__code__.co_firstlineno + 1}"
    with pytest.raises(UnsupportedError, match=place):
        capture(nn.Linear(4, 3), loss, FOUR)
