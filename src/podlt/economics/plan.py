"""The plan of a run: what its proof costs, what it finds and when, and what cheating gains."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from podlt.economics.deterrence import deposit_for_all, deposit_from_the_start, escrow_from_the_start
from podlt.economics.formulas import (
    Detection,
    ProofCost,
    RoundKind,
    caught_within,
    classic,
    fakes_applied,
    guarded,
    round_kinds,
    tasks_until,
)
from podlt.economics.options import Assumptions, ProofOptions, check_assumptions
from podlt.economics.response import MAX_STATES, BestResponse, Situation, Stakes
from podlt.errors import UsageError

CERTAIN = 0.999


class Cheat(msgspec.Struct, frozen=True):
    """How long one way of cheating goes on.

    Attributes:
        who: in a few words.
        hazard: the chance of a conviction for each fake.
        tasks: fakes until a conviction has come with 99.9 %, or None for never.
        rounds: the same in rounds, as often as a round gives the chance to cheat so.
        caught: the chance of a conviction within the run.
        applied: fakes that are applied in the run, in the mean: of one cheater, before it is evicted; of a coalition's
            shared shards, by all of its members together, before the first conviction.
    """

    who: str
    hazard: float
    tasks: int | None
    rounds: int | None
    caught: float
    applied: float


class Unpunished(msgspec.Struct, frozen=True):
    """What the coalition may fake with no honest worker to see it.

    Attributes:
        shards_a_round: in how many shards friends hold all seats (classic: the most), in the mean.
        share_of_tasks: of each member's tasks.
        hazard: of a fake there: the manager's own seat.
        framed_a_round: honest workers that the coalition convicts by outvoting them.
        with_manager: the share of the coalition's tasks that no stranger executes: what it may fake with a manager on
            its side, which knows the draw, until somebody audits.
    """

    shards_a_round: float
    share_of_tasks: float
    hazard: float
    framed_a_round: float
    with_manager: float


class Incentive(msgspec.Struct, frozen=True):
    """What the best response gains for a worker, in credits.

    Attributes:
        who: in a few words.
        honest: what true results alone gain in the run.
        best: what the best response gains.
        gain: the difference.
        fakes: how many fakes it gives, in the mean.
        late_gain: the most that cheating adds for a worker that joins later.
        late_tasks: with how many tasks left that is.
        escrow: the least escrow that makes `gain` 0 without a deposit, or None if none does.
        deposit: the least deposit that makes `gain` 0 at this escrow, or None if none does.
        deposit_for_all: the least deposit that makes `late_gain` 0 as well, or None if none does.
    """

    who: str
    honest: float
    best: float
    gain: float
    fakes: float
    late_gain: float
    late_tasks: int
    escrow: int | None
    deposit: int | None
    deposit_for_all: int | None


class ProofPlan(msgspec.Struct, frozen=True):
    """A plan, as `podlt plan --json` prints it.

    Attributes:
        options: of the proof.
        assumed: of the run and its workers.
        cost: for each task that a worker executes.
        spares_a_round: numbers of spares with their chances.
        cheats: ways to cheat.
        unpunished: what friends may do with the shards that they hold alone.
        shared_work: what a coalition saves, in credits a member, by executing such shards once: true, paid twice.
        tasks_worked_out: the tasks that the dynamic programme looked at: all of a run's, but for very long ones.
        incentives: what cheating gains; none where nothing is paid.
    """

    options: ProofOptions
    assumed: Assumptions
    cost: ProofCost
    spares_a_round: list[tuple[int, float]]
    cheats: list[Cheat]
    unpunished: Unpunished
    shared_work: float
    tasks_worked_out: int
    incentives: list[Incentive]


def make_plan(options: ProofOptions, assumed: Assumptions) -> ProofPlan:
    """Works a plan out.

    Raises:
        UsageError: no run could do that.
    """
    check_assumptions(assumed)
    kinds = kinds_of(options, assumed.workers)
    found = detection(options, assumed.workers, max(1, assumed.members), assumed.operators)
    tasks = max(1, min(assumed.rounds, MAX_STATES // (options.escrow + 1)))
    friends = assumed.members > 1
    cost = assumed.cost * options.reward
    return ProofPlan(
        options=options,
        assumed=assumed,
        cost=found.cost,
        spares_a_round=[(kind.spares, kind.chance) for kind in kinds],
        cheats=_cheats(found, options, assumed),
        unpunished=_unpunished(found, options, assumed),
        shared_work=assumed.rounds * found.paired_share * cost / 2,
        tasks_worked_out=tasks,
        incentives=[
            _incentive(who, situations, stakes_of(options, assumed), tasks)
            for who, situations in players(options, assumed, kinds, found).items()
            if options.reward and (friends or who != COMPARING)
        ],
    )


def detection(options: ProofOptions, workers: int, members: int = 1, operators: int | None = None) -> Detection:
    """What the proof finds.

    Args:
        options: of the proof.
        workers: each has a task a round.
        members: of the coalition.
        operators: how many there are; None if every worker is its own.
    """
    if options.preset == "classic":
        return classic(workers, members)
    return guarded(kinds_of(options, workers), members, operators)


def kinds_of(options: ProofOptions, workers: int) -> list[RoundKind]:
    """The rounds that the proof draws, by their number of spares.

    Raises:
        UsageError: too few workers for the proof.
    """
    if options.preset == "classic":
        if workers < 3:
            raise UsageError(f"classic: expected at least 3 workers, got {workers}")
        return [RoundKind(1.0, workers, 2, 0.0)]
    return round_kinds(workers, options.checked, options.own, options.own_most, least_spares=int(options.checked > 0))


def stakes_of(options: ProofOptions, assumed: Assumptions) -> Stakes:
    """What a worker has to win and to lose."""
    return Stakes(
        reward=float(options.reward),
        escrow=options.escrow,
        deposit=float(options.deposit),
        convictions=options.convictions,
        new_key=assumed.new_key if assumed.keys == "free" else None,
    )


LONE = "alone"
COMPARING = "in a coalition that compares shards"


def players(
    options: ProofOptions, assumed: Assumptions, kinds: Sequence[RoundKind], found: Detection
) -> dict[str, list[Situation]]:
    """Cheaters, by what they can tell of a task before they execute it.

    Friends who hold the same shard may execute it once, which halves what a true result costs them: only what a
    fake saves beyond that tempts them. How many spares a round has is known to all: so a lone cheater may wait for the
    rounds with the fewest.
    """
    cost = assumed.cost * options.reward
    paired = found.paired_share
    return {
        LONE: [Situation(kind.chance, kind.hazard, cost) for kind in kinds]
        if options.preset == "guarded"
        else [Situation(1.0, found.lone, cost)],
        COMPARING: [Situation(1 - paired, found.comparing, cost), Situation(paired, found.paired, cost / 2)],
    }


def _unpunished(found: Detection, options: ProofOptions, assumed: Assumptions) -> Unpunished:
    blind = msgspec.structs.replace(options, own=0.0)
    seen = detection(blind, assumed.workers, max(1, assumed.members), assumed.operators).everything
    return Unpunished(found.paired_a_round, found.paired_share, found.paired, found.framed_a_round, 1 - seen)


def _cheats(found: Detection, options: ProofOptions, assumed: Assumptions) -> list[Cheat]:
    members, rounds = assumed.members, assumed.rounds
    cheats = [_cheat("a lone cheater", found.lone, 1.0, rounds, options.convictions)]
    if members > 1:
        who = f"a coalition of {members} that "
        shards = found.paired_a_round
        cheats += [
            _cheat(f"{who}fakes everything alike", found.everything, 1.0, rounds, options.convictions),
            _cheat(f"{who}fakes what no friend holds", found.comparing, 1.0, rounds, options.convictions),
            _cheat(f"{who}fakes what only friends hold", found.paired, shards, rounds, 1),
        ]
    return cheats


def _cheat(who: str, hazard: float, chances_a_round: float, rounds: int, convictions: int) -> Cheat:
    tasks, fakes = tasks_until(hazard, CERTAIN), rounds * chances_a_round
    return Cheat(
        who=who,
        hazard=hazard,
        tasks=tasks,
        rounds=None if tasks is None or not chances_a_round else math.ceil(tasks / chances_a_round),
        caught=caught_within(hazard, fakes),
        applied=fakes_applied(hazard, round(fakes), convictions),
    )


def _incentive(who: str, situations: list[Situation], stakes: Stakes, tasks: int) -> Incentive:
    best = BestResponse(stakes, situations, tasks).work_out()
    late_gain, late_tasks = max((best.gain(left), left) for left in range(1, tasks + 1))
    return Incentive(
        who=who,
        honest=best.honest(tasks),
        best=best.values[tasks],
        gain=best.gain(),
        fakes=best.fakes[tasks],
        late_gain=late_gain,
        late_tasks=late_tasks,
        escrow=escrow_from_the_start(stakes, situations, tasks),
        deposit=deposit_from_the_start(stakes, situations, tasks),
        deposit_for_all=deposit_for_all(stakes, situations),
    )
