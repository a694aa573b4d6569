"""Matrix products under their ATen names: exact, rounded once, then scaled and added to."""

from __future__ import annotations

from collections.abc import Mapping

from podlt.exact.aten.backend import Backend, Operation, Tensor


def _mm(b: Backend, x: Tensor, y: Tensor) -> Tensor:
    return b.products.mm(x, y, b.digits)


def _bmm(b: Backend, x: Tensor, y: Tensor) -> Tensor:
    return b.products.bmm(x, y, b.digits)


def _addmm(b: Backend, c: Tensor, x: Tensor, y: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if beta == 1 and alpha == 1 and c.ndim == 1 and c.shape[0] == y.shape[1]:
        return b.products.mm(x, y, b.digits, c, "addmm")
    return _scaled(c, b.products.mm(x, y, b.digits, None, "addmm"), beta, alpha)


def _baddbmm(b: Backend, c: Tensor, x: Tensor, y: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return _scaled(c, b.products.bmm(x, y, b.digits, "baddbmm"), beta, alpha)


def _scaled(c: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (c if beta == 1 else c * beta)


def _mv(b: Backend, x: Tensor, y: Tensor) -> Tensor:
    return b.products.mm(x, y.unsqueeze(1), b.digits, None, "mv").squeeze(1)


def _dot(b: Backend, x: Tensor, y: Tensor) -> Tensor:
    return b.products.mm(x.unsqueeze(0), y.unsqueeze(1), b.digits, None, "dot").reshape(())


BY_BACKEND: Mapping[str, Operation] = {
    "mm.default": _mm,
    "bmm.default": _bmm,
    "addmm.default": _addmm,
    "baddbmm.default": _baddbmm,
    "mv.default": _mv,
    "dot.default": _dot,
}
