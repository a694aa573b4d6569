"""The attacks of the arena, a row each: who attacks, with which fakes, and the formula of how often one is found."""

from __future__ import annotations

from typing import Literal

import msgspec

from podlt.sim import adversaries as a
from podlt.sim import strategies as s
from podlt.sim.players import Crashing, Player, Silent

Formula = Literal["", "lone", "everything", "comparing", "paired"]


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """One row.

    Attributes:
        name: for the command line.
        what: in a few words.
        player: the class that plays it.
        kind: of the fakes.
        formula: the hazard of a fake, by its name in `economics.formulas.Detection`; "" where none applies.
        rate: how often the player does what it is named for; None for its own.
        deposit: that everybody brings, in tasks' rewards.
        work: what a fake costs, in true results.
        alone: whether one worker attacks, instead of a share of them.
        rescue: whether the manager lets its accomplices go in each round that would compare them.
    """

    name: str
    what: str
    player: type[Player]
    kind: str = "zeros"
    formula: Formula = ""
    rate: float | None = None
    deposit: int = 0
    work: float = 0.0
    alone: bool = False
    rescue: bool = False


def _rows(*rows: Attack) -> dict[str, Attack]:
    return {row.name: row for row in rows}


def _lone(name: str, what: str, player: type[Player], kind: str, rate: float | None = None, work: float = 0) -> Attack:
    return Attack(name=name, what=what, player=player, kind=kind, formula="lone", rate=rate, work=work)


NOBODY = "nobody"

ATTACKS = _rows(
    Attack(name=NOBODY, what="nobody attacks", player=Player),
    _lone("zeros", "gives zeros", a.Always, "zeros"),
    _lone("random", "gives noise of an honest size", a.Always, "random"),
    _lone("stale", "gives an update of the round before", a.Always, "stale"),
    _lone("half", "works on half of its examples", a.Always, "half", work=0.5),
    _lone("rounded", "works in lower precision (8 bits)", a.Always, "rounded", work=0.5),
    _lone("negative", "gives the update with its sign turned", a.Always, "negative"),
    # No formula for the large ones: the manager looks at outliers, and finds them all at once.
    Attack(name="thousand", what="the same, 1,000 times as large", player=a.Always, kind="thousand"),
    Attack(name="under-clip", what="the same, just too small to be clipped", player=a.Always, kind="under-clip"),
    Attack(name="1e30", what="one worker gives 1e30 in every value, once", player=s.Once, kind="1e30", alone=True),
    Attack(name="1e30-each", what="each gives 1e30 in every value, once", player=s.Once, kind="1e30"),
    _lone("little", "stays within the honest spread, against the mean", a.Always, "little"),
    _lone("selective", "turns the sign in one task of ten", a.Selective, "negative", 0.1),
    _lone("sleeper", "honest until its escrow is full, then zeros", s.Sleeper, "zeros"),
    _lone("newcomer", "fakes while at most 3 tasks are in escrow", s.Newcomer, "zeros"),
    _lone("end-game", "fakes in its last `escrow` tasks", s.EndGame, "zeros"),
    _lone("leaver", "fakes 8 tasks, leaves, and returns once paid", s.Leaver, "zeros"),
    _lone("sybil", "fakes; convicted, it is back under a new key", s.Sybil, "zeros"),
    _lone("rational", "does what pays most, with one key", s.Rational, "zeros"),
    _lone("rational-keys", "does what pays most, with free keys", s.FreeKeys, "zeros"),
    Attack(
        name="rational-deposit",
        what="the same, with a deposit of 11 tasks",
        player=s.FreeKeys,
        formula="lone",
        deposit=11,
    ),
    Attack(
        name="coalition", what="friends give the same fake", player=a.Coalition, kind="little", formula="everything"
    ),
    Attack(
        name="comparing",
        what="friends fake where no friend has the shard",
        player=s.Comparing,
        kind="little",
        formula="comparing",
    ),
    Attack(
        name="pairs",
        what="friends fake where they hold two seats",
        player=a.Majority,
        kind="negative",
        formula="paired",
    ),
    Attack(name="copycat", what="gives what others showed a round before", player=a.Copycat, formula="everything"),
    Attack(name="thief", what="signs a commitment that it overheard", player=a.Thief),
    Attack(name="false-opening", what="opens another update than it is bound to", player=a.FalseOpening),
    Attack(name="equivocator", what="uploads another update than it opens", player=a.Equivocator),
    Attack(name="double-answer", what="commits twice to a task", player=a.DoubleAnswer),
    Attack(name="replayer", what="sends an earlier commitment again", player=a.Replayer),
    Attack(name="forger", what="answers in another's name", player=a.Forger),
    Attack(name="silent", what="no fraud: answers nothing, 1 task of 20", player=Silent),
    Attack(name="crashing", what="no fraud: dies once it is bound, 1 of 20", player=Crashing),
    Attack(name="late", what="no fraud: answers after its backup, 1 of 5", player=s.Late),
    Attack(
        name="rescue",
        what="a lying manager withdraws who would be compared",
        player=s.Accomplice,
        kind="zeros",
        rescue=True,
    ),
)
