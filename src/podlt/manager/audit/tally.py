"""Counting up what checking one claim comes to, and the finding that it makes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from podlt.protocol.claims import Claim, Finding, Outcome

MOST_NAMED = 3
"""How many faults a finding names; the others are counted."""


class Tally(msgspec.Struct):
    """What checking one claim has come to so far.

    Attributes:
        done: how many things were checked.
        faults: what fails, one sentence each.
        missing: why something could not be checked -> in which rounds.
    """

    done: int = 0
    faults: list[str] = []
    missing: dict[str, list[int]] = {}

    def miss(self, why: str, round: int) -> None:
        """Notes that something of a round could not be checked."""
        rounds = self.missing.setdefault(why, [])
        if not rounds or rounds[-1] != round:
            rounds.append(round)

    def finding(self, claim: Claim, figure: str, remedy: str = "") -> Finding:
        """The outcome: what fails comes before what is missing."""
        if self.faults:
            return Finding(claim, Outcome.FAILS, figure, sentences(self.faults))
        if self.missing:
            why = "; ".join(f"{why} ({rounds_text(rounds)})" for why, rounds in self.missing.items())
            return Finding(claim, Outcome.NOT_CHECKED, figure, why, remedy)
        return Finding(claim, Outcome.HOLDS, figure)


def sentences(faults: list[str]) -> str:
    """The first faults, and how many more there are."""
    more = len(faults) - MOST_NAMED
    return "; ".join(faults[:MOST_NAMED]) + (f"; and {more:,} more" if more > 0 else "")


def rounds_text(rounds: Iterable[int]) -> str:
    """Numbers of rounds for a person, neighbours joined: "rounds 0 to 3, 7"."""
    numbers = sorted(set(rounds))
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [f"{first}" if first == last else f"{first} to {last}" for first, last in runs[:12]]
    rest = ", ..." if len(runs) > 12 else ""
    return f"round{'s' * (len(numbers) != 1)} {', '.join(shown)}{rest}"
