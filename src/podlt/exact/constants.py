"""The few numbers on which the whole arithmetic rests, and the one way in which it refuses.

Definitions and backends share these numbers and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from podlt.errors import DivergedError

Array = np.ndarray[Any, np.dtype[Any]]
"""A NumPy array; shape and dtype are in the docstring of whoever takes it."""

DIGIT_BITS = 7
"""A digit is an integer in [-64, 64]: int8 products of such digits do not saturate on any instruction set."""

MAX_DIGITS = 3
"""With three digits a row's largest value keeps 20 bits; the float32 tricks below hold up to 22."""

ADAPTIVE = 0
"""The number of digits that stands for: two, or four for each row of which two would lose too much."""

NARROW_DIGITS, WIDE_DIGITS = 2, 4
"""The numbers of digits that a row decides between."""

LOSS_BITS = 8
"""Two digits may lose 2**-8 of a row's sum of magnitudes: as much as bfloat16 may lose of any value."""

LEAST_EXPONENT = -100
"""Rows that are smaller than 2**-100 are cut as if they were that large: every scale is then a normal float32."""

INT32_TERMS = 2**19 - 1
"""So many products of two digits (each <= 2**12) sum to less than 2**31."""

FLOAT32_TERMS = 2**12
"""So many products of two digits sum to at most 2**24: every partial sum is an exact float32."""

FLOAT64_TERMS = 2**41
"""So many products of two digits sum to at most 2**53."""

SUM_BITS = 50
"""A sum's terms keep at most so many bits below the largest: they fit the 52-bit trick of `cpu.kernels.sums`."""

ACCUMULATOR_BITS = 62
"""A sum's accumulator, in bits, without its sign."""


class NonFiniteError(DivergedError):
    """A sum or a product was asked of infinities or NaNs: refused alike on every machine.

    Args:
        operation: the operation that refused, as programs name it.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(f"{operation}: expected finite values, got an infinity or a NaN")
        self.operation = operation


class NanError(DivergedError):
    """An operation that orders values was given a NaN: refused alike on every machine.

    Args:
        operation: the operation that refused, as programs name it.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(f"{operation}: expected values that can be ordered, got a NaN")
        self.operation = operation


def sum_bits(n: int) -> int:
    """How many bits below 2**e the terms of a sum of `n` values keep, where max|x| < 2**e.

    `n` terms of so many bits cannot overflow the accumulator.
    """
    return min(SUM_BITS, ACCUMULATOR_BITS - (n - 1).bit_length()) if n > 1 else SUM_BITS
