"""Bags of embeddings, written out, against PyTorch's own kernel: values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from podlt.errors import UnsupportedError
from podlt.program.embedding_bags import embedding_bag

WORDS, WIDTH = 9, 3
EXAMPLES = torch.tensor([[1, 2, 2, 5], [1, 1, 1, 1], [8, 0, 1, 3]])
ROW = EXAMPLES.flatten()
CASES: dict[str, dict[str, Any]] = {
    "examples": {"input": EXAMPLES},
    "examples with padding, one of nothing else": {"input": EXAMPLES, "padding_idx": 1},
    "runs": {"input": ROW, "offsets": torch.tensor([0, 5, 6])},
    "runs with an empty one in the middle and at the end": {"input": ROW, "offsets": torch.tensor([0, 5, 5, 9, 12])},
    "runs with their end": {"input": ROW, "offsets": torch.tensor([0, 4, 12]), "include_last_offset": True},
    "runs with padding": {"input": ROW, "offsets": torch.tensor([0, 4, 8]), "padding_idx": -8},
}


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("case", CASES)
def test_bags_and_their_gradients_are_pytorchs(case: str, mode: str) -> None:
    found = []
    for of in (embedding_bag, functional.embedding_bag):
        weight = torch.randn(WORDS, WIDTH, generator=torch.Generator().manual_seed(1))
        weight[2] = weight[5]  # of equal values the first has the gradient
        weight.requires_grad_()
        bags = of(weight=weight, mode=mode, **CASES[case])
        (bags * torch.arange(1, bags.numel() + 1).reshape(bags.shape)).sum().backward()
        found.append((bags.detach(), weight.grad))
    for own, theirs in zip(*found, strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("case", ["examples", "runs"])
def test_each_word_has_its_weight_in_a_sum(case: str) -> None:
    given = CASES[case]
    weight, each = torch.randn(WORDS, WIDTH), torch.rand(given["input"].shape)
    own, theirs = (
        of(weight=weight, mode="sum", per_sample_weights=each, **given)
        for of in (embedding_bag, functional.embedding_bag)
    )
    torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}])
def test_weights_that_change_and_gradients_by_frequency_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="max_norm or scale_grad_by_freq"):
        embedding_bag(EXAMPLES, torch.ones(WORDS, WIDTH), **option)
