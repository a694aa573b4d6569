"""From results to verdicts. Pure functions: who differs from whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec


class Judgement(msgspec.Struct, frozen=True):
    """What comparing a group's results gives without executing anything."""

    outcome: str
    accepted: bytes
    evicted: list[int]


def compare(results: Mapping[int, bytes], *, vote: bool) -> Judgement | None:
    """Compares the results of one fragment.

    Args:
        results: who answered -> digest of the update.
        vote: whether two of three outvote the third (the seed).

    Returns:
        The judgement, or None when comparing cannot name who is wrong and the manager must execute the task itself.
    """
    counts = Counter(results.values()).most_common()
    accepted, agreeing = counts[0]
    if len(counts) == 1:
        return Judgement("agree", accepted, [])
    if vote and len(results) == 3 and agreeing == 2:
        return Judgement("vote", accepted, differing(results, accepted))
    return None


def differing(results: Mapping[int, bytes], accepted: bytes) -> list[int]:
    """Who gave another result than the accepted one, ascending."""
    return sorted(worker for worker, result in results.items() if result != accepted)
