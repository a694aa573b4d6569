"""What the portable table asks of torch: a closed list of kernels that round once, or not at all, on any device.

A GPU computes each kernel on its own, so what could differ there is inside one kernel: this list is what has to be
right, and the test runs without a GPU.
"""

import pytest
import torch
from test_every_operation import sampled
from torch.utils._python_dispatch import TorchDispatchMode

from podlt.exact.portable.backend import table

_ONCE = "add.Tensor sub.Tensor rsub.Scalar mul.Tensor mul.Scalar copysign.Tensor _to_copy.default"
_NOT = """
neg.default abs.default round.default floor.default trunc.default isnan.default isinf.default where.self
eq.Scalar eq.Tensor ne.Scalar ne.Tensor lt.Scalar lt.Tensor le.Scalar le.Tensor gt.Scalar gt.Tensor ge.Scalar ge.Tensor
alias.default cat.default clone.default constant_pad_nd.default copy_.default detach.default empty.memory_format
expand.default flip.default roll.default full.default full_like.default gather.default index.Tensor index_copy.default
index_select.default lift_fresh.default masked_fill.Scalar masked_fill.Tensor new_full.default new_ones.default
new_zeros.default ones.default ones_like.default permute.default repeat.default scalar_tensor.default scatter.src
scatter.value select.int select_backward.default select_scatter.default slice.Tensor slice_backward.default
slice_scatter.default split.Tensor split_with_sizes.default squeeze.default squeeze.dim squeeze.dims stack.default
t.default transpose.int tril.default triu.default unbind.int unsqueeze.default view.default view.dtype
_unsafe_view.default zeros.default zeros_like.default _local_scalar_dense.default
"""
ROUNDS_ONCE, ROUNDS_NOT = set(_ONCE.split()), set(_NOT.split())
FLOAT64_ONLY = {"sqrt.default", "bmm.default"}
"""A root that float32 rounds right whatever its last bit; a product of whole numbers that is exact."""


class Kernels(TorchDispatchMode):
    """Collects the kernels that floats go into or come out of, and are not on the list."""

    def __init__(self):
        super().__init__()
        self.wrong = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        found = function(*arguments, **options)
        floats = [t for t in (*arguments, found) if isinstance(t, torch.Tensor) and t.is_floating_point()]
        if floats and not any(t.device.type == "meta" for t in floats):
            name = str(function).removeprefix("aten.")
            if not self.allowed(name, arguments, options, floats):
                self.wrong.add((name, *(str(getattr(a, "dtype", type(a).__name__)) for a in arguments), *options))
        return found

    @staticmethod
    def allowed(name, arguments, options, floats):
        if name in FLOAT64_ONLY:
            return all(t.dtype == torch.float64 for t in floats)
        if name == "div.Tensor":  # by a number, CUDA multiplies by the reciprocal
            return all(isinstance(a, torch.Tensor) for a in arguments) and not options
        return name in ROUNDS_NOT or (name in ROUNDS_ONCE and "alpha" not in options)


def test_every_kernel_that_floats_meet_rounds_at_most_once():
    run, kernels = table(2), Kernels()
    for name, arguments, options in sampled():
        with kernels:
            run[name](*arguments, **options)
    assert kernels.wrong == set()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x / 3.0,
        lambda x: torch.add(x, x, alpha=0.5),
        lambda x: torch.addcmul(x, x, x),
        lambda x: x.exp(),
        lambda x: x.sqrt(),
        lambda x: x.reciprocal(),
        lambda x: x @ x,
        lambda x: x.sum(),
        lambda x: x.cumsum(0),
        lambda x: x.amax(),
        lambda x: torch.maximum(x, x),
        lambda x: x.index_add(0, torch.tensor([0]), x[:1]),
        lambda x: torch.lerp(x, x, 0.3),
    ],
)
def test_kernels_that_a_device_may_round_otherwise_are_noticed(wrong):
    kernels = Kernels()
    with kernels:
        wrong(torch.ones(3, 3))
    assert kernels.wrong
