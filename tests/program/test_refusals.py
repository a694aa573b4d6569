"""What no program holds is refused with what it is, where it stands, and what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from podlt.errors import UnsupportedError
from podlt.program.capture import capture
from podlt.program.ir import FieldSpec

FIELDS = [FieldSpec("x", "f32", (4,), None, "input")]


class Applied(nn.Module):
    """A layer, and a function of its results."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(4, 4), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.layer(x))


def fixed_mask(x: torch.Tensor) -> torch.Tensor:
    return x[:, torch.tensor([True, False, True, True])].sum(1)


def mask_of_data(x: torch.Tensor) -> torch.Tensor:
    return x + x[x > 0].sum()


def selected(x: torch.Tensor) -> torch.Tensor:
    return x.sum(1) + torch.masked_select(x, x > 0).sum()


def repeated(x: torch.Tensor) -> torch.Tensor:
    return x + torch.repeat_interleave(x, (x.detach() > 0).long().sum(0), 1).sum(1, keepdim=True)


def inverse(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.inv(x[:, :, None] * x[:, None] + torch.eye(4)).sum((1, 2))


def bessel(x: torch.Tensor) -> torch.Tensor:
    return torch.special.bessel_j0(x.detach()) + x


def gamma(x: torch.Tensor) -> torch.Tensor:
    return torch.special.polygamma(2, x.abs() + 1)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (fixed_mask, "index.Tensor|torch.where|index_select"),
        (mask_of_data, "index.Tensor|masked_fill"),
        (selected, "masked_select.default|torch.where"),
        (repeated, "repeat_interleave.Tensor|output_size"),
        (inverse, "linalg_inv_ex.default|inverses of matrices|field or a buffer"),
        (bessel, "special_bessel_j0.default|Bessel|field"),
        (gamma, "polygamma.default|field"),
    ],
)
def test_a_refusal_names_the_operation_the_line_and_a_way_out(
    function: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    with pytest.raises(UnsupportedError) as found:
        capture(Applied(function), lambda model, x: model(x).flatten(0).reshape(len(x), -1).sum(1), FIELDS)
    place = f"{Path(__file__).name}:{function.__code__.co_firstlineno + 1}"
    message = str(found.value)
    assert all(word in message for word in [*words.split("|"), place]), message
    assert "\n" not in message


def test_a_refusal_inside_of_a_decomposition_is_one_line_with_its_place() -> None:
    def product(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.det(torch.complex(x, x).reshape(-1, 2, 2)).abs()

    with pytest.raises(UnsupportedError, match=r"of complex numbers is not supported at .*test_refusals.py:\d+$"):
        capture(Applied(product), lambda model, x: model(x), FIELDS)
