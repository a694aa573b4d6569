"""A line of a run's rounds.jsonl: written by its manager, read by reports. No entry of the log binds it."""

from __future__ import annotations

import msgspec


class RoundFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of rounds.jsonl: seconds that a round took, and what was faked where cheats are simulated.

    Attributes:
        round: its number, from 0.
        seconds: from opening to payment.
        compute: seconds of executing tasks, summed over processes and threads.
        proof: seconds of hashes, signatures and comparisons, summed likewise.
        faked: who faked.
        applied: whose fake was applied.
        metrics: of the parameters after it, where they were evaluated and no entry of the log has them.
    """

    round: int
    seconds: float
    compute: float
    proof: float
    faked: list[int]
    applied: list[int]
    metrics: dict[str, float] = {}
