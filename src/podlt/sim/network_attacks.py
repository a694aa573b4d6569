"""The attacks that the arena plays over a simulated network, a row each, and what is to come of each."""

from __future__ import annotations

from typing import Literal

import msgspec

from podlt.sim import adversaries as a
from podlt.sim import strategies as s
from podlt.sim import vices as v
from podlt.sim.attacks import Formula
from podlt.sim.players import Player

Outcome = Literal["caught", "let go", "shut out", "harmless", "rescued"]
"""Convicted; withdrawn, without fraud; refused for good, without fraud; none of these, and nothing false is applied. Or
fakes are applied, nobody is convicted, and `verify` counts withdrawals after a commitment."""


class NetworkAttack(msgspec.Struct, frozen=True, kw_only=True):
    """One row.

    Attributes:
        name: for the command line.
        what: in a few words.
        expected: what is to come of it.
        player: finds the results.
        vice: what its process does to its messages.
        formula: the hazard of a fake, by its name in `economics.formulas.Detection`; "" where none applies.
        rescue: whether the manager lets its accomplices go in each round that would compare them.
        alone: whether one worker attacks, instead of a quarter of them.
    """

    name: str
    what: str
    expected: Outcome
    player: type[Player] = Player
    vice: type[v.Vice] = v.Vice
    formula: Formula = ""
    rescue: bool = False
    alone: bool = False


def _false(name: str, what: str, player: type[Player], formula: Formula = "lone") -> NetworkAttack:
    return NetworkAttack(name=name, what=what, expected="caught", player=player, formula=formula)


def _bent(name: str, what: str, expected: Outcome, vice: type[v.Vice]) -> NetworkAttack:
    return NetworkAttack(name=name, what=what, expected=expected, vice=vice)


NETWORK_ATTACKS = {
    row.name: row
    for row in (
        NetworkAttack(name="nobody", what="nobody attacks", expected="harmless"),
        _false("zeros", "gives zeros", a.Always),
        _false("selective", "fakes one task of ten", a.Selective),
        _false("sleeper", "honest until its escrow is full", s.Sleeper),
        _false("newcomer", "fakes while at most 3 tasks are in escrow", s.Newcomer),
        _false("end-game", "fakes in its last `escrow` tasks", s.EndGame),
        _false("leaver", "fakes 8 tasks, and leaves the session", s.Leaver),
        _false("sybil", "fakes; convicted, it connects under a new key", s.Sybil),
        NetworkAttack(
            name="rational", what="does what pays most, with one key", expected="harmless", player=s.Rational
        ),
        _false("coalition", "friends give the same fake", a.Coalition, "everything"),
        _false("comparing", "friends fake where no friend has the shard", s.Comparing, "comparing"),
        _false("copycat", "gives what others showed a round before", a.Copycat, ""),
        NetworkAttack(
            name="fast-fakes",
            what="fakes at once, to be dealt a larger share",
            expected="caught",
            player=a.Always,
            vice=v.AtOnce,
        ),
        _bent("no-answer", "withholds its commitment, one task of three", "let go", v.NoAnswer),
        _bent("no-opening", "withholds its opening, one round of three", "let go", v.NoOpening),
        NetworkAttack(
            name="last-moment",
            what="answers just before its task is dealt again",
            expected="let go",
            vice=v.LastMoment,
            alone=True,
        ),
        _bent("false-opening", "opens another update than it is bound to", "let go", v.FalselyOpened),
        _bent("other-upload", "sends another update than it commits to", "let go", v.OtherUpload),
        _bent("two-answers", "commits to the truth and to a fake", "harmless", v.TwoAnswers),
        _bent("two-openings", "opens truly, and then falsely", "harmless", v.TwoOpenings),
        _bent("old-commitment", "sends its first commitment for each task", "let go", v.OldCommitment),
        _bent("old-messages", "sends its answers of earlier rounds again", "harmless", v.OldMessages),
        _bent("other-name", "answers and opens in others' names as well", "harmless", v.OtherName),
        _bent("thief", "signs a commitment that it overheard", "let go", v.StolenCommitment),
        _bent("false-failure", "says that its task failed, one of three", "let go", v.FalseFailure),
        _bent("restarting", "dies with its task in hand, one round of three", "let go", v.Restarting),
        _bent("join-again", "sends its signed joining with each answer", "harmless", v.JoinAgain),
        _bent("flood", "sends 1,900 useless messages a round", "harmless", v.Flood),
        _bent("larger-flood", "sends 2,100", "shut out", v.LargerFlood),
        _bent("greedy", "asks for all receipts and the setup, 50 times a round", "harmless", v.Greedy),
        _bent("false-seconds", "says that its tasks took nothing, or days", "harmless", v.FalseSeconds),
        NetworkAttack(
            name="rescue",
            what="a lying manager withdraws who would be compared",
            expected="rescued",
            player=s.Accomplice,
            rescue=True,
        ),
    )
}
"""By name."""
