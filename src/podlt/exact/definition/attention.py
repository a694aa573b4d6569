"""The definition of attention and its gradients: the composition of products, softmax and float32 steps, head by head.

q and k are multiplied by one factor; scores are the exact product of q and the transposed k. A score that a query may
not see is -inf, whatever the product; a mask of floats is added. The probabilities are the softmax of a row, zeros
where it sees nothing. Where dropout is given, they are multiplied by 1 or 0 and by `lift`. Signatures are those of
`exact/operations/attention`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from podlt.exact.constants import Array
from podlt.exact.definition.layers import softmax, softmax_backward
from podlt.exact.definition.products import mm

_0 = np.float32(0.0)


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    surviving: Array | None,
    factor: float,
    lift: float,
    causal: bool,
    digits: int,
) -> Array:
    """Each query's average of the values, by its probabilities."""
    out = np.empty((*q.shape[:-1], v.shape[-1]), np.float32)
    for head in np.ndindex(q.shape[:-2]):
        p = _probabilities(q, k, mask, factor, causal, head, digits)
        out[head] = mm(_dropped(p, surviving, lift, head), v[head], digits)
    return out


def attention_backward(
    grad: Array,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    surviving: Array | None,
    factor: float,
    lift: float,
    causal: bool,
    wanted: Sequence[bool],
    digits: int,
) -> tuple[Array | None, ...]:
    """The gradients of q, k and v."""
    d_q, d_k, d_v = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    scale = np.float32(factor)
    for head in np.ndindex(q.shape[:-2]):
        p = _probabilities(q, k, mask, factor, causal, head, digits)
        d_v[head] = mm(_dropped(p, surviving, lift, head).T, grad[head], digits)
        d_p = _dropped(mm(grad[head], v[head].T, digits), surviving, lift, head)
        visible = _visible(p.shape, mask, causal, head)
        d_s = softmax_backward(np.where(visible, d_p, _0), p)
        d_q[head] = mm(d_s, k[head] * scale, digits) * scale
        d_k[head] = mm(d_s.T, q[head] * scale, digits) * scale
    return tuple(d if is_wanted else None for d, is_wanted in zip((d_q, d_k, d_v), wanted, strict=True))


def _probabilities(
    q: Array, k: Array, mask: Array | None, factor: float, causal: bool, head: tuple[int, ...], digits: int
) -> Array:
    scores = mm(q[head] * np.float32(factor), (k[head] * np.float32(factor)).T, digits)
    scores = np.where(_visible(scores.shape, mask, causal, head), scores, np.float32(-np.inf))
    if mask is not None and mask.dtype.kind == "f":
        scores = scores + _of_head(mask, head)
    blind = (scores == -np.inf).all(axis=1)
    scores[blind] = _0  # softmax has no answer there
    p = softmax(scores)
    p[blind] = _0
    return p


def _visible(shape: tuple[int, ...], mask: Array | None, causal: bool, head: tuple[int, ...]) -> Array:
    """Which keys a query may see: those up to its own place, and those of a mask of bools."""
    visible = np.tri(*shape, dtype=np.bool_) if causal else np.ones(shape, np.bool_)
    return visible & _of_head(mask, head) if mask is not None and mask.dtype.kind == "b" else visible


def _of_head(mask: Array, head: tuple[int, ...]) -> Array:
    """A head's part of a mask, whose dimensions may be 1."""
    found: Array = mask[tuple(0 if size == 1 else place for size, place in zip(mask.shape, head, strict=False))]
    return found


def _dropped(x: Array, surviving: Array | None, lift: float, head: tuple[int, ...]) -> Array:
    """What dropout makes of it."""
    return x if surviving is None else (x * surviving[head].astype(np.float32)) * np.float32(lift)
