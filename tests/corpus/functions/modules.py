"""Probes of `torch.nn`'s modules, each with its gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations

from .probe import Probe

SPACE = {1: (4, 9), 2: (4, 8, 6), 3: (4, 6, 5, 6)}
"""Channels and sizes of an example, by the number of dimensions in space."""

Maker = Callable[[], nn.Module]


def _probe(group: str, name: str, make: Maker, *shape: int) -> Probe:
    return Probe(group, name, make, shape)


def _in_space(group: str, name: str, *arguments: Any, dims: str = "123", **options: Any) -> Iterator[Probe]:
    """A module that there is for several numbers of dimensions in space."""
    said = ", ".join([*map(str, arguments), *(f"{key}={value}" for key, value in options.items())])
    for d in map(int, dims):
        kind = getattr(nn, f"{name}{d}d")
        yield Probe(group, f"{name}{d}d({said})", lambda kind=kind: kind(*arguments, **options), SPACE[d])


def _activations() -> Iterator[Probe]:
    for name in [
        "ELU",
        "Hardshrink",
        "Hardsigmoid",
        "Hardswish",
        "Hardtanh",
        "LeakyReLU",
        "LogSigmoid",
        "Mish",
        "PReLU",
        "ReLU",
        "ReLU6",
        "RReLU",
        "SELU",
        "CELU",
        "GELU",
        "SiLU",
        "Sigmoid",
        "Softplus",
        "Softshrink",
        "Softsign",
        "Tanh",
        "Tanhshrink",
        "Softmin",
        "Softmax",
        "LogSoftmax",
        "Softmax2d",
        "GLU",
        "Identity",
    ]:
        kind = getattr(nn, name)
        needs_dim = name in ("Softmin", "Softmax", "LogSoftmax")
        yield _probe("Activations", name, lambda k=kind, d=needs_dim: k(1) if d else k(), 4, 6, 2)
    yield _probe("Activations", "Threshold", lambda: nn.Threshold(0.1, 0.5), 4, 6)
    yield _probe("Activations", "PReLU(channels)", lambda: nn.PReLU(4), 4, 6)
    yield _probe("Activations", "MultiheadAttention", lambda: _Attention(), 5, 8)


class _Attention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attention to oneself, with the weights averaged."""
        out, weights = self.inner(x, x, x)
        return torch.cat([out.flatten(1), weights.flatten(1)], 1)


def _convolutions() -> Iterator[Probe]:
    group = "Convolutions"
    yield from _in_space(group, "Conv", 4, 6, 3, padding=1, stride=2)
    yield from _in_space(group, "Conv", 4, 4, 3, groups=4, bias=False)
    yield from _in_space(group, "Conv", 4, 6, 2, dilation=2, groups=2)
    yield from _in_space(group, "Conv", 4, 6, 3, padding="same", padding_mode="reflect")
    yield from _in_space(group, "Conv", 4, 6, 3, padding=1, padding_mode="replicate")
    yield from _in_space(group, "Conv", 4, 6, 3, padding=1, padding_mode="circular")
    yield from _in_space(group, "ConvTranspose", 4, 6, 3, stride=2, padding=1, output_padding=1)
    yield from _in_space(group, "ConvTranspose", 4, 4, 2, groups=2)
    yield _probe(group, "Fold", lambda: nn.Fold((4, 4), 2, padding=1, stride=2), 12, 9)
    yield _probe(group, "Fold, overlapping", lambda: nn.Fold((4, 4), 3, padding=1), 27, 16)
    yield _probe(group, "Unfold", lambda: nn.Unfold(3, padding=1, stride=2), 3, 6, 6)
    yield _probe(group, "Unfold(dilation=2)", lambda: nn.Unfold(2, dilation=2), 3, 6, 6)


def _poolings() -> Iterator[Probe]:
    group = "Pooling"
    yield from _in_space(group, "MaxPool", 2)
    yield from _in_space(group, "MaxPool", 3, stride=2, padding=1, ceil_mode=True)
    yield from _in_space(group, "MaxPool", 2, dilation=2, stride=1)
    yield from _in_space(group, "AvgPool", 2)
    yield from _in_space(group, "AvgPool", 3, stride=2, padding=1, count_include_pad=False)
    yield from _in_space(group, "AdaptiveAvgPool", 1)
    yield from _in_space(group, "AdaptiveAvgPool", 4)
    yield from _in_space(group, "AdaptiveMaxPool", 1)
    yield from _in_space(group, "AdaptiveMaxPool", 4)
    yield from _in_space(group, "LPPool", 2, 2)
    yield from _in_space(group, "LPPool", 1, 2, stride=1)
    yield from _in_space(group, "FractionalMaxPool", 2, output_size=3, dims="23")
    for d in (1, 2, 3):
        yield Probe(group, f"MaxUnpool{d}d", lambda d=d: _Unpool(d), SPACE[d])


class _Unpool(nn.Module):
    def __init__(self, dims: int) -> None:
        super().__init__()
        self.pool = getattr(nn, f"MaxPool{dims}d")(2, return_indices=True)
        self.unpool = getattr(nn, f"MaxUnpool{dims}d")(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maxima, back at their places."""
        found: torch.Tensor = self.unpool(*self.pool(x), output_size=x.shape)
        return found


def _paddings() -> Iterator[Probe]:
    group = "Padding"
    for kind in ("ReflectionPad", "ReplicationPad", "ZeroPad", "CircularPad"):
        yield from _in_space(group, kind, 2)
    yield from _in_space(group, "ConstantPad", 1, 0.5)
    yield _probe(group, "ReflectionPad2d(1, 2, 0, 3)", lambda: nn.ReflectionPad2d((1, 2, 0, 3)), 2, 5, 6)
    yield _probe(group, "ReplicationPad2d(-1, 2, 0, 3)", lambda: nn.ReplicationPad2d((-1, 2, 0, 3)), 2, 5, 6)


def _normalisations() -> Iterator[Probe]:
    group = "Normalisation"
    yield from _in_space(group, "BatchNorm", 4)
    yield from _in_space(group, "BatchNorm", 4, affine=False, track_running_stats=False)
    yield from _in_space(group, "InstanceNorm", 4)
    yield from _in_space(group, "InstanceNorm", 4, affine=True)
    yield from _in_space(group, "InstanceNorm", 4, affine=True, track_running_stats=True)
    yield _probe(group, "BatchNorm1d of (n, c)", lambda: nn.BatchNorm1d(6), 6)
    yield _probe(group, "BatchNorm2d.eval()", lambda: nn.BatchNorm2d(4).eval(), 4, 3, 3)
    yield _probe(group, "GroupNorm", lambda: nn.GroupNorm(2, 4), 4, 5, 3)
    yield _probe(group, "LayerNorm", lambda: nn.LayerNorm([5, 3]), 4, 5, 3)
    yield _probe(group, "LayerNorm(elementwise_affine=False)", lambda: nn.LayerNorm(3, elementwise_affine=False), 5, 3)
    yield _probe(group, "RMSNorm", lambda: nn.RMSNorm(6), 4, 6)
    yield _probe(group, "LocalResponseNorm", lambda: nn.LocalResponseNorm(3), 6, 4, 4)
    yield _probe(group, "CrossMapLRN2d", lambda: nn.CrossMapLRN2d(3), 6, 4, 4)
    yield _probe(group, "parametrizations.weight_norm", lambda: parametrizations.weight_norm(nn.Linear(6, 5)), 6)
    yield _probe(group, "utils.weight_norm(Conv1d)", lambda: nn.utils.weight_norm(nn.Conv1d(4, 5, 3)), 4, 9)
    yield _probe(group, "parametrizations.spectral_norm", lambda: parametrizations.spectral_norm(nn.Linear(6, 5)), 6)
    yield _probe(group, "utils.spectral_norm", lambda: nn.utils.spectral_norm(nn.Linear(6, 5)), 6)
    yield _probe(group, "parametrizations.orthogonal", lambda: parametrizations.orthogonal(nn.Linear(6, 5)), 6)


def _recurrent() -> Iterator[Probe]:
    group = "Recurrent and transformer"
    for name in ("RNN", "LSTM", "GRU"):
        kind, cell = getattr(nn, name), getattr(nn, f"{name}Cell")
        yield _probe(group, name, lambda k=kind: k(4, 5, batch_first=True), 3, 4)
        yield _probe(
            group, f"{name}(bidirectional)", lambda k=kind: k(4, 5, 2, batch_first=True, bidirectional=True), 3, 4
        )
        yield _probe(group, f"{name}Cell", lambda k=cell: k(4, 5), 4)
    yield _probe(group, "RNN(relu)", lambda: nn.RNN(4, 5, nonlinearity="relu", batch_first=True), 3, 4)
    yield _probe(group, "LSTM(proj_size)", lambda: nn.LSTM(4, 5, proj_size=3, batch_first=True), 3, 4)
    yield _probe(
        group, "TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.1, batch_first=True), 5, 8
    )
    yield _probe(group, "TransformerEncoder, causal", lambda: _Encoder(), 5, 8)
    yield _probe(group, "Transformer", lambda: _Transformer(), 5, 8)


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)
        self.inner = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """With the mask that PyTorch tests for being causal."""
        found: torch.Tensor = self.inner(x, mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1]))
        return found


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Transformer(8, 2, 1, 1, 16, 0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From a sequence to itself."""
        found: torch.Tensor = self.inner(x, x, tgt_mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1]))
        return found


def _others() -> Iterator[Probe]:
    group = "Linear, dropout, vision, distance"
    yield _probe(group, "Linear", lambda: nn.Linear(6, 5), 3, 6)
    yield _probe(group, "Bilinear", lambda: _Twice(nn.Bilinear(6, 6, 5)), 6)
    yield _probe(group, "LazyLinear", lambda: _lazy(), 6)
    for name, shape in (
        ("Dropout", (6,)),
        ("Dropout1d", (4, 6)),
        ("Dropout2d", (4, 3, 3)),
        ("Dropout3d", (4, 2, 3, 3)),
    ):
        yield _probe(group, name, partial(getattr(nn, name), 0.4), *shape)
    for name in ("AlphaDropout", "FeatureAlphaDropout"):
        yield _probe(group, name, partial(getattr(nn, name), 0.4), 4, 6)
    yield _probe(group, "PixelShuffle", lambda: nn.PixelShuffle(2), 8, 3, 4)
    yield _probe(group, "PixelUnshuffle", lambda: nn.PixelUnshuffle(2), 2, 4, 6)
    yield _probe(group, "ChannelShuffle", lambda: nn.ChannelShuffle(2), 4, 4, 3)
    modes = [("nearest", "123"), ("nearest-exact", "123"), ("linear", "1"), ("bilinear", "2"), ("bicubic", "2")]
    for mode, dims in [*modes, ("trilinear", "3")]:
        for d in map(int, dims):
            yield Probe(group, f"Upsample({mode}), {d}-D", lambda m=mode: nn.Upsample(scale_factor=2, mode=m), SPACE[d])
    for mode, d in (("linear", 1), ("bilinear", 2), ("bicubic", 2), ("trilinear", 3)):
        yield Probe(
            group,
            f"Upsample({mode}, align_corners)",
            lambda m=mode: nn.Upsample(scale_factor=1.7, mode=m, align_corners=True),
            SPACE[d],
        )
    for name in ("CosineSimilarity", "PairwiseDistance"):
        yield _probe(group, name, partial(_twice, name), 6)
    yield _probe(group, "Flatten, Unflatten", lambda: nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3, 4))), 2, 6)


def _twice(name: str) -> nn.Module:
    return _Twice(getattr(nn, name)())


def _lazy() -> nn.Module:
    module = nn.LazyLinear(5)
    module(torch.zeros(1, 6))
    return module


class _Twice(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of a value and what lies beside it."""
        found: torch.Tensor = self.inner(x, x.roll(1, -1) * 0.5)
        return found


PROBES = (
    *_activations(),
    *_convolutions(),
    *_poolings(),
    *_paddings(),
    *_normalisations(),
    *_recurrent(),
    *_others(),
)
