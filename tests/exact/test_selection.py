"""What selects and orders: exhaustive over short lines, ties and signed zeros included; NaN refused by name."""

import itertools
import math

import numpy as np
import pytest
import torch
from examples_drawn import examples
from hypothesis import given
from hypothesis import strategies as st

from podlt.errors import UnsupportedError, UsageError
from podlt.exact.constants import NanError, NonFiniteError
from podlt.exact.cpu.backend import table
from podlt.exact.operations import definitions

TABLE, DEFINED = table(2), definitions(2)
VALUES = [-math.inf, -1.0, -0.0, 0.0, 1e-45, math.inf]


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def agree(name, x, *rest):
    got, want = TABLE[name](x, *rest), DEFINED[name](x.numpy(), *rest)
    got, want = ([f] if not isinstance(f, tuple) else list(f) for f in (got, want))
    return all(same(np.ascontiguousarray(a.numpy()), np.ascontiguousarray(b)) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("length", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("argmax.default", (1,)),
        ("max.dim", (1,)),
        ("min.dim", (1, True)),
        ("amax.default", ([1],)),
        ("amin.default", ([1],)),
        ("sort.default", (1, False)),
        ("sort.default", (1, True)),
        ("topk.default", (1, 1)),
    ],
)
def test_every_short_line_of_special_values_is_ordered_as_defined(name, rest, length):
    lines = torch.tensor(list(itertools.product(VALUES, repeat=length)))
    assert agree(name, lines, *rest)
    assert agree(name, lines.t().contiguous().t(), *rest)


def test_of_equal_values_the_first_is_taken_and_zeros_are_equal():
    x = torch.tensor([1.0, -0.0, 0.0, 1.0, -1.0, -0.0])
    assert int(TABLE["argmax.default"](x)) == 0
    assert TABLE["sort.default"](x, 0, False)[1].tolist() == [4, 1, 2, 5, 0, 3]
    assert TABLE["sort.default"](x, 0, True)[1].tolist() == [0, 3, 1, 2, 5, 4]
    assert TABLE["topk.default"](x, 3, 0, True, False)[1].tolist() == [0, 3, 1]
    assert TABLE["min.dim"](x[1:4], 0)[1].item() == 0


def test_long_lines_with_many_ties_are_in_the_one_stable_order():
    x = torch.from_numpy(np.random.Philox(key=5).random_raw(70_000) % 9).float()
    for descending in (False, True):
        values, index = TABLE["sort.default"](x, 0, descending)
        assert torch.equal(x[index], values)
        keys = (-x if descending else x).numpy().astype(np.int64) * 70_000 + np.arange(70_000)
        assert np.array_equal(index.numpy(), np.argsort(keys))


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("argmax.default", ()),
        ("argmax.default", (1,)),
        ("topk.default", (1,)),
        ("sort.default", ()),
        ("max.dim", (0,)),
        ("min.dim", (0,)),
        ("logsumexp.default", ([1],)),
    ],
)
def test_a_nan_is_refused_by_the_name_of_the_operation(name, rest):
    x = torch.tensor([[1.0, math.nan], [2.0, 3.0]])
    with pytest.raises(NanError, match=f"^{name.split('.')[0]}: .*NaN"):
        TABLE[name](x, *rest)
    with pytest.raises(NanError, match=f"^{name.split('.')[0]}: .*NaN"):
        DEFINED[name](x.numpy(), *rest)


@pytest.mark.parametrize(
    ("name", "rest"),
    [("argmax.default", ()), ("argmax.default", (1,)), ("max.dim", (1,)), ("min.dim", (1,)), ("amax.default", ([1],))],
)
def test_nothing_has_no_largest_value(name, rest):
    for found in (TABLE[name], lambda x, *more: DEFINED[name](x.numpy(), *more)):
        with pytest.raises(UsageError, match=f"^{name.split('.')[0]}: .*got none"):
            found(torch.empty(3, 0), *rest)


def test_more_values_than_there_are_and_places_beyond_the_end_are_refused():
    with pytest.raises(UsageError, match=r"^topk: expected k from 0 to 3, got 4"):
        TABLE["topk.default"](torch.ones(3), 4)
    for name in ("scatter.src", "scatter_add.default"):
        with pytest.raises((IndexError, RuntimeError)):
            TABLE[name](torch.zeros(3), 0, torch.tensor([3]), torch.ones(1))


def test_scatter_refuses_a_place_that_is_named_twice():
    x, source = torch.zeros(2, 3), torch.ones(2, 2)
    with pytest.raises(UsageError, match=r"^scatter: .*one twice"):
        TABLE["scatter.src"](x, 1, torch.tensor([[0, 0], [1, 2]]), source)
    assert TABLE["scatter.src"](x, 1, torch.tensor([[0, 1], [0, 1]]), source).sum() == 4


def test_log_of_a_sum_takes_minus_infinity_and_refuses_plus_infinity():
    x = torch.tensor([[-math.inf, 2.0], [-math.inf, -math.inf]])
    assert TABLE["logsumexp.default"](x, [1]).tolist() == [2.0, -math.inf]
    with pytest.raises(NonFiniteError, match=r"^logsumexp"):
        TABLE["logsumexp.default"](-x, [1])


@examples(150)
@given(st.lists(st.floats(width=32), max_size=20))
def test_products_of_all_values_are_taken_in_the_written_order(row):
    x = torch.tensor(row, dtype=torch.float32)
    got = TABLE["prod.default"](x).numpy()
    with np.errstate(all="ignore"):
        want = DEFINED["prod.default"](x.numpy())
    assert got.tobytes() == want.tobytes() or (np.isnan(got) and np.isnan(want))


def test_the_order_of_a_product_is_halves_and_not_neighbours():
    big, small = 2.0**100, 2.0**-100
    assert TABLE["prod.default"](torch.tensor([big, big, small, small])) == 1.0
    assert math.isnan(TABLE["prod.default"](torch.tensor([big, small, big, small])))  # infinity times nothing


@pytest.mark.parametrize(("name", "pick"), [("maximum.default", max), ("minimum.default", min)])
def test_zeros_of_both_signs_are_ordered_and_a_nan_wins(name, pick):
    for a, b in itertools.product([0.0, -0.0], repeat=2):
        got = float(TABLE[name](torch.tensor([a]), torch.tensor([b])))
        assert math.copysign(1.0, got) == pick(math.copysign(1.0, a), math.copysign(1.0, b))
    for a, b in ((math.nan, 1.0), (math.inf, math.nan)):
        assert math.isnan(float(TABLE[name](torch.tensor([a]), torch.tensor([b]))))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2.0**63, -(2.0**63) * 1.0001, 1e30])
def test_a_cast_to_whole_numbers_refuses_what_they_cannot_hold(value):
    with pytest.raises(UnsupportedError, match=r"^_to_copy: .*int64"):
        TABLE["_to_copy.default"](torch.tensor([1.0, value]), dtype=torch.int64)


def test_a_cast_to_bytes_takes_0_to_255_with_any_fraction():
    assert TABLE["_to_copy.default"](torch.tensor([-0.9, 255.9]), dtype=torch.uint8).tolist() == [0, 255]
    for value in (-1.0, 256.0):
        with pytest.raises(UnsupportedError, match="uint8"):
            TABLE["_to_copy.default"](torch.tensor([value]), dtype=torch.uint8)
