"""Probes of PyTorch's losses, given labels that an example's own values make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as f

from .probe import Probe

GROUP = "Losses"


def _classes(x: torch.Tensor, count: int) -> torch.Tensor:
    """A class an example, by its numbers."""
    return (x.detach().flatten(1).abs().sum(1) * 7).long() % count


def _each(name: str, of: Callable[..., torch.Tensor], *shape: int) -> Iterator[Probe]:
    """A loss with one value an example, with its sum, and with its mean."""
    for reduction in ("none", "sum", "mean"):
        yield Probe(GROUP, f"{name}({reduction})", lambda x, r=reduction: of(x, reduction=r), shape)


def _half(x: torch.Tensor) -> torch.Tensor:
    return x.detach().flip(-1) * 0.5


def _probes() -> Iterator[Probe]:
    yield from _each("l1_loss", lambda x, **o: f.l1_loss(x, _half(x), **o), 6)
    yield from _each("mse_loss", lambda x, **o: f.mse_loss(x, _half(x), **o), 6)
    yield from _each("smooth_l1_loss", lambda x, **o: f.smooth_l1_loss(x, _half(x), **o), 6)
    yield from _each("huber_loss", lambda x, **o: f.huber_loss(x, _half(x), delta=0.7, **o), 6)
    yield from _each("cross_entropy", lambda x, **o: f.cross_entropy(x, _classes(x, 6), **o), 6)
    yield from _each(
        "cross_entropy, label_smoothing", lambda x, **o: f.cross_entropy(x, _classes(x, 6), label_smoothing=0.1, **o), 6
    )
    yield from _each("cross_entropy, probabilities", lambda x, **o: f.cross_entropy(x, _half(x).softmax(1), **o), 6)
    yield from _each("nll_loss", lambda x, **o: f.nll_loss(x.log_softmax(1), _classes(x, 6), **o), 6)
    yield from _each(
        "binary_cross_entropy", lambda x, **o: f.binary_cross_entropy(x.sigmoid(), (_half(x) > 0).float(), **o), 6
    )
    yield from _each(
        "binary_cross_entropy_with_logits",
        lambda x, **o: f.binary_cross_entropy_with_logits(
            x, (_half(x) > 0).float(), pos_weight=torch.full((6,), 2.0), **o
        ),
        6,
    )
    yield from _each("kl_div", lambda x, **o: f.kl_div(x.log_softmax(1), _half(x).softmax(1), **o), 6)
    yield Probe(
        GROUP,
        "kl_div(batchmean)",
        lambda x: f.kl_div(x.log_softmax(1), _half(x).softmax(1), reduction="batchmean"),
        (6,),
    )
    yield Probe(
        GROUP,
        "kl_div(log_target)",
        lambda x: f.kl_div(x.log_softmax(1), _half(x).log_softmax(1), reduction="none", log_target=True),
        (6,),
    )
    yield from _each(
        "poisson_nll_loss", lambda x, **o: f.poisson_nll_loss(x, _half(x).abs().round(), full=True, **o), 6
    )
    yield from _each("gaussian_nll_loss", lambda x, **o: f.gaussian_nll_loss(x, _half(x), x.exp(), **o), 6)
    yield from _each("hinge_embedding_loss", lambda x, **o: f.hinge_embedding_loss(x, _half(x).sign(), **o), 6)
    yield from _each("soft_margin_loss", lambda x, **o: f.soft_margin_loss(x, _half(x).sign(), **o), 6)
    yield from _each(
        "margin_ranking_loss", lambda x, **o: f.margin_ranking_loss(x[:, :3], x[:, 3:], _half(x)[:, :3].sign(), **o), 6
    )
    yield from _each(
        "cosine_embedding_loss",
        lambda x, **o: f.cosine_embedding_loss(x[:, :3], x[:, 3:], 1 - 2 * (_classes(x, 2)), **o),
        6,
    )
    yield from _each("triplet_margin_loss", lambda x, **o: f.triplet_margin_loss(x[:, :2], x[:, 2:4], x[:, 4:], **o), 6)
    yield from _each(
        "triplet_margin_with_distance_loss",
        lambda x, **o: f.triplet_margin_with_distance_loss(
            x[:, :2], x[:, 2:4], x[:, 4:], distance_function=nn.PairwiseDistance(), **o
        ),
        6,
    )
    yield from _each("multi_margin_loss", lambda x, **o: f.multi_margin_loss(x, _classes(x, 6), **o), 6)
    yield from _each(
        "multilabel_margin_loss",
        lambda x, **o: f.multilabel_margin_loss(x, torch.tensor([3, 0, -1, 1, 1, 1]).expand(len(x), 6), **o),
        6,
    )
    yield from _each(
        "multilabel_soft_margin_loss", lambda x, **o: f.multilabel_soft_margin_loss(x, (_half(x) > 0).float(), **o), 6
    )
    yield from _each("ctc_loss", _ctc, 7, 5)
    yield Probe(GROUP, "ctc_loss, lengths as data", lambda x: _ctc(x, lengths=True), (7, 5))
    yield Probe(GROUP, "AdaptiveLogSoftmaxWithLoss", lambda: _Adaptive(), (6,))


def _ctc(x: torch.Tensor, reduction: str = "none", lengths: bool = False) -> torch.Tensor:
    n = len(x)
    targets = torch.tensor([1, 2, 2]).expand(n, 3)
    if lengths:
        given, wanted = 7 - _classes(x, 2), 3 - _classes(x, 3)
    else:
        given, wanted = torch.full((n,), 7), torch.full((n,), 3)
    return f.ctc_loss(x.log_softmax(-1).transpose(0, 1), targets, given, wanted, reduction=reduction)


class _Adaptive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.AdaptiveLogSoftmaxWithLoss(6, 12, [4, 8])

    def forward(self, x: torch.Tensor) -> Any:
        """The loss over twelve classes."""
        return self.inner(x, _classes(x, 12)).loss


PROBES = tuple(_probes())
