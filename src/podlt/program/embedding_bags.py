"""`torch.nn.functional.embedding_bag` in terms of an embedding, and of sums and maxima of its rows."""

from __future__ import annotations

import torch
from torch.nn import functional

from podlt.errors import UnsupportedError

Tensor = torch.Tensor


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of the embeddings of bags: examples of one length, or runs of one long row.

    Args:
        offsets: where each bag of a long row begins; None for bags (n, length).

    Raises:
        UnsupportedError: the weights would change, or gradients would be scaled by how often a word occurs.
    """
    if max_norm is not None or scale_grad_by_freq:
        raise UnsupportedError(
            "embedding_bag with max_norm or scale_grad_by_freq is not supported: the first changes the weights while "
            "the step runs, the second counts words over all examples. Leave it out"
        )
    if input.is_floating_point():  # PyTorch takes weight and input in the other order too
        input, weight = weight, input
    rows = functional.embedding(input, weight, padding_idx)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    counted = None if padding_idx is None else input != padding_idx % weight.shape[0]
    if offsets is None:
        return _of_examples(rows, counted, mode)
    return _of_runs(rows, counted, offsets, include_last_offset, mode)


def _of_examples(rows: Tensor, counted: Tensor | None, mode: str) -> Tensor:
    """Bags of one length: rows (n, length, width)."""
    if mode == "max":
        return _largest(rows, counted)
    if counted is None:
        return rows.mean(1) if mode == "mean" else rows.sum(1)
    words = counted.unsqueeze(-1)
    total = (rows * words).sum(1)
    return total / words.sum(1).clamp(min=1) if mode == "mean" else total


def _of_runs(rows: Tensor, counted: Tensor | None, offsets: Tensor, has_end: bool, mode: str) -> Tensor:
    """Bags that lie behind each other: rows (words, width). A bag without words is 0.

    For maxima each bag is compared with all words, and takes bags times words times width of memory.
    """
    place = torch.arange(rows.shape[0]).unsqueeze(1)
    bag = (offsets <= place).sum(1) - 1
    count = offsets.shape[0] - 1 if has_end else offsets.shape[0]
    if mode == "max":
        own = bag == torch.arange(count).unsqueeze(1)
        return _largest(rows.unsqueeze(0), own if counted is None else own & counted)
    words = torch.ones_like(rows[:, :1]) if counted is None else counted.to(rows.dtype).unsqueeze(1)
    zeros = rows.new_zeros([offsets.shape[0], rows.shape[1]])
    total = zeros.index_add(0, bag, rows * words)[:count]
    if mode != "mean":
        return total
    return total / zeros[:, :1].index_add(0, bag, words)[:count].clamp(min=1)


def _largest(rows: Tensor, counted: Tensor | None) -> Tensor:
    """The largest of each bag's rows (bags, words, width), the gradient to the first of equal ones; 0 of no words."""
    if counted is None:
        return rows.max(1)[0]
    found = torch.where(counted.unsqueeze(-1), rows, float("-inf")).max(1)[0]
    return torch.where(counted.any(1, keepdim=True), found, 0.0)
