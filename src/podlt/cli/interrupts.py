"""What is left of a command that was interrupted, and how to begin again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

READING = frozenset(
    f"podlt {name}"
    for name in (
        *("verify", "audit", "reproduce", "show", "ledger", "head", "receipts", "plan", "simulate", "arena", "bench"),
        *("conformance", "doctor", "data describe", "recipe list", "recipe show", "workers list", "witness list"),
    )
)
"""Commands that change nothing."""

LONGEST = 300
"""Characters of a command that is repeated to whoever gave it."""


def what_is_left(command: str, argv: Sequence[str]) -> str:
    """What a command that keeps no books of its own leaves behind when it is interrupted.

    Args:
        command: its name, such as "podlt verify".
        argv: the arguments after the program's name.
    """
    again = shlex.join(["podlt", *argv])
    again = f": {again}" if len(again) <= LONGEST and again.isprintable() else ", by the same command"
    left = "nothing was changed" if command in READING else "nothing that was there was changed, and no file is half"
    return f"{left}; begin again{again}"
