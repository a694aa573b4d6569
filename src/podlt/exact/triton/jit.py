"""The one way in which this package compiles and launches."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import triton

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
"""Whether Triton's interpreter runs the kernels, on the CPU: decided when Triton is imported."""

OPTIONS = {"enable_fp_fusion": False}
"""Of every launch: a product and a sum are two roundings."""


def kernel(function: Callable[..., Any]) -> Any:
    """A kernel, or what kernels call."""
    return triton.jit(function)


def launch(compiled: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a kernel over a grid; nothing where the grid is empty."""
    if all(grid):
        compiled[grid](*arguments, **constants, **OPTIONS)


def power_of_two(n: int) -> int:
    """The least power of two from `n` on, and at least 1."""
    return 1 << max(n - 1, 0).bit_length()
