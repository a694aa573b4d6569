"""Loops of the CPU for products, the first of an order, sums at places and powers: the bits of what they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from podlt.errors import DivergedError
from podlt.exact.aten.table import aten_table
from podlt.exact.cpu.backend import backend, table
from podlt.exact.cpu.power import power
from podlt.exact.cpu.scalars import power as scalar_power
from podlt.exact.cpu.scans import MOST_IN_ORDER

COMPOSED, LOOPS = aten_table(backend(2)), table(2)
EDGES = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -0.5, 1e-45, -1e-45, 3e38, -2.5, 64.0, 65.0, 1e-30, float("inf")]


def values(*shape: int) -> torch.Tensor:
    """Ordinary values, of which many are equal, and zeros of both signs."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
    return torch.where(x.abs() < 0.3, torch.copysign(torch.zeros(()), x), torch.round(x * 4) / 4)


def bits(x: torch.Tensor) -> bytes:
    """Of the values, with one NaN."""
    return torch.where(torch.isnan(x), torch.nan, x).numpy().tobytes()


def same(name: str, *arguments: Any) -> None:
    """Both tables return the same bits."""
    found, wanted = LOOPS[name](*arguments), COMPOSED[name](*arguments)
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (found, wanted)), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.is_contiguous()
        assert a.numpy().tobytes() == b.contiguous().numpy().tobytes(), name


@pytest.mark.parametrize("shape", [(7,), (9, 5), (3, 6, 4), (5, 1)])
@pytest.mark.parametrize("dim", [0, -1])
def test_products_have_the_order_that_is_written(shape: tuple[int, ...], dim: int) -> None:
    x = values(*shape) + 0.7
    same("cumprod.default", x, dim)
    same("cumprod.default", (x * 3).long(), dim)
    same("cumprod.default", x.flip(0).movedim(0, -1), dim)
    same("prod.default", x)
    same("prod.default", (x * 3).long())


@pytest.mark.parametrize("count", [1025, 2048, 2049, 3 * 1024 + 7, 5 * 1024, 9000])
def test_a_long_product_has_the_same_order(count: int) -> None:
    x = torch.rand(count, generator=torch.Generator().manual_seed(count)) * 2.0 + 0.2
    same("prod.default", x)
    same("prod.default", (x * 100).long() * 2 + 1)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(("shape", "k"), [((40,), 3), ((4, 33), 33), ((6, 5), 2), ((3, 70, 2), 17), ((2, 300), 299)])
def test_the_first_of_an_order_are_those_of_a_stable_sort(shape: tuple[int, ...], k: int, largest: bool) -> None:
    assert k <= MOST_IN_ORDER or k == 299  # which is left to the sort
    for x in (values(*shape), values(*shape).sort(-1)[0], values(*shape).sort(-1, descending=True)[0]):
        for dim in range(x.ndim):
            same("topk.default", x, min(k, x.shape[dim]), dim, largest)
    same("topk.default", (values(*shape) * 4).long(), 1, 0, largest)


@pytest.mark.parametrize("place", [0, 5, 16, 29])
def test_a_nan_has_no_order_wherever_it_stands(place: int) -> None:
    x = torch.arange(30.0, 0.0, -1.0)
    x[place] = float("nan")
    with pytest.raises(DivergedError, match="topk"):
        LOOPS["topk.default"](x, 2)


def test_sums_at_places_of_lines_are_those_of_rows() -> None:
    x, source = values(4, 6, 3), values(4, 9, 3)
    for dim, count in ((1, 9), (0, 4), (2, 3)):
        index = torch.randint(0, x.shape[dim], (4, count if dim == 1 else 6, 3))
        same("scatter_add.default", x, dim, index, source[:, : index.shape[1]])
    same("scatter_add.default", x, 1, torch.randint(0, 6, (2, 5, 3)), source)  # of fewer lines
    same("scatter_add.default", x.long(), 1, torch.randint(0, 6, (4, 5, 3)), source.long())


def test_sums_at_places_refuse_what_is_not_finite_and_places_outside() -> None:
    x, index = torch.zeros(2, 3), torch.tensor([[0, 1], [2, 0]])
    with pytest.raises(DivergedError, match="scatter_add"):
        LOOPS["scatter_add.default"](x, 1, index, torch.tensor([[1.0, float("inf")], [0.0, 0.0]]))
    for wrong in (3, -1):
        index[1, 1] = wrong
        with pytest.raises((IndexError, RuntimeError)):
            LOOPS["scatter_add.default"](x, 1, index, torch.ones(2, 2))


def test_powers_in_loops_have_the_bits_of_one_after_the_other() -> None:
    random = np.random.default_rng(3)
    drawn = random.integers(0, 2**32, 600, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near = np.exp(random.normal(0, 5, 600)).astype(np.float32)
    x = np.concatenate([np.repeat(np.float32(EDGES), len(EDGES)), drawn, near])
    y = np.concatenate([np.tile(np.float32(EDGES), len(EDGES)), drawn[::-1], near[::-1] - np.float32(3)])
    with np.errstate(all="ignore"):
        wanted = np.array([np.float32(scalar_power(np.float64(a), np.float64(b))) for a, b in zip(x, y, strict=True)])
    base, exponents = torch.from_numpy(x), torch.from_numpy(y)
    assert bits(power(base, exponents)) == bits(torch.from_numpy(wanted))
    for number in [*EDGES, 0.7, -3.3, float("-inf"), float("nan")]:
        assert bits(power(base, number)) == bits(power(base, torch.full_like(base, number)))
