"""Memory that processes share."""

from __future__ import annotations

import gc
import os
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.data.field import Field
from podlt.engine.shared_memory import ALIGNMENT, BatchBuffer, Region
from podlt.errors import EngineError


def shared_descriptors() -> set[str]:
    """The descriptors of this process that are shared memory of podlt's."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            if "memfd:podlt" in os.readlink(f"/proc/self/fd/{number}"):
                found.add(number)
    return found


def test_a_region_is_one_memory_for_all_who_have_its_descriptor() -> None:
    first = Region(1000)
    second = Region(1000, os.dup(first.descriptor))
    first.bytes[7] = 42
    assert second.bytes[7] == 42
    for region in (first, second):
        region.close()


def test_more_memory_than_there_is_is_refused_in_one_line_and_leaves_nothing_open() -> None:
    gc.collect()  # what other tests have left is closed now, and not meanwhile
    before = shared_descriptors()
    with pytest.raises(EngineError, match=r"no \d+ MiB of shared memory"):
        Region(2**50)
    assert shared_descriptors() <= before


@given(st.lists(st.tuples(st.sampled_from(["f32", "i64", "u8"]), st.integers(1, 9)), min_size=1, max_size=4),
       st.integers(1, 40), st.data())  # fmt: skip
def test_no_field_of_either_half_overlaps_another(
    kinds: list[tuple[str, int]], examples: int, data: st.DataObject
) -> None:
    fields = [Field(f"f{i}", dtype, (width,), None, "input") for i, (dtype, width) in enumerate(kinds)]
    buffer = BatchBuffer(fields, examples)
    used = data.draw(st.integers(1, examples))
    views = [buffer.views(half, used)[field.name] for half in (0, 1) for field in fields]
    for number, view in enumerate(views):
        assert view.ctypes.data % ALIGNMENT == 0
        view[...] = number
    assert all((view == number).all() for number, view in enumerate(views))
    assert [view.shape for view in views[: len(fields)]] == [(used, width) for _, width in kinds]
    buffer.region.close()


def test_the_other_descriptor_of_a_block_sees_its_examples() -> None:
    fields = [Field("x", "f32", (3,), None, "input")]
    ours = BatchBuffer(fields, 5)
    theirs = BatchBuffer(fields, 5, os.dup(ours.region.descriptor))
    ours.views(1, 4)["x"][...] = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert theirs.views(1, 4)["x"].tolist() == np.arange(12.0).reshape(4, 3).tolist()
    for buffer in (ours, theirs):
        buffer.region.close()
