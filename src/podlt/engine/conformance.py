"""Whether this machine computes as all others do: run by whoever starts, before any task."""

from __future__ import annotations

import msgspec

from podlt.errors import EngineError
from podlt.program.operations import EXACT_ARITHMETIC


class Conformance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a machine says of its arithmetic.

    Attributes:
        digest: over the golden vectors as it computes them, hex; differing: the first that differs, or nothing.
            Both are empty where the arithmetic is PyTorch's own, which promises nothing between machines.
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


def conformance(arithmetic: str) -> Conformance:
    """Recomputes the golden vectors, if the arithmetic has any; compiles what was not compiled before.

    Args:
        arithmetic: a program's.
    """
    if arithmetic not in EXACT_ARITHMETIC:
        return Conformance()
    from podlt.exact.conformance import check  # brings a compiler along: only who needs it waits for it

    report = check()
    return Conformance(report.digest, report.differing or "")
