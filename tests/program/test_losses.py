"""Named losses: PyTorch's values and shapes, a sum over examples; nothing is broadcast, no number is cut to a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from podlt.errors import UnsupportedError
from podlt.program.capture import capture
from podlt.program.ir import FieldSpec
from podlt.program.losses import NAMED
from podlt.program.step import is_mean, loss_value

from .against_pytorch import FOUR, NUMBER, assert_as_pytorch

N, C = 5, 3
CLASSES, DEEP = torch.randint(0, C, (N,)), torch.randint(0, C, (N, 4, 2))
NUMBERS = torch.rand(N, 4)

AS_PYTORCH: dict[str, tuple[str, Callable[..., torch.Tensor], torch.Tensor, torch.Tensor]] = {
    "cross_entropy": ("cross_entropy", functional.cross_entropy, torch.randn(N, C), CLASSES),
    "cross_entropy of an image": ("cross_entropy", functional.cross_entropy, torch.randn(N, C, 4, 2), DEEP),
    "cross_entropy of bytes": (
        "cross_entropy",
        lambda o, y: functional.cross_entropy(o, y.long()),
        torch.randn(N, C),
        CLASSES.to(torch.uint8),
    ),
    "cross_entropy of probabilities": (
        "cross_entropy",
        functional.cross_entropy,
        torch.randn(N, C),
        torch.rand(N, C).softmax(1),
    ),
    "token_cross_entropy": (
        "token_cross_entropy",
        lambda o, y: functional.cross_entropy(o.transpose(1, 2), y),
        torch.randn(N, 4, C),
        DEEP[..., 0],
    ),
    "nll": ("nll", functional.nll_loss, torch.randn(N, C).log_softmax(1), CLASSES),
    "nll of an image": ("nll", functional.nll_loss, torch.randn(N, C, 4, 2).log_softmax(1), DEEP),
    "mse": ("mse", functional.mse_loss, torch.randn(N, 4), NUMBERS),
    "mse of a column": ("mse", lambda o, y: functional.mse_loss(o[:, 0], y), torch.randn(N, 1), NUMBERS[:, 0]),
    "l1": ("l1", functional.l1_loss, torch.randn(N, 4), NUMBERS),
    "smooth_l1": ("smooth_l1", functional.smooth_l1_loss, 2 * torch.randn(N, 4), NUMBERS),
    "huber": ("huber", functional.huber_loss, 2 * torch.randn(N, 4), NUMBERS),
    "bce": ("bce", functional.binary_cross_entropy_with_logits, torch.randn(N, 4), NUMBERS.round()),
}


@pytest.mark.parametrize("name", AS_PYTORCH)
def test_a_named_loss_is_pytorchs_mean_times_the_examples(name: str) -> None:
    loss, reference, output, label = AS_PYTORCH[name]
    torch.testing.assert_close(NAMED[loss](output, label), reference(output, label) * N, rtol=1e-5, atol=1e-5)


REFUSED: dict[str, tuple[str, torch.Tensor, torch.Tensor, str]] = {
    "numbers as classes": ("cross_entropy", torch.randn(N, C), torch.rand(N), 'target = "class"'),
    "numbers as classes of nll": ("nll", torch.randn(N, C), torch.rand(N), 'target = "class"'),
    "classes last": ("cross_entropy", torch.randn(N, 4, C), DEEP[..., 0], '"token_cross_entropy", or transpose'),
    "classes first": ("token_cross_entropy", torch.randn(N, C, 4), DEEP[..., 0], '"cross_entropy" for scores'),
    "a label for each of two positions": ("cross_entropy", torch.randn(N, C), DEEP[:, :2, 0], r"\(n, 3\) and \(n, 2\)"),
    "one class": ("cross_entropy", torch.randn(N, 1), CLASSES, "two or more classes"),
    "one label for three outputs": ("mse", torch.randn(N, 3), torch.rand(N), r"\(n, 3\) and the labels are \(n\)"),
    "three labels for one output": ("bce", torch.randn(N, 1), torch.rand(N, 3), "nothing is repeated to fit"),
    "l1 that broadcasts": ("l1", torch.randn(N, 3), torch.rand(N, 1), "nothing is repeated to fit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_named_loss_would_read_wrongly_is_refused_with_the_cure(name: str) -> None:
    loss, output, label, words = REFUSED[name]
    with pytest.raises(UnsupportedError, match=words):
        NAMED[loss](output, label)


@pytest.mark.parametrize(
    ("model", "loss", "fields", "words"),
    [
        (nn.Linear(4, 3), "mse", NUMBER, "mse: the model gives"),
        (nn.Linear(4, 3), "cross_entropy", NUMBER, "labels are numbers"),
        (nn.Linear(4, 3), "hinge", FOUR, "no loss named 'hinge': expected one of cross_entropy"),
        (nn.Linear(4, 3), lambda m, x, y: None, FOUR, "the loss must be a tensor .* got NoneType"),
        (nn.Linear(4, 3), lambda m, x, y: m(x), FOUR, r"got shape \(7, 3\)"),
    ],
)
def test_a_capture_with_a_loss_that_does_not_fit_says_why(
    model: nn.Module, loss: Any, fields: list[FieldSpec], words: str
) -> None:
    with pytest.raises(UnsupportedError, match=words):
        capture(model, loss, fields)


# -- what a model and a loss may give --------------------------------------------------------------------------------


class Output(dict[str, torch.Tensor]):
    """As Hugging Face's: a mapping whose items are attributes as well."""

    def __getattr__(self, name: str) -> torch.Tensor:
        if name not in self:
            raise AttributeError(name)
        return self[name]


class Labelled(nn.Linear):
    """A model that works out its own loss where it is given labels, as Hugging Face's do."""

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Output:
        logits = super().forward(x)
        found = Output(logits=logits)
        if labels is not None:
            found["loss"] = functional.cross_entropy(logits, labels)
        return found


def mean_of(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return len(batch["x"]) * functional.cross_entropy(model(batch["x"])["logits"], batch["y"])


@pytest.mark.parametrize(
    "loss",
    [
        "cross_entropy",
        nn.CrossEntropyLoss(),
        lambda m, x, y: m(x, labels=y),
        lambda m, x, y: m(x, labels=y).loss,
        lambda m, x, y: {"loss": functional.cross_entropy(m(x)["logits"], y, reduction="none"), "extra": x},
    ],
)
def test_outputs_with_names_are_read(loss: Any) -> None:
    assert_as_pytorch(Labelled(4, 3), loss, FOUR, mean_of, below=3, counts=(3,))


def test_a_tuple_without_a_name_is_refused_with_the_cure() -> None:
    class Two(nn.Linear):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x), x

    with pytest.raises(UnsupportedError, match="gives a tuple, and a named loss takes one tensor"):
        capture(Two(4, 3), "cross_entropy", FOUR)


def test_a_mean_is_told_from_a_sum() -> None:
    model, x = nn.Linear(4, 3), torch.randn(2, 4)
    kinds = {"mean": True, "sum": False, "none": False}
    for reduction, expected in kinds.items():
        loss = nn.CrossEntropyLoss(reduction=reduction)
        assert is_mean(loss, model, [x], [torch.tensor([0, 2])]) == expected
    assert loss_value(nn.CrossEntropyLoss(reduction="none"), model, [x], [torch.tensor([0, 2])]).shape == (2,)
