"""Whether this machine computes as all others do: run by whoever starts, before any task."""

from __future__ import annotations

from collections.abc import Callable

from podlt.crypto import digest
from podlt.exact.portable.devices import CPU
from podlt.execution.setup import Conformance
from podlt.program.operations import EXACT_ARITHMETIC


def conformance(
    arithmetic: str, device: str = CPU, progress: Callable[[int, int], object] = lambda done, total: None
) -> Conformance:
    """Recomputes the golden vectors, if the arithmetic has any; compiles what was not compiled before.

    Args:
        arithmetic: a program's.
        device: that computes, as `exact.portable.devices` names it.
        progress: hears how many golden vectors are done, and of how many.

    Raises:
        UsageError: no such device here.
    """
    if arithmetic not in EXACT_ARITHMETIC:
        return Conformance()
    from podlt.exact.conformance import check  # brings a compiler along: only who needs it waits for it

    report = check(device, progress)
    return Conformance(report.digest, report.differing or "")


def arithmetic_digest(arithmetic: str) -> bytes:
    """What a log says of the arithmetic that its run is computed with: 32 bytes, the same on every machine.

    Of exact arithmetic it is over the golden vectors, so that a program that defines an operation otherwise has
    another; PyTorch's own promises nothing between versions, and has one digest.

    Args:
        arithmetic: a program's.
    """
    if arithmetic not in EXACT_ARITHMETIC:
        return digest("arithmetic/1", arithmetic.encode())
    from podlt.exact.conformance import total, vectors

    return digest("arithmetic/1", arithmetic.encode(), bytes.fromhex(total(vectors())))
