"""The one way in which this package compiles: Numba without fast-math, so that no operation is reordered or fused.

Without fast-math LLVM neither reassociates floating-point additions nor contracts a product and a sum into a
fused multiply-add, for any processor: a kernel returns the bits that its source says. `exact_product_and` is for
where it makes no difference. Kernels work on one thread.
Compiled code is kept beside the source (or in NUMBA_CACHE_DIR); what changes in another module does not
invalidate it, which is why `conformance` is run by every worker that starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from podlt.exact.constants import Array

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Compile a loop at its first call, for this processor, and keep the result on disk."""
    return cast(F, numba.njit(cache=True, fastmath=False, error_model="numpy")(function))


def inlined(function: F) -> F:
    """Compile a scalar function into whoever calls it."""
    return cast(F, numba.njit(fastmath=False, error_model="numpy", inline="always")(function))


def scalar(function: F) -> F:
    """Compile a scalar function that LLVM inlines into the kernels that call it, so that their loops vectorise."""
    return cast(F, numba.njit(fastmath=False, error_model="numpy", forceinline=True)(function))


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@intrinsic
def exact_product_and(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Inside a kernel: a * b + c of float64, where a * b is exact: so it is rounded once, fused or not.

    A processor that has one instruction for both is given it. Of a product that is not exact the bits would depend on
    the processor.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.DoubleType()
        wanted = ir.FunctionType(kind, [kind] * 3)
        function = cgutils.get_or_insert_function(builder.module, wanted, "llvm.fmuladd.f64")  # type: ignore[no-untyped-call]
        return builder.call(function, arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@inlined
def array_at(address: int, count: int, dtype: Any) -> Array:
    """Inside a kernel: the values (count,) that lie at an address, for loops over any number of arrays."""
    found: Array = numba.carray(_pointer(address), count, dtype)  # type: ignore[attr-defined, call-arg]
    return found


@inlined
def place(array: Array) -> int:
    """Inside a kernel: where an array begins, as an address that whole numbers can be added to."""
    return np.int64(array.ctypes.data)  # type: ignore[return-value]
