"""What training a run again came to."""

from __future__ import annotations

import msgspec

from podlt.errors import ExitCode
from podlt.protocol.claims import Finding, Outcome
from podlt.verify import Verification


class TensorDeviation(msgspec.Struct, frozen=True):
    """How far a tensor of the update is from the run's.

    Attributes:
        name: as the program has it, such as "grad:0.weight".
        largest: the largest absolute difference of a value; infinite where one of the two is not finite.
        size: the largest absolute value of the run's.
    """

    name: str
    largest: float
    size: float


class Difference(msgspec.Struct, frozen=True):
    """The first round in which the run is not what training again gives.

    Attributes:
        round: its number.
        entry: the number of the log's entry that says otherwise.
        what: what differs, for a person.
        shards: whose accepted results differ.
        causes: what it may come from, likeliest first.
        deviations: of the update's tensors, largest first, where the run's update is here.
    """

    round: int
    entry: int
    what: str
    shards: list[int]
    causes: list[str]
    deviations: list[TensorDeviation]


class FakedRound(msgspec.Struct, frozen=True):
    """A round with a known fake in it: its update was not made again, but taken from the run, where it is kept.

    Attributes:
        round: its number.
        entry: the number of the log's entry that applied it.
        workers: who gave the fake, each convicted by the log.
    """

    round: int
    entry: int
    workers: list[int]


class Reproduction(msgspec.Struct, frozen=True):
    """What training a run again came to.

    Attributes:
        verification: of the run.
        rounds: how many its log has that changed the parameters.
        same: how many of these were trained again, with the same update and the same parameters.
        start: where the first parameters come from, for a person.
        program: what capturing the recipe's model and loss again came to (claim PROGRAM); None if it was not reached.
        model: what comparing the trained model with the run's file came to, "" if it was not reached.
        faked: rounds with known fakes.
        difference: the first that is not the same, if any is.
        not_checked: why not all was trained again; "" if all was.
        notes: what a person should know besides.
    """

    verification: Verification
    rounds: int
    same: int = 0
    start: str = ""
    program: Finding | None = None
    model: str = ""
    faked: list[FakedRound] = []
    difference: Difference | None = None
    not_checked: str = ""
    notes: list[str] = []

    @property
    def exit_code(self) -> int:
        """0: the same model; 1: another; 4: nothing differs, but not all could be trained again."""
        other = self.program is not None and self.program.outcome is Outcome.FAILS
        if other or self.difference is not None or self.faked:
            return ExitCode.FAILS
        return ExitCode.NOT_CHECKED if self.not_checked else ExitCode.HOLDS
