"""Functions of PyTorch that no graph holds, in terms of others: they look at values, or have a kernel of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch._decomp import decompositions
from torch.distributions import Distribution
from torch.nn import functional
from torch.nn.modules import transformer
from torch.overrides import TorchFunctionMode

from podlt.exact.operations.recurrences import GATES
from podlt.program.embedding_bags import embedding_bag
from podlt.program.own_operations import attention, recurrence

Tensor = torch.Tensor


@contextmanager
def without_looks() -> Iterator[None]:
    """PyTorch's own looks at values left out: they check arguments, or choose between kernels that compute the same.

    What they check was checked when the module was tried on examples of the data.
    """
    validated, detect = Distribution._validate_args, transformer._detect_is_causal_mask
    Distribution.set_default_validate_args(False)
    functional.scaled_dot_product_attention = _attention  # for PyTorch's own callers, which the mode does not see into
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(validated)
        functional.scaled_dot_product_attention = _attend
        transformer._detect_is_causal_mask = detect


class WrittenOut(TorchFunctionMode):
    """Puts functions that no graph holds in terms of others: one looks at values, one has a kernel of its own."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _WRITTEN_OUT.get(func, func)(*args, **(kwargs or {}))


def _gaussian_nll(
    input: torch.Tensor,
    target: torch.Tensor,
    var: torch.Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> torch.Tensor:
    """`torch.nn.functional.gaussian_nll_loss`; a variance below zero counts as `eps`."""
    spread = torch.full_like(input, var) if isinstance(var, float) else var
    if spread.shape != input.shape and spread.shape == input.shape[:-1]:
        spread = spread.unsqueeze(-1)
    spread = spread + (spread.clamp(min=eps) - spread).detach()  # gradients pass as if nothing were cut off
    loss = 0.5 * (torch.log(spread) + (input - target) ** 2 / spread)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def _weight_norm(v: torch.Tensor, g: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """`torch._weight_norm`: the directions of `v` with the lengths of `g`."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _randn_like(like: torch.Tensor, **options: Any) -> torch.Tensor:
    """`torch.randn_like`."""
    return _normal(tuple(like.shape), options.get("dtype") or like.dtype)


def _randn(*size: Any, **options: Any) -> torch.Tensor:
    """`torch.randn`."""
    shape = (
        options["size"] if "size" in options else size[0] if len(size) == 1 and not isinstance(size[0], int) else size
    )
    return _normal(tuple(shape), options.get("dtype") or torch.get_default_dtype())


def _normal(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Numbers from the normal distribution, out of two uniform ones each (Box and Muller)."""
    radius = torch.sqrt(-2 * torch.log(1 - torch.rand(shape, dtype=dtype)))
    return radius * torch.cos(2 * math.pi * torch.rand(shape, dtype=dtype))


def _pack(*_: Any) -> torch.Tensor:
    raise NotImplementedError(
        "packed sequences (pack_padded_sequence) are not supported: how much is computed would depend on the data. "
        "Run the network over the padded batch, and mask what lies beyond each example's length"
    )


_attend = functional.scaled_dot_product_attention


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`, as one operation where that can hold it."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    learned = attn_mask is not None and attn_mask.requires_grad
    if min(query.ndim, key.ndim, value.ndim) < 2 or factor < 0 or learned or (is_causal and attn_mask is not None):
        return _attend(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    lead = torch.Size(np.broadcast_shapes(*(x.shape[:-2] for x in (query, key, value))))
    query, key, value = (x if x.shape[:-2] == lead else x.expand(*lead, *x.shape[-2:]) for x in (query, key, value))
    if attn_mask is not None:
        attn_mask = attn_mask[(None,) * (len(lead) + 2 - attn_mask.ndim)]
    surviving = None
    if dropout_p > 0:
        surviving = torch.rand((*lead, query.shape[-2], key.shape[-2])) < 1.0 - dropout_p
    lift = 1.0 / (1.0 - dropout_p) if dropout_p < 1 else 0.0
    return attention(query, key, value, attn_mask, surviving, math.sqrt(factor), lift, is_causal)


def _layers(
    kind: str,
    input: Tensor,
    hidden: Any,
    params: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """`torch.lstm`, `torch.gru`, `torch.rnn_tanh` and `torch.rnn_relu`: each layer and direction one operation."""
    directions = 2 if bidirectional else 1
    states = hidden if kind == "lstm" else (hidden,)
    each = len(params) // (num_layers * directions)
    value, last = input.transpose(0, 1) if batch_first else input, []
    for number in range(num_layers):
        outputs = []
        for direction in range(directions):
            place = number * directions + direction
            own = [state[place] for state in states]
            weights = list(params[place * each : (place + 1) * each])
            y, *after = _one_direction(kind, value.flip(0) if direction else value, own, weights, has_biases)
            outputs.append(y.flip(0) if direction else y)
            last.append(after)
        value = torch.cat(outputs, 2) if bidirectional else outputs[0]
        if dropout and train and number < num_layers - 1:
            value = torch.dropout(value, dropout, train=True)
    value = value.transpose(0, 1) if batch_first else value
    return value, *(torch.stack(found) for found in zip(*last, strict=True))


def _one_direction(
    kind: str, value: Tensor, states: list[Tensor], weights: list[Tensor], has_biases: bool
) -> tuple[Tensor, ...]:
    """h of each step, and the last states."""
    if len(weights) == (5 if has_biases else 3):  # an LSTM with a projection of h: taken apart
        y, after = decompositions.one_layer_lstm(value, states, weights, has_biases)  # type: ignore[no-untyped-call]
        return y, *after
    return recurrence(kind, value, (states[0], states[1] if kind == "lstm" else None), weights)


def _ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, *rest: Any, **named: Any
) -> Any:
    """`torch.nn.functional.ctc_loss`: lengths that are equal in a list are so for any number of examples."""
    lengths = input_lengths, target_lengths
    if log_probs.ndim == 3 and not any(isinstance(one, Tensor) or len({*one}) != 1 for one in lengths):
        examples = log_probs.shape[1]
        if targets.ndim == 1:
            targets = targets.reshape(examples, target_lengths[0])
        input_lengths, target_lengths = (torch.full((examples,), one[0]) for one in lengths)
    return functional.ctc_loss(log_probs, targets, input_lengths, target_lengths, *rest, **named)


_WRITTEN_OUT: Mapping[Any, Callable[..., Any]] = {
    functional.gaussian_nll_loss: _gaussian_nll,
    functional.embedding_bag: embedding_bag,
    functional.ctc_loss: _ctc_loss,
    torch._weight_norm: _weight_norm,
    torch._VF._pack_padded_sequence: _pack,
    functional.scaled_dot_product_attention: _attention,
    **{getattr(torch._VF, kind): partial(_layers, kind) for kind in GATES},
    torch.randn: _randn,
    torch.randn_like: _randn_like,
}
