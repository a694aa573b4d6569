"""What a backend computes: the primitives that differ between devices, each with the same bits from every backend.

Everything else is composed from them, and from single torch operations that round once, in this package. A backend's
functions say how they compute; what they return, and when they refuse, is said here. Whatever sums or multiplies raises
`NonFiniteError` of a term that is an infinity or a NaN, and whatever takes indices or classes `IndexError` of one that
lies outside. `operation` is always the name that a refusal is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from podlt.exact.geometry import Geometry, Pair

Tensor = torch.Tensor
Scalar = float | int
Operation = Callable[..., Any]
"""An operation under its ATen overload's name, with that overload's signature."""

AS_THEY_ARE = ["exp", "log", "log1p", "expm1", "tanh", "sigmoid", "log2", "erf", "erfc", "atan", "sqrt", "rsqrt"]
OTHERS = ["silu", "gelu", "gelu_tanh", "sin", "cos"]
"""A backend's functions: those that are ATen operations as they stand, and the others."""

Statistics = tuple[Tensor, Tensor, Tensor]


class Elementwise(Protocol):
    """Functions of each element."""

    def power(self, x: Tensor, y: Tensor | float) -> Tensor:
        """x ** y of float32 tensors that broadcast, or of a tensor and a number."""

    def fmod(self, a: Tensor, b: Tensor) -> Tensor:
        """a - b trunc(a / b) with the sign of a, exactly, for float32 of one shape."""


class Sums(Protocol):
    """Exact sums, each rounded once."""

    def total(self, x: Tensor, dims: Sequence[int] | None, keepdim: bool, operation: str = "sum") -> Tensor:
        """The exact sum of float32 `x` over `dims` (None or empty: all), each rounded once. An empty sum is 0."""

    def cumulative(self, x: Tensor, dim: int) -> Tensor:
        """The exact sums of the prefixes of float32 `x` along `dim`, each rounded once; one exponent for a line."""

    def scatter_rows(self, base: Tensor | None, index: Tensor, x: Tensor, rows: int, operation: str) -> Tensor:
        """`base`, or zeros, plus each row of `x` at `index`, exactly, rounded once.

        One exponent serves the whole operation; the bound on the number of terms is n, and 1 for `base`.

        Args:
            base: float32 (rows, width).
            index: int64 (n,); a negative one leaves its row out.
            x: float32 (n, width).
        """


class Products(Protocol):
    """Exact products of matrices, each element rounded once."""

    def mm(self, a: Tensor, b: Tensor, digits: int, bias: Tensor | None = None, operation: str = "mm") -> Tensor:
        """The exact product of float32 (m, k) and (k, n), any strides, then `+ bias` (n,) as one float32 operation."""

    def bmm(self, a: Tensor, b: Tensor, digits: int, operation: str = "bmm") -> Tensor:
        """The exact products of float32 (b, m, k) and (b, k, n), any strides; an exponent for each row and column."""


@dataclass(frozen=True)
class SampleDigits:
    """The digits of samples, for convolutions to lay out: one exponent for a sample's group.

    Args:
        planes: int8 (n, groups, digits, c / groups, h, w).
        exponents: int64 (n, groups).
        wide: those which need four digits, if they decide themselves (`ADAPTIVE`), as the backend lays them.
        places: which these are, as the backend keeps it.
    """

    planes: Tensor
    exponents: Tensor
    places: Tensor | None = None
    wide: SampleDigits | None = None

    def mapped(self, change: Callable[[Tensor], Tensor]) -> SampleDigits:
        """The same with their planes changed, those of wide ones too."""
        wide = None if self.wide is None else self.wide.mapped(change)
        return replace(self, planes=change(self.planes), wide=wide)


@dataclass(frozen=True, slots=True)
class Filters:
    """The weight of a convolution, and which way it is used.

    Args:
        weight: float32 (o, c / groups, height, width), as programs have it.
        groups: of channels.
        turned: whether results are what the weight's convolution is of: its taps are flipped then, and its outputs are
            what is summed over.
    """

    weight: Tensor
    groups: int
    turned: bool

    def rows(self) -> Tensor:
        """A row for each channel of the results, float32 (groups, channels of a group, summed channels * taps)."""
        weight, groups = self.weight.detach(), self.groups
        if not self.turned:
            return weight.reshape(groups, weight.shape[0] // groups, -1)
        o, c, *taps = weight.shape
        flipped = weight.flip(2, 3).reshape(groups, o // groups, c, taps[0] * taps[1])
        return flipped.transpose(1, 2).reshape(groups, c, -1)


class Convolutions(Protocol):
    """Products of digits that are cut before they are laid out."""

    def convolve(
        self,
        x: Tensor,
        filters: Filters,
        bias: Tensor | None,
        g: Geometry,
        taps: Pair,
        size: Pair,
        digits: int,
        operation: str,
        apart: Pair = (1, 1),
    ) -> Tensor:
        """Products of the patches of samples with a weight, then `+ bias` as one float32 operation.

        Args:
            x: float32 (n, c, h, w).
            filters: of `c * taps` values a row.
            bias: float32 (groups * o,).
            size: height and width of the result.
            apart: how far the samples' values are thought of as lying from each other, with zeros between them.

        Returns:
            float32 (n, groups * o, *size).

        Raises:
            NonFiniteError: an operand holds an infinity or a NaN. The message names `operation`.
        """

    def weight_gradient(self, grad: Tensor, x: Tensor, shape: Sequence[int], g: Geometry, digits: int) -> Tensor:
        """The gradient of a convolution's weight of this shape: one product over all samples and positions."""


class Norms(Protocol):
    """Softmax and normalisations."""

    def softmax(self, x: Tensor, dim: int, logarithm: bool, operation: str) -> Tensor:
        """Softmax along `dim`, or its logarithm. -inf is a value as long as one of its line is finite."""

    def softmax_backward(self, grad: Tensor, y: Tensor, dim: int, logarithm: bool, operation: str) -> Tensor:
        """The gradient of `softmax`'s argument from the gradient of its result `y`."""

    def layer_norm(
        self, rows: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, operation: str
    ) -> Statistics:
        """Rows (m, n) normalised, times weight, plus bias (n values each); their means (m,) and 1/deviations (m,)."""

    def layer_norm_backward(
        self, grad: Tensor, rows: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, operation: str
    ) -> tuple[Tensor, Tensor]:
        """The gradient of `layer_norm`'s rows (m, n), and the terms (m, n) of the gradient of its weight.

        Args:
            mean: m values of any shape, and so for `rstd`.
        """

    def batch_norm(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, operation: str
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Channels of (n, c, ...) normalised; their means, unbiased variances and 1/deviations (c,)."""

    def channel_normalise(
        self, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        """((x - mean) rstd) weight + bias for x (n, c, ...) and the others (c,)."""

    def batch_norm_backward(
        self,
        grad: Tensor,
        x: Tensor,
        mean: Tensor,
        rstd: Tensor,
        weight: Tensor | None,
        training: bool,
        operation: str,
    ) -> Statistics:
        """The gradients of `batch_norm`'s argument (n, c, ...), weight (c,) and bias (c,)."""


class Attention(Protocol):
    """Scores of attention and their softmax, both functions of which may write into their first argument."""

    def scores(self, x: Tensor, y: Tensor, causal: bool, digits: int, operation: str) -> Tensor:
        """The exact products of float32 (h, t, d) and (h, s, d) transposed.

        Args:
            causal: whether what lies beyond a query's own place may be anything.
        """

    def softmax(self, scores: Tensor, causal: bool, operation: str) -> Tensor:
        """Softmax by rows of scores (h, t, s), zeros in a row of nothing but -inf.

        Args:
            causal: whether a query sees no key beyond its own place, whatever the score.
        """

    def softmax_backward(self, grad: Tensor, y: Tensor, causal: bool, operation: str) -> Tensor:
        """The gradient of `softmax`'s scores from that of its result `y`; what a query does not see has none."""


class Pooling(Protocol):
    """Maximum pooling."""

    def max_pool(self, x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, size: Pair) -> Any:
        """The maxima of windows of float32 (..., h, w), (..., *size), and where each stands in its plane, int64.

        Of equal values the first in row-major order is taken, and a NaN before any.
        """

    def max_pool_backward(self, grad: Tensor, index: Tensor, shape: Sequence[int], bits: int, operation: str) -> Tensor:
        """Each plane's exact sums of `grad` (..., oh, ow) at `index`, float32 of this shape; one exponent a plane.

        Args:
            bits: how many a term keeps below the largest.
        """


class Likelihoods(Protocol):
    """The likelihood of one class a line."""

    def picked(self, x: Tensor, target: Tensor, ignore: int, operation: str) -> tuple[Tensor, Tensor]:
        """The exact sum of -x[i, target[i]], each line's whose target is not `ignore`, and how many they are."""

    def spread(self, values: Tensor, target: Tensor, shape: Sequence[int], ignore: int, operation: str) -> Tensor:
        """Zeros of this shape, but `values` (one, or one a line) at the targets that are not `ignore`."""


class Selection(Protocol):
    """Order, extremes and places."""

    def sort(self, x: Tensor, dim: int, descending: bool) -> tuple[Tensor, Tensor]:
        """Values without NaNs in order, and where each stood; equal values (-0 and +0 are) keep their order."""

    def first(self, x: Tensor, dim: int, largest: bool) -> Tensor:
        """The index of the first extreme of each line without NaNs, `dim` kept with one place."""

    def extreme(self, x: Tensor, dims: list[int], keepdim: bool, largest: bool) -> Tensor:
        """The largest or least values over `dims`; -0 is below +0, and a NaN wins."""

    def check_places(self, index: Tensor, size: int, operation: str, least: int = 0) -> None:
        """Hold every index to [least, size), where the kernels that read there do not look themselves."""


@dataclass(frozen=True)
class Backend:
    """The primitives of one device, each family a module.

    Args:
        device: where tensors lie that are made from numbers.
        digits: into how many 7-bit digits products cut their operands: 1 (fastest), 2, 3 (about 1e-6), or `ADAPTIVE`.
        native: operations that it has in one kernel, with ATen's signature, in place of those composed here.
        functions: of a tensor of any shape, by their names in `definition.elementary`; whole numbers become float32.
        slopes: (grad, x) to grad f'(x), of silu, gelu and gelu_tanh.
        losses: in one pass; None leaves them to be composed.
    """

    device: torch.device
    digits: int
    native: Mapping[str, Operation]
    functions: Mapping[str, Callable[[Tensor], Tensor]]
    slopes: Mapping[str, Callable[[Tensor, Tensor], Tensor]]
    elementwise: Elementwise
    sums: Sums
    products: Products
    convolutions: Convolutions
    norms: Norms
    attention: Attention
    pooling: Pooling
    losses: Likelihoods | None
    selection: Selection
