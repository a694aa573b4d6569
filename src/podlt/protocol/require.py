"""How a rule says that it was broken."""

from __future__ import annotations

from podlt.errors import InvalidProofError
from podlt.protocol.claims import Claim


def require(holds: bool, claim: Claim, message: str, expected: object = None, actual: object = None) -> None:
    """Holds an entry to a rule.

    Args:
        holds: whether it keeps to it.
        claim: the step of docs/SPEC.md that the rule belongs to.
        message: what is wrong if not.
        expected: what the rule asks for.
        actual: what the entry says.

    Raises:
        InvalidProofError: it does not.
    """
    if not holds:
        raise InvalidProofError(message, step=claim, expected=expected, actual=actual)
