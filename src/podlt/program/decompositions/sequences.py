"""Connectionist temporal classification: the sum over all alignments, a step of time after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from podlt.errors import UnsupportedError

aten = torch.ops.aten
Tensor = torch.Tensor

NEVER = -1e30
"""The logarithm of no probability: so small that it adds nothing, and finite, so that no gradient becomes a NaN."""


def _ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    zero_infinity: bool = False,
) -> tuple[Tensor, Tensor]:
    """aten::_ctc_loss of log probabilities (t, n, c) and labels (n, s), padded.

    Source: Graves et al., Connectionist Temporal Classification (2006), 4.1, by logarithms.

    Raises:
        UnsupportedError: the labels are one row for all examples, whose parts' lengths depend on the data.
    """
    steps, n, _ = log_probs.shape
    if targets.ndim != 2:
        raise UnsupportedError("ctc_loss: expected labels (n, s), padded, got all examples' labels in one row")
    inputs, lengths = (torch.as_tensor(v).long() for v in (input_lengths, target_lengths))
    states = 2 * targets.shape[1] + 1
    labels = torch.stack([torch.full_like(targets, blank), targets], 2).reshape(n, states - 1)
    labels = pad(labels, (0, 1), value=blank).long()
    is_known = torch.arange(states) < (2 * lengths + 1).unsqueeze(1)
    labels = torch.where(is_known, labels, blank)  # beyond an example's length anything may stand
    before = pad(labels, (2, 0), value=blank)[:, :states]
    skips = (labels != blank) & (labels != before)
    scores = log_probs.gather(2, labels.unsqueeze(0).expand(steps, n, states))
    places = torch.arange(states)
    nothing = torch.where(places < 1, 0.0, NEVER)  # of no step: only no label is likely
    alpha = torch.where((inputs > 0).unsqueeze(1), torch.where(places < 2, scores[0], NEVER), nothing)
    for t in range(1, steps):
        one, two = (pad(alpha, (k, 0), value=NEVER)[:, :states] for k in (1, 2))
        reached = torch.logsumexp(torch.stack([alpha, one, torch.where(skips, two, NEVER)]), 0) + scores[t]
        alpha = torch.where((t < inputs).unsqueeze(1), reached, alpha)
    last = (2 * lengths).unsqueeze(1)
    ends = torch.where((torch.arange(states) == last) | (torch.arange(states) == last - 1), alpha, NEVER)
    loss = -torch.logsumexp(ends, 1)
    return torch.where(loss > -NEVER / 2, 0.0 if zero_infinity else float("inf"), loss), alpha


COMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    aten._ctc_loss.default: _ctc_loss,
    aten._ctc_loss.Tensor: _ctc_loss,
}
