"""What the arena must come to under `guarded`, and in which rows it does: holds, cannot be told yet, or fails."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

Verdict = Literal["holds", "open", "fails"]

LOST = 0.5
"""Points of accuracy that an attack may cost the model, beside the run that nobody attacks."""

NOTHING = 0.2
"""Tasks' rewards that a best response may seem to gain by the chance of who is paid a task more or less."""

_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Quantiles of Student's t at 97.5 %, from one degree of freedom on."""


class Estimate(msgspec.Struct, frozen=True):
    """A mean over seeds.

    Attributes:
        mean: of them.
        within: half of the 95 % interval (Student's t); infinite with one seed.
    """

    mean: float
    within: float

    def below(self, limit: float) -> Verdict:
        """Whether what is measured is at most so much."""
        if self.mean + self.within <= limit:
            return "holds"
        return "fails" if self.mean - self.within > limit else "open"


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of values of as many seeds, with its interval."""
    freedom = len(values) - 1
    if freedom < 1:
        return Estimate(values[0], math.inf)
    # Beyond the table: the expansion of the quantile in 1/freedom is below 0.001 off.
    t = _T[freedom - 1] if freedom <= len(_T) else 1.959964 + 2.372273 / freedom + 2.8225 / freedom**2
    return Estimate(statistics.fmean(values), t * statistics.stdev(values) / math.sqrt(len(values)))


class GateRow(msgspec.Struct, frozen=True):
    """What the gates ask of a row.

    Attributes:
        attack: by its name.
        honest_convicted: in all runs together.
        inside: whether the rate of convictions lies in the formula's interval; None where there is none.
        gain: of a cheater over an honest worker, in tasks' rewards.
        withheld: credits of honest workers that are not theirs at the end, in all runs together.
        lost: points of accuracy against the run that nobody attacks.
    """

    attack: str
    honest_convicted: int
    inside: bool | None
    gain: float
    withheld: int
    lost: Estimate


class Gate(msgspec.Struct, frozen=True):
    """What must hold.

    Attributes:
        what: in words.
        found: whether it does in a row; None where the row has no say.
    """

    what: str
    found: Callable[[GateRow], Verdict | None]


def _is(holds: bool) -> Verdict:
    return "holds" if holds else "fails"


def _inside(row: GateRow) -> Verdict | None:
    return None if row.inside is None else _is(row.inside)


def _best(row: GateRow) -> Verdict | None:
    return _is(row.gain <= NOTHING) if row.attack.startswith("rational") else None


GATES = (
    Gate("no honest worker is convicted", lambda row: _is(row.honest_convicted == 0)),
    Gate("fakes are found as often as the formula says (95 % interval)", _inside),
    Gate("the best response gains nothing over honesty", _best),
    Gate("no pay or deposit of honest workers is withheld at the end", lambda row: _is(row.withheld == 0)),
    Gate(f"the model ends within {LOST} points of the run that nobody attacks", lambda row: row.lost.below(LOST)),
)


def gate_table(rows: Sequence[GateRow]) -> list[tuple[str, dict[Verdict, list[str]]]]:
    """Each gate, and the rows in which it holds, is open, and fails."""
    table = []
    for gate in GATES:
        found: dict[Verdict, list[str]] = {"holds": [], "open": [], "fails": []}
        for row in rows:
            if (verdict := gate.found(row)) is not None:
                found[verdict].append(row.attack)
        table.append((gate.what, found))
    return table
