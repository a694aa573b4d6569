"""From results to verdicts. Pure functions: who differs from whom, and when the manager must execute a task itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

import msgspec

Outcome = Literal["agree", "vote", "referee"]
Reason = Literal["compared", "own", "differ", "suspect"]


class Judgement(msgspec.Struct, frozen=True):
    """What a verdict must say."""

    outcome: Outcome
    reason: Reason
    accepted: bytes
    convicted: list[int]


def judge(results: Mapping[int, bytes], *, vote: bool, own: bool, executed: bytes | None) -> Judgement | None:
    """The judgement on a shard.

    Args:
        results: who answered -> digest of the update.
        vote: whether two of three outvote the third (the seed).
        own: whether the manager was to execute the shard, whatever the results are.
        executed: the digest that it found, if it executed the shard.

    Returns:
        The judgement, or None where the manager must execute the task first.
    """
    counts = Counter(results.values()).most_common()
    accepted, agreeing = counts[0]
    if len(counts) == 1 and (not own or executed == accepted):
        return Judgement("agree", "own" if own else "compared", accepted, [])
    if len(counts) > 1 and vote and len(results) == 3 and agreeing == 2:
        return Judgement("vote", "compared", accepted, differing(results, accepted))
    if executed is None:
        return None
    return Judgement("referee", "differ" if len(counts) > 1 else "own", executed, differing(results, executed))


def differing(results: Mapping[int, bytes], accepted: bytes) -> list[int]:
    """Who gave another result than the accepted one, ascending."""
    return sorted(worker for worker, result in results.items() if result != accepted)
