"""Complex numbers as pairs of real ones: programs have no complex type.

A product is four real ones; a Fourier transform is a product with the matrix of its angles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

aten = torch.ops.aten
Tensor = torch.Tensor
Sizes = Sequence[int]


@dataclass(eq=False)
class Pairs:
    """Complex numbers.

    Attributes:
        value: real and imaginary parts in a last dimension of two.
    """

    value: Tensor

    @property
    def real(self) -> Tensor:
        """The real parts."""
        return self.value.select(-1, 0)

    @property
    def imaginary(self) -> Tensor:
        """The imaginary parts."""
        return self.value.select(-1, 1)

    @property
    def ndim(self) -> int:
        """How many dimensions they have, without that of the parts."""
        return self.value.ndim - 1


def as_pairs(value: Tensor) -> Pairs:
    """Numbers from pairs (..., 2)."""
    return Pairs(value)


def _joined(real: Tensor, imaginary: Tensor) -> Pairs:
    return Pairs(torch.stack(torch.broadcast_tensors(real, imaginary), -1))  # type: ignore[no-untyped-call]


def _parts(x: Any) -> tuple[Any, Any]:
    """Real and imaginary part of whatever is a number."""
    if isinstance(x, Pairs):
        return x.real, x.imaginary
    return (x.real, x.imag) if isinstance(x, complex) else (x, None)


def _polar(size: Tensor, angle: Tensor) -> Pairs:
    return _joined(size * torch.cos(angle), size * torch.sin(angle))


def _mul(a: Any, b: Any) -> Pairs:
    (p, q), (r, s) = _parts(a), _parts(b)
    if q is None or s is None:
        real, pairs = (a, b) if q is None else (b, a)
        return Pairs(pairs.value * (real.unsqueeze(-1) if isinstance(real, Tensor) else real))
    return _joined(p * r - q * s, p * s + q * r)


def _div(a: Any, b: Any) -> Pairs:
    r, s = _parts(b)
    if s is None:
        return Pairs(a.value / (b.unsqueeze(-1) if isinstance(b, Tensor) else b))
    size = r * r + s * s
    return _div(_mul(a, _joined(r, -s) if isinstance(b, Pairs) else b.conjugate()), size)


def _sum_of(sign: int) -> Callable[..., Pairs]:
    def add(a: Any, b: Any, *, alpha: Any = 1) -> Pairs:
        (p, q), (r, s) = _parts(a), _parts(b)
        factor = sign * alpha
        real = p + factor * r
        if q is None or s is None:
            return _joined(real, q if s is None else factor * s)
        return _joined(real, q + factor * s)

    return add


def _conjugate(x: Pairs) -> Pairs:
    return _joined(x.real, -x.imaginary)


def _size(x: Pairs) -> Tensor:
    return aten.hypot.default(x.real, x.imaginary)  # type: ignore[no-any-return]


def _direction(x: Pairs) -> Pairs:
    size = _size(x)
    return Pairs(x.value / torch.where(size == 0, 1.0, size).unsqueeze(-1))


def _of_pairs(operation: Callable[..., Any]) -> Callable[..., Pairs]:
    """An operation that does the same to both parts."""
    return lambda x, *rest, **options: Pairs(operation(x.value, *rest, **options))


def _along(operation: Callable[..., Any]) -> Callable[..., Pairs]:
    """An operation along a dimension: counted from the end there is one more."""
    return lambda x, dim=0, *rest: Pairs(operation(x.value, dim - 1 if dim < 0 else dim, *rest))


def _sized(operation: Callable[..., Any]) -> Callable[..., Pairs]:
    """An operation that takes a shape."""
    return lambda x, shape, **options: Pairs(operation(x.value, [*shape, 2], **_real(options)))


def _real(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "dtype"}


def _permuted(x: Pairs, dims: Sizes) -> Pairs:
    return Pairs(x.value.permute([d % x.ndim for d in dims] + [x.ndim]))


def _turned(x: Pairs, a: int = 0, b: int = 1) -> Pairs:
    return Pairs(x.value.transpose(a % x.ndim, b % x.ndim))


def _reduced(operation: Callable[..., Any]) -> Callable[..., Pairs]:
    def reduce(x: Pairs, dims: Any = None, keepdim: bool = False, **options: Any) -> Pairs:
        asked = [dims] if isinstance(dims, int) else dims or range(x.ndim)
        return Pairs(operation(x.value, [d % x.ndim for d in asked], keepdim))

    return reduce


def _together(operation: Callable[..., Any], more: int) -> Callable[..., Pairs]:
    def join(parts: Sequence[Pairs], dim: int = 0) -> Pairs:
        return Pairs(operation([part.value for part in parts], dim % (parts[0].ndim + more)))

    return join


def _chosen(condition: Tensor, a: Any, b: Any) -> Pairs:
    (p, q), (r, s) = _parts(a), _parts(b)
    real = torch.where(condition, p, r)
    return _joined(real, torch.where(condition, 0.0 if q is None else q, 0.0 if s is None else s))


def _product(operation: Callable[..., Tensor]) -> Callable[..., Pairs]:
    """A matrix product: four real ones, or two where one side is real."""

    def multiply(a: Any, b: Any) -> Pairs:
        (p, q), (r, s) = _parts(a), _parts(b)
        real, imaginary = operation(p, r), None
        if q is not None:
            imaginary = operation(q, r)
        if s is not None:
            imaginary = operation(p, s) if imaginary is None else imaginary + operation(p, s)
        if q is not None and s is not None:
            real = real - operation(q, s)
        assert imaginary is not None
        return _joined(real, imaginary)

    return multiply


def _copied(x: Any, *, dtype: torch.dtype | None = None, **layout: Any) -> Any:
    if isinstance(x, Pairs):
        return x if dtype is None or dtype.is_complex else x.real
    if dtype is not None and dtype.is_complex:
        return _joined(x.to(torch.get_default_dtype()), torch.zeros_like(x, dtype=torch.get_default_dtype()))
    return aten._to_copy.default(x, dtype=dtype, **layout)


def _written(x: Pairs, y: Any, *_: Any) -> Pairs:
    """aten::copy_."""
    real, imaginary = _parts(y)
    x.value.copy_(_joined(real, torch.zeros_like(real)).value if imaginary is None else y.value)
    return x


def _turned_over(x: Pairs, a: int, b: int) -> Pairs:
    """aten::transpose_."""
    x.value = _turned(x, a, b).value
    return x


def _padded(x: Pairs, padding: Sizes, value: float = 0) -> Pairs:
    return Pairs(aten.constant_pad_nd.default(x.value, [0, 0, *padding], value))


def _matrix(n: int, rows: int, sign: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of 2 pi j k / n for k < n and j < rows, the product taken modulo n before it is an angle."""
    turns = torch.remainder(torch.arange(n).unsqueeze(1) * torch.arange(rows), n)
    angles = turns.to(torch.get_default_dtype()) * (2 * math.pi / n)
    return torch.cos(angles), torch.sin(angles) * sign


def _transformed(x: Any, dims: Sizes, sign: float, rows: int | None = None) -> Pairs:
    """The sums of x e**(i sign 2 pi j k / n) along each of several dimensions; `rows` of the last of them."""
    ndim = x.ndim
    for place, dim in reversed(list(enumerate(d % ndim for d in dims))):
        p, q = _parts(x)
        p, q = p.movedim(dim, -1), None if q is None else q.movedim(dim, -1)
        n = p.shape[-1]
        cos, sin = _matrix(n, rows if rows is not None and place == len(dims) - 1 else n, sign)
        real = p @ cos if q is None else p @ cos - q @ sin
        imaginary = p @ sin if q is None else p @ sin + q @ cos
        x = _joined(real.movedim(-1, dim), imaginary.movedim(-1, dim))
    return x  # type: ignore[no-any-return]


def _scale(norm: int, count: int) -> float:
    """PyTorch's ways to scale a transform over so many values: not, by its root, by it."""
    return (1.0, 1 / math.sqrt(count), 1 / count)[norm]


def _count(shape: Sizes, dims: Sizes) -> int:
    return math.prod(shape[d] for d in dims)


def _from_real(x: Tensor, dims: Sizes, norm: int, onesided: bool) -> Pairs:
    """aten::_fft_r2c."""
    rows = x.shape[dims[-1]] // 2 + 1 if onesided else None
    return _mul(_transformed(x, dims, -1.0, rows), _scale(norm, _count(x.shape, dims)))


def _to_complex(x: Pairs, dims: Sizes, norm: int, forward: bool) -> Pairs:
    """aten::_fft_c2c."""
    count = _count(x.value.shape[:-1], dims)
    return _mul(_transformed(x, dims, -1.0 if forward else 1.0), _scale(norm, count))


def _to_real(x: Pairs, dims: Sizes, norm: int, size: int) -> Tensor:
    """aten::_fft_c2r: the values that are not given are the conjugates of those that are, so each counts twice."""
    last = dims[-1] % x.ndim
    if len(dims) > 1:
        x = _transformed(x, dims[:-1], 1.0)
    p, q = x.real.movedim(last, -1), x.imaginary.movedim(last, -1)
    given = size // 2 + 1
    p, q = p[..., :given], q[..., :given]
    cos, sin = _matrix(size, given, 1.0)
    place = torch.arange(given)
    twice = torch.where((place == 0) | (2 * place == size), 1.0, 2.0)
    out = (p * twice) @ cos.mT - (q * twice) @ sin.mT
    count = size * _count(x.value.shape[:-1], dims[:-1])
    return out.movedim(-1, last) * _scale(norm, count)


MAKERS: Mapping[Any, Callable[..., Any]] = {
    aten.view_as_complex: Pairs,
    aten.complex: _joined,
    aten.polar: _polar,
    aten._fft_r2c: _from_real,
}
"""What makes complex numbers of real ones."""

HANDLERS: Mapping[Any, Callable[..., Any]] = {
    aten.view_as_real: lambda x: x.value,
    aten.real: lambda x: x.real,
    aten.imag: lambda x: x.imaginary,
    aten.abs: _size,
    aten.angle: lambda x: aten.atan2.default(x.imaginary, x.real),
    aten.sgn: _direction,
    **dict.fromkeys((aten._conj, aten.conj_physical, aten._conj_physical), _conjugate),
    **dict.fromkeys((aten.clone, aten.detach, aten.alias, aten.resolve_conj, aten.contiguous), lambda x, **_: x),
    aten._to_copy: _copied,
    aten.copy: lambda x, y, *_: y,
    aten.copy_: _written,
    aten.transpose_: _turned_over,
    aten.mul: _mul,
    aten.div: _div,
    aten.add: _sum_of(1),
    aten.sub: _sum_of(-1),
    aten.neg: _of_pairs(torch.neg),
    aten.zeros_like: _of_pairs(lambda x, **_: torch.zeros_like(x)),
    aten.new_zeros: _sized(lambda x, shape, **_: x.new_zeros(shape)),
    aten.index: _of_pairs(aten.index.Tensor),
    aten.constant_pad_nd: _padded,
    aten.where: _chosen,
    **dict.fromkeys((aten.view, aten.reshape, aten._unsafe_view, aten._reshape_alias), _sized(torch.reshape)),
    aten.expand: _sized(lambda x, shape, **_: x.expand(shape)),
    aten.permute: _permuted,
    **dict.fromkeys((aten.transpose, aten.t), _turned),
    aten.unsqueeze: _along(torch.unsqueeze),
    aten.squeeze: _along(aten.squeeze.dim),
    aten.select: _along(aten.select.int),
    aten.slice: _along(aten.slice.Tensor),
    aten.slice_backward: lambda g, sizes, dim, *rest: Pairs(
        aten.slice_backward.default(g.value, [*sizes, 2], dim % g.ndim, *rest)
    ),
    aten.select_backward: lambda g, sizes, dim, i: Pairs(
        aten.select_backward.default(g.value, [*sizes, 2], dim % len(sizes), i)
    ),
    aten.cat: _together(torch.cat, 0),
    aten.stack: _together(torch.stack, 1),
    aten.sum: _reduced(torch.sum),
    aten.mean: _reduced(torch.mean),
    aten.mm: _product(torch.mm),
    aten.bmm: _product(torch.bmm),
    aten._fft_c2c: _to_complex,
    aten._fft_c2r: _to_real,
}
"""Operations of complex numbers."""
