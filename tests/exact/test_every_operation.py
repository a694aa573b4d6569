"""Every operation has one row, and the table returns the bits of the row's definition for each of its samples."""

from functools import cache

import numpy as np
import pytest
import torch

from podlt.exact.cpu.backend import table
from podlt.exact.operations import (
    ROWS,
    attention,
    definitions,
    elementwise,
    layers,
    recurrences,
    reductions,
    samples,
    structure,
)
from podlt.program.operations import STOCK

TYPES = {torch.float32: np.float32, torch.int64: np.int64, torch.bool: np.bool_}
DEFINED, TABLE = definitions(2), table(2)


@cache
def sampled():
    """Every sample, made when a test asks for it: collecting tests computes nothing."""
    return list(samples(TABLE))


def as_arrays(item):
    """Tensors as arrays and torch's types as NumPy's, through lists."""
    if isinstance(item, torch.Tensor):
        return item.numpy().copy()
    if isinstance(item, list | tuple):
        return type(item)(as_arrays(part) for part in item)
    return TYPES.get(item, item) if isinstance(item, torch.dtype) else item


def bits(value):
    """Type, shape and bytes; every NaN is the same one, since payloads are not defined."""
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype == np.float32:
        array = np.where(np.isnan(array), np.float32(np.nan), array)
    return array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes()


def parts(found):
    return list(found) if isinstance(found, tuple | list) else [found]


def test_no_operation_has_two_rows():
    assert len(ROWS) == sum(
        len(part.ROWS) for part in (elementwise, structure, reductions, layers, recurrences, attention)
    )


def test_a_program_holds_nothing_without_a_definition_a_twin_and_a_sample():
    assert set(DEFINED) == set(TABLE) == {name for name, _, _ in sampled()} >= STOCK


@pytest.mark.parametrize("name", sorted(TABLE))
def test_the_table_returns_the_bits_of_the_definition(name):
    for number, (_, arguments, options) in enumerate(call for call in sampled() if call[0] == name):
        given = as_arrays(arguments), {key: as_arrays(value) for key, value in options.items()}
        got = TABLE[name](*arguments, **options)
        with np.errstate(all="ignore"):
            want = DEFINED[name](*given[0], **given[1])
        found = [None if t is None else t.numpy() for t in parts(got)]
        assert [bits(a) for a in found] == [bits(a) for a in parts(want)], (name, number)
        kept = as_arrays(arguments)
        assert repr(kept) == repr(given[0]), f"{name} changed what it was given"
