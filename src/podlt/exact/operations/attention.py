"""Rows of attention, which is no operation of ATen's: its scores are never held for all heads at once.

    attention(q, k, v, mask, surviving, factor, lift, causal)                         -> out
    attention_backward(grad, q, k, v, mask, surviving, factor, lift, causal, wanted)  -> of q, k, v

q (*n, t, d), k (*n, s, d), v (*n, s, e), out (*n, t, e). The mask, if any, has as many dimensions, each of them 1 or
whole: bools say what a query may see, floats are added to its scores. `surviving`, if dropout is given, says which of
the probabilities (*n, t, s) remain, and `lift` by how much they grow. q and k are multiplied by `factor` each. With
`causal` the query in place i sees the keys in places 0 to i. `wanted` says which gradients are; None stands for others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from podlt.exact.definition import attention as d
from podlt.exact.operations.row import Sample, Table, product
from podlt.exact.operations.types import Given, Shape, Types, is_mask, is_tensor
from podlt.exact.samples import INF, const, floats, of, values, whole


def _scores(q: Any, k: Any, v: Any) -> tuple[Shape, Shape] | None:
    """The shapes of scores and result."""
    if not all(is_tensor(one, "f32") and len(one[1]) >= 2 and 0 not in one[1] for one in (q, k, v)):
        return None
    (*lead, t, width), (*heads, s, depth), (*others, length, e) = q[1], k[1], v[1]
    if not lead == heads == others or width != depth or s != length:
        return None
    return (*lead, t, s), (*lead, t, e)


def _fits_mask(mask: Any, scores: Shape) -> bool:
    if mask is None:
        return True
    fits = is_tensor(mask, "b1", len(scores)) or is_tensor(mask, "f32", len(scores))
    return fits and all(size in (1, whole) for size, whole in zip(mask[1], scores, strict=True))


def _attention(given: Given) -> Types | None:
    """Queries, keys, values, mask, dropout, factor, lift, causal."""
    if len(given) != 8 or (shapes := _scores(*given[:3])) is None or not _fits_mask(given[3], shapes[0]):
        return None
    fits = given[4] in (None, ("b1", shapes[0])) and isinstance(given[7], bool)
    return [("f32", shapes[1])] if fits and all(isinstance(one, float) for one in given[5:7]) else None


def _attention_backward(given: Given) -> Types | None:
    """Gradient, what `attention` took, which gradients are wanted."""
    if len(given) != 10 or not is_mask(given[9]):
        return None
    found = _attention(given[1:9])
    if found is None or given[0] != found[0]:
        return None
    return [kind if is_wanted else None for kind, is_wanted in zip(given[1:4], given[9], strict=True)]


_q, _k, _v = floats(400, 2, 3, 4), floats(401, 2, 5, 4), floats(402, 2, 5, 3)
_four = floats(403, 1, 2, 4, 2), of(floats(404, 1, 4, 2, 2), lambda x: x.transpose(1, 2)), floats(405, 1, 2, 4, 3)
_some = const([[[True, False, True, True, False], [False] * 5, [True] * 5]])
_added = const([[[0.5, -INF, 0.0, -3.0, 1.0]]])
_CALLS: list[Sample] = [
    (_q, _k, _v, None, None, 0.7, 1.0, False),
    (*_four, None, None, 0.84, 1.0, True),
    (_q, _k, _v, _some, None, 0.7, 1.0, False),
    (_q, _k, _v, _added, None, 0.7, 1.0, True),
    (*_four, None, lambda: whole(406, 0, 4, 1, 2, 4, 4) > 0, 0.84, 1.25, True),
    (floats(407, 3, 2), floats(408, 2, 2), floats(409, 2, 1), None, None, 1.0, 1.0, False),
]


def _backward(t: Table) -> Iterator[Sample]:
    for number, call in enumerate(_CALLS):
        made = [item() if callable(item) else item for item in call]
        out = t["attention"](*made)
        yield values(410 + number, *out.shape), *made, [number != 1, True, number != 2]


ROWS = (
    product("attention", d.attention, _CALLS, _attention),
    product("attention_backward", d.attention_backward, _backward, _attention_backward),
)
