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
from podlt.economics.seats import Seating
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
    kinds = kinds_of(options, assumed.workers, assumed.seats)
    found = detection_of(options, assumed)
    most = MAX_STATES // (options.escrow + 1)
    tasks = max(1, min(assumed.rounds, most))
    friends = assumed.members > 1
    cost = assumed.cost * options.reward
    return ProofPlan(
        options=options,
        assumed=assumed,
        cost=found.cost,
        spares_a_round=[(kind.spares, kind.chance) for kind in kinds],
        cheats=_cheats(found, options, assumed),
        unpunished=_unpunished(found, options, assumed),
        shared_work=assumed.rounds * assumed.seats / assumed.workers * found.paired_share * cost / 2,
        tasks_worked_out=tasks,
        incentives=[
            _incentive(who, each, stakes_of(options, assumed), max(1, min(each.tasks, most)))
            for who, each in players(options, assumed, kinds, found).items()
            if options.reward and (friends or who != COMPARING)
        ],
    )


def detection(
    options: ProofOptions,
    workers: int,
    members: int = 1,
    operators: int | None = None,
    seating: Seating | None = None,
) -> Detection:
    """What the proof finds.

    Args:
        options: of the proof.
        workers: how many there are.
        members: of the coalition.
        operators: how many there are; None if every worker is its own.
        seating: where workers have unequal numbers of seats: who has how many; else each has one.
    """
    if options.preset == "classic":
        return classic(workers, members)
    seats = None if seating is None else seating.total
    return guarded(kinds_of(options, workers, seats), members, operators, seating)


def detection_of(options: ProofOptions, assumed: Assumptions) -> Detection:
    """What the proof finds under these assumptions."""
    return detection(options, assumed.workers, max(1, assumed.members), assumed.operators, assumed.seating)


def kinds_of(options: ProofOptions, workers: int, seats: int | None = None) -> list[RoundKind]:
    """The rounds that the proof draws, by their number of spares.

    Args:
        options: of the proof.
        workers: how many there are.
        seats: tasks that are dealt a round; None for one each.

    Raises:
        UsageError: too few workers for the proof.
    """
    if options.preset == "classic":
        if workers < 3:
            raise UsageError(f"classic: expected at least 3 workers, got {workers}")
        return [RoundKind(1.0, workers, 2, 0.0)]
    count = workers if seats is None else seats
    most = None if options.own_most is None else options.own_most * (count // workers)
    return round_kinds(count, options.checked, options.own, most, least_spares=int(options.checked > 0))


def stakes_of(options: ProofOptions, assumed: Assumptions) -> Stakes:
    """What a worker has to win and to lose."""
    return Stakes(
        reward=float(options.reward),
        escrow=options.escrow,
        deposit=float(options.deposit),
        convictions=options.convictions,
        new_key=assumed.new_key if assumed.keys == "free" else None,
    )


class Tempted(msgspec.Struct, frozen=True):
    """A cheater, by what it can tell of a task before it executes it.

    Attributes:
        situations: that it can tell apart.
        tasks: that it has in the run, if it is there from the start.
    """

    situations: list[Situation]
    tasks: int


LONE = "alone"
COMPARING = "in a coalition that compares shards"


def players(
    options: ProofOptions, assumed: Assumptions, kinds: Sequence[RoundKind], found: Detection
) -> dict[str, Tempted]:
    """Cheaters, in a few words each. Of unequal machines a lone one of the slowest and one of the fastest.

    Friends who hold the same shard may execute it once, which halves what a true result costs them: only what a
    fake saves beyond that tempts them. How many spares a round has is known to all: so a lone cheater may wait for the
    rounds with the fewest. Who has several tasks a round is taken to give them one after another.
    """
    cost, rounds = assumed.cost * options.reward, assumed.rounds
    paired, each = found.paired_share, assumed.seats / assumed.workers
    friends = [Situation(1 - paired, found.comparing, cost), Situation(paired, found.paired, cost / 2)]
    if options.preset == "classic":
        return {LONE: Tempted([Situation(1.0, found.lone, cost)], rounds), COMPARING: Tempted(friends, rounds)}
    loners = {
        who: Tempted([Situation(kind.chance, kind.found(pairing), cost) for kind in kinds], rounds * seats)
        for who, seats, pairing in _loners(assumed)
    }
    return {**loners, COMPARING: Tempted(friends, round(rounds * each))}


def _loners(assumed: Assumptions) -> list[tuple[str, int, float]]:
    """Lone cheaters: in words, with how many seats, and how often they are compared beside the mean."""
    seating = assumed.seating
    if seating is None:
        return [(LONE, 1, 1.0)]
    ends = sorted({*seating.friends, *seating.others})[:: max(1, len({*seating.friends, *seating.others}) - 1)]
    return [(f"{LONE}, {seats} of {seating.total:,} seats", seats, seating.alone(seats).pairing) for seats in ends]


def _unpunished(found: Detection, options: ProofOptions, assumed: Assumptions) -> Unpunished:
    seen = detection_of(msgspec.structs.replace(options, own=0.0), assumed).everything
    return Unpunished(found.paired_a_round, found.paired_share, found.paired, found.framed_a_round, 1 - seen)


def _cheats(found: Detection, options: ProofOptions, assumed: Assumptions) -> list[Cheat]:
    members, rounds, each = assumed.members, assumed.rounds, assumed.seats / assumed.workers
    if options.preset == "classic" or assumed.seating is None:
        cheats = [_cheat("a lone cheater", found.lone, 1.0, rounds, options.convictions)]
    else:
        kinds = kinds_of(options, assumed.workers, assumed.seats)
        hazards = [(who, n, sum(kind.chance * kind.found(c) for kind in kinds)) for who, n, c in _loners(assumed)]
        cheats = [_cheat(f"a cheater {who}", hazard, n, rounds, options.convictions) for who, n, hazard in hazards]
    if members > 1:
        who = f"a coalition of {members} that "
        shards = found.paired_a_round
        cheats += [
            _cheat(f"{who}fakes everything alike", found.everything, each, rounds, options.convictions),
            _cheat(f"{who}fakes what no friend holds", found.comparing, each, rounds, options.convictions),
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


def _incentive(who: str, tempted: Tempted, stakes: Stakes, tasks: int) -> Incentive:
    situations = tempted.situations
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
