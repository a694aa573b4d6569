"""Which way of products a device takes: the fastest of those whose integers are right there, found once a process."""

from __future__ import annotations

import time
from functools import cache, partial
from typing import get_args

import torch
import triton

from podlt.exact.constants import FLOAT32_TERMS
from podlt.exact.samples import values
from podlt.exact.triton import products
from podlt.exact.triton.products import Way

Tensor = torch.Tensor
ROWS, SIZE, REPEATS = 48, 2048, 5
EXACT = "float64"
"""The way that needs no tensor core: it is taken where no other is right."""


def golden(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Operands of one digit, and their product: sums up to 2**24, each a float32, so that one that is off by 1 shows.

    Rows of digits 64 bring a float32 accumulator to its end; one odd product first, last or between is what is lost
    there first; the others are fixed words.
    """
    digits = (values(1, 2, ROWS, FLOAT32_TERMS).view(torch.int32) >> 9) % 65
    digits[:, :8] = 64
    for row, place in enumerate((0, FLOAT32_TERMS // 2, FLOAT32_TERMS - 1)):
        digits[0, row, place], digits[1, row, place] = 63, 61
    digits[:, 4:8, 1::2] *= -1
    digits[:, :, 5] = 64  # every row is cut at the same exponent
    given = torch.where(digits.abs() == 64, digits.sign() * 0.998, digits / 64.0).float()
    product = (digits[0].long() @ digits[1].long().T).float() / 4096.0
    return given[0].to(device), given[1].T.to(device), product


def is_right(way: Way, device: torch.device) -> bool:
    """Whether a way gives the golden product there; one that does not compile does not."""
    a, b, want = golden(device)
    try:
        with products.using(way):
            return torch.equal(products.mm(a, b, 1).cpu(), want)
    except (RuntimeError, ValueError, triton.CompilationError, triton.OutOfResources):
        return False


def seconds(way: Way, device: torch.device) -> float:
    """How long a product takes there: the fastest of some, waited for."""
    a, b = (values(key, SIZE, SIZE).to(device) for key in (2, 3))
    found = []
    with products.using(way):
        for _ in range(REPEATS):
            start = time.perf_counter()
            products.mm(a, b, 2)  # reads a flag from the device: it is done then
            found.append(time.perf_counter() - start)
    return min(found[1:])


@cache
def fastest(device: torch.device) -> Way:
    """The way of this device."""
    right = [way for way in get_args(Way) if way == EXACT or is_right(way, device)]
    return min(right, key=partial(seconds, device=device)) if device.type == "cuda" else right[0]
