"""The closed table of operations: what a program may hold, and nothing else runs.

A name is that of an ATen overload ("mm.default"); the names are fixed here, never taken from a program. `stock` runs
PyTorch's own kernels, on one thread: equal bits between processes of one machine, not between machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch

from podlt.errors import UnsupportedError
from podlt.exact.portable.devices import CPU, torch_device
from podlt.program.philox import uniform

ELEMENTWISE = """
abs.default add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Scalar mul.Tensor mul.Scalar div.Tensor div.Scalar
neg.default reciprocal.default sqrt.default rsqrt.default square.default pow.Tensor_Scalar pow.Tensor_Tensor
pow.Scalar exp.default log.default log1p.default expm1.default tanh.default sigmoid.default erf.default sin.default
cos.default relu.default gelu.default silu.default leaky_relu.default elu.default softplus.default hardtanh.default
log_sigmoid_forward.default tanh_backward.default sigmoid_backward.default gelu_backward.default silu_backward.default
threshold_backward.default leaky_relu_backward.default elu_backward.default softplus_backward.default
hardtanh_backward.default log_sigmoid_backward.default maximum.default minimum.default clamp.default clamp.Tensor
clamp_min.default clamp_max.default where.self where.ScalarSelf where.ScalarOther eq.Scalar eq.Tensor ne.Scalar
ne.Tensor lt.Scalar lt.Tensor le.Scalar le.Tensor gt.Scalar gt.Tensor ge.Scalar ge.Tensor logical_and.default
logical_or.default logical_not.default bitwise_and.Tensor bitwise_or.Tensor bitwise_not.default
masked_fill.Scalar masked_fill.Tensor _to_copy.default clone.default sign.default floor.default addcmul.default
isnan.default isinf.default
"""
STRUCTURAL = """
view.default reshape.default _unsafe_view.default permute.default t.default transpose.int expand.default
unsqueeze.default squeeze.default squeeze.dim squeeze.dims select.int slice.Tensor cat.default stack.default
split.Tensor split_with_sizes.default unbind.int constant_pad_nd.default flip.default select_backward.default
slice_backward.default slice_scatter.default select_scatter.default repeat.default full.default full_like.default
zeros.default zeros_like.default ones.default ones_like.default arange.default arange.start arange.start_step
scalar_tensor.default new_zeros.default new_full.default new_ones.default tril.default triu.default
gather.default scatter.value scatter.src scatter_add.default index.Tensor index_put.default index_select.default
embedding.default embedding_dense_backward.default argmax.default topk.default sort.default
"""
REDUCTIONS = """
sum.default sum.dim_IntList mean.default mean.dim amax.default amin.default max.dim min.dim var.correction
var_mean.correction cumsum.default any.default any.dim all.default prod.default linalg_vector_norm.default
_softmax.default _softmax_backward_data.default _log_softmax.default _log_softmax_backward_data.default
logsumexp.default nll_loss_forward.default nll_loss_backward.default nll_loss2d_forward.default
nll_loss2d_backward.default mse_loss.default mse_loss_backward.default binary_cross_entropy_with_logits.default
smooth_l1_loss.default smooth_l1_loss_backward.default huber_loss.default huber_loss_backward.default
native_layer_norm.default native_layer_norm_backward.default native_group_norm.default
native_group_norm_backward.default _native_batch_norm_legit_functional.default native_batch_norm_backward.default
"""
PRODUCTS = """
mm.default bmm.default addmm.default baddbmm.default mv.default dot.default convolution.default
convolution_backward.default max_pool2d_with_indices.default max_pool2d_with_indices_backward.default
avg_pool2d.default avg_pool2d_backward.default _adaptive_avg_pool2d.default _adaptive_avg_pool2d_backward.default
"""

STOCK = frozenset(f"{ELEMENTWISE} {STRUCTURAL} {REDUCTIONS} {PRODUCTS}".split())
"""The ATen overloads that `stock` runs as they are."""

FACTORIES = frozenset(
    [
        "full.default",
        "zeros.default",
        "ones.default",
        "arange.default",
        "arange.start",
        "arange.start_step",
        "scalar_tensor.default",
    ]
)
"""Operations that make a tensor from numbers alone."""


_BOUND: Mapping[str, Callable[..., Any]] = {
    "mm.default": torch.mm,
    "bmm.default": torch.bmm,
    "addmm.default": torch.addmm,
    "t.default": torch.t,
    "transpose.int": torch.transpose,
    "permute.default": torch.permute,
    "relu.default": torch.relu,
    "sigmoid.default": torch.sigmoid,
    "tanh.default": torch.tanh,
    "add.Tensor": torch.add,
    "sub.Tensor": torch.sub,
    "mul.Tensor": torch.mul,
    "sum.dim_IntList": torch.sum,
}
"""The same kernels by PyTorch's own binding, which reads its arguments in a third less time than the registry's."""

_RESHAPES = {"view.default", "_unsafe_view.default", "reshape.default"}
"""On row-major values these are one operation: a program knows no strides."""


def draw_uniform(seed: int, draw: int, shape: list[int]) -> torch.Tensor:
    """A tensor of uniform float32 in [0, 1): the program's `draw`-th, for the task's seed."""
    count = 1
    for dim in shape:
        count *= dim
    return torch.from_numpy(uniform(seed, draw, count)).reshape(shape)


def constant(dtype: torch.dtype, shape: list[int], values: list[Any]) -> torch.Tensor:
    """A small constant that the model holds."""
    return torch.tensor(values, dtype=dtype).reshape(shape)


def _make_contiguous_reshape(value: torch.Tensor, shape: list[int]) -> torch.Tensor:
    return value.reshape(shape)


STOCK_ARITHMETIC = "stock"
EXACT_ARITHMETIC = {f"exact/{digits}": digits for digits in (1, 2, 3)}
"""The exact arithmetics, by the number of digits into which products cut their operands."""


@cache
def table(arithmetic: str, device: str = CPU) -> Mapping[str, Callable[..., Any]]:
    """The operations of an arithmetic, by name; those of exact ones give the same bits on every device.

    Args:
        device: as `exact.portable.devices` names it; all but the CPU are for exact arithmetics.

    Raises:
        UnsupportedError: there is no such arithmetic here, or not on this device. UsageError: no such device here.
    """
    if device != CPU:
        return _device_table(arithmetic, device)
    if arithmetic == STOCK_ARITHMETIC:
        found: dict[str, Callable[..., Any]] = {name: _overload(name)._op for name in STOCK - _RESHAPES}
        found |= _BOUND
        found |= dict.fromkeys(_RESHAPES, _make_contiguous_reshape)
    elif arithmetic in EXACT_ARITHMETIC:
        from podlt.exact.cpu.table import (
            table as exact_table,  # brings a compiler along: only who needs it waits for it
        )

        exact = exact_table(EXACT_ARITHMETIC[arithmetic])
        found = {name: operation for name, operation in exact.items() if name in STOCK}
    else:
        known = ", ".join([STOCK_ARITHMETIC, *EXACT_ARITHMETIC])
        raise UnsupportedError(f"no arithmetic named {arithmetic!r}: expected one of {known}")
    found["uniform"] = draw_uniform
    found["constant"] = constant
    return found


def writing(arithmetic: str, device: str = CPU) -> Mapping[str, Callable[..., Any]]:
    """The operations of an arithmetic that can write into given memory (`out`) the bits that they have without."""
    if arithmetic == STOCK_ARITHMETIC:
        return {"mm.default": torch.mm}
    if device != CPU or arithmetic not in EXACT_ARITHMETIC:
        return {}
    from podlt.exact.cpu.products import mm

    return {"mm.default": partial(mm, digits=EXACT_ARITHMETIC[arithmetic])}


def _device_table(arithmetic: str, device: str) -> Mapping[str, Callable[..., Any]]:
    if arithmetic not in EXACT_ARITHMETIC:
        raise UnsupportedError(
            f"device {device}: expected an exact arithmetic, got {arithmetic!r}, which is the CPU's own"
        )
    from podlt.exact.portable.random import uniform as uniform_there
    from podlt.exact.portable.table import table as portable_table

    at = torch_device(device)
    portable = portable_table(EXACT_ARITHMETIC[arithmetic], device)
    found = {name: operation for name, operation in portable.items() if name in STOCK}
    found["uniform"] = lambda seed, draw, shape: uniform_there(seed, draw, shape, at)
    found["constant"] = lambda dtype, shape, values: constant(dtype, shape, values).to(at)
    return found


def schema(name: str) -> Any:
    """The ATen schema of a table's operation, or None for our own."""
    return None if name in ("uniform", "constant") else _overload(name)._schema


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload)
