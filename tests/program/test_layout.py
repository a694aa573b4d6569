"""Where tensors lie in flat memory: aligned, apart, in order, with zeros between them."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import torch
from examples_drawn import examples
from hypothesis import given

from podlt.program.ir import DTYPES, TensorType
from podlt.program.layout import TORCH_DTYPES, Layout, state_layout, update_layout
from podlt.program.places import ALIGNMENT

from .zoo import Case

KINDS = st.builds(TensorType, st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3).map(tuple))


def aligned(size: int) -> np.ndarray:
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


@examples(100)
@given(st.lists(KINDS, max_size=8))
def test_tensors_are_aligned_and_apart(kinds: list[TensorType]) -> None:
    layout = Layout([(f"t:{i}", kind) for i, kind in enumerate(kinds)])
    memory = aligned(layout.nbytes)
    views = layout.views(memory)
    written = 0
    for i, kind in enumerate(kinds):
        view = views[f"t:{i}"]
        assert (view.dtype, tuple(view.shape)) == (TORCH_DTYPES[kind.dtype], kind.shape)
        assert view.numel() == 0 or view.data_ptr() % ALIGNMENT == 0
        assert view.is_contiguous()
        view.fill_(1)
        written += view.numel()
    nonzero = sum(int((view != 0).sum()) for view in views.values())
    assert nonzero == written
    floats = [kind.dtype == "f32" for kind in kinds]
    leading = floats.index(False) if False in floats else len(floats)
    assert layout.float_bytes == sum(-(-4 * int(np.prod(k.shape)) // 64) * 64 for k in kinds[:leading])


def test_an_update_begins_with_all_its_floats(captured: Callable[[str], Case]) -> None:
    program = captured("pooled").program
    layout = update_layout(program)
    views = layout.views(aligned(layout.nbytes))
    assert next(iter(views)) == "loss"
    kinds = [view.dtype for view in views.values()]
    assert kinds == sorted(kinds, key=lambda kind: kind != torch.float32)
    assert layout.float_bytes < layout.nbytes  # a batch norm counts its batches in int64
    assert set(views) == {name for name, _ in program.outputs}


def test_parameters_and_their_gradients_lie_in_the_same_order(captured: Callable[[str], Case]) -> None:
    program = captured("pooled").program
    state, update = state_layout(program), update_layout(program)
    start, stop = state.section("param:")
    first, last = update.section("grad:")
    assert stop - start == last - first > 0
    assert state.section("none:") == (0, 0)
