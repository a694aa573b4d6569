"""Numbers as people read them, the same in every sentence that podlt says."""

from __future__ import annotations


def counted(number: int, noun: str, nouns: str = "") -> str:
    """So many things: `1 round`, `1,000 rounds`.

    Args:
        number: how many.
        noun: one of them.
        nouns: several, where that is not `noun` and an s.
    """
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
