"""Operations of our own as PyTorch sees them while a step is traced: their signatures, shapes and gradients.

They are traced and never run: what computes them is in the tables (`program.operations`).
"""

from __future__ import annotations

from typing import Any

import torch

from podlt.exact.operations.recurrences import SAVED

Tensor = torch.Tensor
Maybe = Tensor | None

_library: Any = torch.library.Library("podlt", "DEF")  # type: ignore[no-untyped-call]
_STATES = "Tensor x, Tensor h, Tensor? c, Tensor w_ih, Tensor w_hh"
_library.define(
    f"recurrence(str kind, {_STATES}, Tensor? b_ih, Tensor? b_hh) -> (Tensor, Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(
    f"recurrence_backward(str kind, Tensor? d_y, Tensor? d_h, Tensor? d_c, {_STATES}, Tensor y, Tensor? saved, "
    f"bool[] mask) -> ({', '.join(['Tensor'] * 7)})",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_QUERY = "Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor? surviving, float factor, float lift, bool causal"
_library.define(f"attention({_QUERY}) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
_library.define(
    f"attention_backward(Tensor grad, {_QUERY}, bool[] wanted) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def _absent(like: Tensor) -> Tensor:
    """What stands for a result that there is not: programs declare it as f32[0]."""
    return like.new_empty(0)


def _recurrence(
    kind: str, x: Tensor, h: Tensor, c: Maybe, w_ih: Tensor, w_hh: Tensor, b_ih: Maybe, b_hh: Maybe
) -> tuple[Tensor, ...]:
    steps, examples, _ = x.shape
    hidden = h.shape[1]
    saved = x.new_empty(steps, examples, SAVED[kind] * hidden) if kind in SAVED else _absent(x)
    last = _absent(x) if c is None else torch.empty_like(c, memory_format=torch.contiguous_format)
    return x.new_empty(steps, examples, hidden), h.new_empty(examples, hidden), last, saved


def _recurrence_backward(
    kind: str,
    d_y: Maybe,
    d_h: Maybe,
    d_c: Maybe,
    x: Tensor,
    h: Tensor,
    c: Maybe,
    w_ih: Tensor,
    w_hh: Tensor,
    y: Tensor,
    saved: Maybe,
    mask: list[bool],
) -> tuple[Tensor, ...]:
    bias = w_ih[:, 0]
    of = (x, h, h if c is None else c, w_ih, w_hh, bias, bias)
    return tuple(x.new_empty(one.shape) if wanted else _absent(x) for one, wanted in zip(of, mask, strict=True))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    kind, x, h, c, w_ih, w_hh, _, _ = inputs
    y, _, _, saved = output
    ctx.kind = kind
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(saved)
    ctx.save_for_backward(x, h, c, w_ih, w_hh, y, saved)


def _gradients(ctx: Any, d_y: Maybe, d_h: Maybe, d_c: Maybe, _: Maybe) -> tuple[Maybe, ...]:
    x, h, c, w_ih, w_hh, y, saved = ctx.saved_tensors
    mask = list(ctx.needs_input_grad[1:])
    found = torch.ops.podlt.recurrence_backward(
        ctx.kind,
        d_y,
        d_h,
        None if c is None else d_c,
        x,
        h,
        c,
        w_ih,
        w_hh,
        y,
        saved if ctx.kind in SAVED else None,
        mask,
    )
    return None, *(one if wanted else None for one, wanted in zip(found, mask, strict=True))


torch.library.register_fake("podlt::recurrence", _recurrence, lib=_library)
torch.library.register_fake("podlt::recurrence_backward", _recurrence_backward, lib=_library)
torch.library.register_autograd("podlt::recurrence", _gradients, setup_context=_keep, lib=_library)


def recurrence(kind: str, x: Tensor, states: tuple[Tensor, Maybe], weights: list[Tensor]) -> tuple[Tensor, ...]:
    """One layer in one direction.

    Args:
        kind: one of `exact.operations.recurrences.GATES`.
        x: (steps, examples, width).
        states: the first h and c (examples, hidden).
        weights: w_ih and w_hh, then both biases or none.

    Returns:
        h of each step, the last h, and of an LSTM the last c.
    """
    biases = weights[2:] or (None, None)
    y, h, c, _ = torch.ops.podlt.recurrence(kind, x, *states, *weights[:2], *biases)
    return (y, h) if states[1] is None else (y, h, c)


def _attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Maybe, surviving: Maybe, factor: float, lift: float, causal: bool
) -> Tensor:
    return q.new_empty(*q.shape[:-1], v.shape[-1])


def _attention_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(
        x.new_empty(x.shape) if is_wanted else _absent(x) for x, is_wanted in zip((q, k, v), rest[-1], strict=True)
    )


def _keep_attention(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.numbers = inputs[5:]


def _attention_gradients(ctx: Any, grad: Tensor) -> tuple[Maybe, ...]:
    wanted = list(ctx.needs_input_grad[:3])
    found = torch.ops.podlt.attention_backward(grad, *ctx.saved_tensors, *ctx.numbers, wanted)
    return *(one if is_wanted else None for one, is_wanted in zip(found, wanted, strict=True)), *[None] * 5


torch.library.register_fake("podlt::attention", _attention, lib=_library)
torch.library.register_fake("podlt::attention_backward", _attention_backward, lib=_library)
torch.library.register_autograd("podlt::attention", _attention_gradients, setup_context=_keep_attention, lib=_library)


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Maybe, surviving: Maybe, factor: float, lift: float, causal: bool
) -> Tensor:
    """The arguments are those of `exact.operations.attention`."""
    return torch.ops.podlt.attention(q, k, v, mask, surviving, factor, lift, causal)  # type: ignore[no-any-return]
