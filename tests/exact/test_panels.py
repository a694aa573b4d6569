"""Products in packed panels give the bits of those by torch's int8, at every edge of tiles and of memory's layouts."""

import itertools

import pytest
import torch

from podlt.exact.constants import ADAPTIVE, NonFiniteError
from podlt.exact.cpu import panels, products
from podlt.exact.cpu.digits import DigitCache
from podlt.execution.task_executor import one_thread

pytestmark = pytest.mark.skipif("vnni" not in products.WAYS, reason="this processor has no AVX-512 VNNI")


@pytest.fixture(autouse=True)
def alone():
    with one_thread():
        yield


def test_more_threads_than_one_are_left_to_torch(monkeypatch):
    packed = []
    monkeypatch.setattr(panels, "multiply", lambda *arguments: packed.append(arguments))
    products.mm(torch.ones(2, 3), torch.ones(3, 2), 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    products.mm(torch.ones(2, 3), torch.ones(3, 2), 2)
    assert len(packed) == 1


def drawn(rows, columns, seed, transposed=False, spread=0.0):
    generator = torch.Generator().manual_seed(seed)
    shape = (columns, rows) if transposed else (rows, columns)
    x = torch.randn(shape, generator=generator) * torch.exp(spread * torch.randn(shape, generator=generator))
    return x.t() if transposed else x


def same_in_both_ways(multiply):
    found = {}
    for way in ("vnni", "int8"):
        with products.using(way):
            found[way] = multiply().view(torch.int32)
    return torch.equal(found["vnni"], found["int8"])


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 3, 31), (6, 4, 32), (7, 5, 33), (95, 66, 127), (97, 130, 129)])
@pytest.mark.parametrize("digits", [2, ADAPTIVE])
def test_tiles_end_where_the_product_ends(size, digits):
    m, k, n = size
    for ours, theirs, biased in itertools.product((False, True), repeat=3):
        a, b = drawn(m, k, 1, ours), drawn(k, n, 2, theirs)
        bias = drawn(1, n, 3)[0] if biased else None
        assert same_in_both_ways(lambda a=a, b=b, bias=bias: products.mm(a, b, digits, bias))


@pytest.mark.parametrize("size", [(970, 70, 33), (7, 66, 1000)])
def test_operands_longer_than_a_stripe_are_cut_in_several(size):
    m, k, n = size
    for transposed in (False, True):
        a, b = drawn(m, k, 1, transposed, spread=2.0), drawn(k, n, 2, transposed, spread=2.0)
        assert same_in_both_ways(lambda a=a, b=b: products.mm(a, b, ADAPTIVE))


@pytest.mark.parametrize("transposed", [(False, False), (True, True)])
def test_rows_and_columns_that_need_four_digits_are_computed_anew(transposed):
    a, b = drawn(13, 70, 1, transposed[0]), drawn(70, 40, 2, transposed[1])
    for line in (a[4], b[:, 33]):  # all but one value are lost in two digits
        line.fill_(0.4 * 2.0**-13)
        line[0] = 0.6
    assert 0 < panels.pack(a, "left", ADAPTIVE, "mm").wide_lines < 13
    assert same_in_both_ways(lambda: products.mm(a, b, ADAPTIVE))
    assert same_in_both_ways(lambda: products.bmm(torch.stack([a, a * 3]), torch.stack([b, b]), ADAPTIVE))


def test_long_rows_and_extreme_exponents_are_combined_in_binary64():
    for k, power in ((4100, 0), (9, -60), (9, 62)):
        a, b = drawn(7, k, 1) * 2.0**power, drawn(k, 33, 2) * 2.0**power
        assert same_in_both_ways(lambda a=a, b=b: products.mm(a, b, ADAPTIVE))


def test_packed_operands_that_are_kept_are_packed_once_and_again_when_they_change():
    a, b = drawn(9, 20, 1), drawn(20, 40, 2)
    with DigitCache([b]):
        first = panels.pack(b, "right", 2, "mm")
        assert panels.pack(b, "right", 2, "mm") is first
        before = products.mm(a, b, 2)
        b.mul_(3)
        assert panels.pack(b, "right", 2, "mm") is not first
        assert not torch.equal(products.mm(a, b, 2), before)
    assert same_in_both_ways(lambda: products.mm(a, b, 2))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_is_refused_by_name(value):
    for place, transposed in itertools.product((0, 1), (False, True)):
        operands = [drawn(9, 9, 1, transposed), drawn(9, 9, 2, transposed)]
        operands[place][8, 3] = value
        with pytest.raises(NonFiniteError, match="addmm"):
            products.mm(*operands, ADAPTIVE, None, "addmm")
