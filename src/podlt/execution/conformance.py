"""Whether this machine computes as all others do: run by whoever starts, before any task."""

from __future__ import annotations

import msgspec

from podlt.crypto import digest
from podlt.errors import EngineError
from podlt.exact.portable.devices import CPU
from podlt.program.operations import EXACT_ARITHMETIC


class Conformance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a machine computes. Empty where the arithmetic is PyTorch's own, which promises nothing between machines.

    Attributes:
        digest: over the golden vectors as it computes them, hex.
        differing: the first that differs, or nothing.
    """

    digest: str = ""
    differing: str = ""

    def require(self, who: str) -> None:
        """Returns only if all is as it must be.

        Raises:
            EngineError: names the first operation that differs.
        """
        if self.differing:
            raise EngineError(
                f"{who} computes {self.differing!r} otherwise than the golden vectors say (its digest is "
                f"{self.digest[:16]}...): it would be taken for a cheater; see `podlt conformance`"
            )


def conformance(arithmetic: str, device: str = CPU) -> Conformance:
    """Recomputes the golden vectors, if the arithmetic has any; compiles what was not compiled before.

    Args:
        arithmetic: a program's.
        device: that computes, as `exact.portable.devices` names it.

    Raises:
        UsageError: no such device here.
    """
    if arithmetic not in EXACT_ARITHMETIC:
        return Conformance()
    from podlt.exact.conformance import check  # brings a compiler along: only who needs it waits for it

    report = check(device)
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
