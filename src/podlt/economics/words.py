"""A plan in words: the line that a run begins with, and what to set where cheating pays."""

from __future__ import annotations

from podlt.economics.formulas import CLASSIC_SPARES, caught_within, tasks_until
from podlt.economics.options import ProofOptions
from podlt.economics.plan import ProofPlan, detection
from podlt.economics.seats import Seating
from podlt.words import counted

DEAR = 0.1
"""A cost that a run's first line explains."""


def one_line(workers: int, options: ProofOptions, rounds: int, seating: Seating | None = None) -> str:
    """What the proof of a run costs and finds, in one line: printed before the run starts.

    Args:
        workers: how many there are.
        options: of the proof.
        rounds: of the run.
        seating: where they have unequal numbers of tasks a round: who has how many.
    """
    found = detection(options, workers, seating=seating)
    parts = [f"proof: {options.preset}, costs {found.cost.total:.1%}", _caught(found.lone, rounds)]
    if options.preset == "classic":
        if found.cost.total > DEAR:
            parts.append(f"with {workers} workers {CLASSIC_SPARES} of {workers} tasks repeat another")
        parts.append("two friends in a group of three outvote the third")
    elif found.cost.total > DEAR:
        parts.append(f"{found.cost.spares:.0%} of the tasks repeat another, the manager executes {found.cost.own:.0%}")
    if options.preset == "guarded" and not found.paired:
        parts.append("own = 0: a fake by friends who hold a shard alone is never caught")
    return "; ".join(parts)


def _caught(hazard: float, rounds: int) -> str:
    tasks = tasks_until(hazard)
    if tasks is None:
        return "a fake is never caught"
    text = f"a fake is caught with {hazard:.1%} a task, 99.9% within {counted(tasks, 'task')}"
    return text if tasks <= rounds else f"{text}, {_share(caught_within(hazard, rounds))} within this run's {rounds:,}"


def _share(chance: float) -> str:
    """A chance below 99.9 %, in percent: 99.8 % are not 100 %."""
    return f"{chance:.1%}" if chance > 0.99 else f"{chance:.0%}"


def advice(plan: ProofPlan) -> list[str]:
    """Whether honesty is the best response, and if not, what makes it so: a sentence each."""
    if not plan.options.reward:
        return ["nothing is paid: work is given away, and nothing but a deposit can be lost"]
    if any(each.honest <= 0 for each in plan.incentives):
        return ["work costs at least what it pays: nobody has a reason to work honestly"]
    sentences = [_from_the_start(plan)]
    late = [each for each in plan.incentives if each.late_gain > 0]
    if late:
        worst = max(late, key=lambda each: each.late_gain)
        sentences.append(
            f"who joins late has less to lose ({worst.who}: {worst.late_gain:,.1f} credits with {worst.late_tasks:,} "
            f"tasks left): {_deposit([each.deposit_for_all for each in late])} that"
        )
    return sentences


def _from_the_start(plan: ProofPlan) -> str:
    stakes = f"with escrow {plan.options.escrow:,} and deposit {plan.options.deposit:,}"
    gaining = [each for each in plan.incentives if each.gain]
    if not gaining:
        return f"{stakes} honesty is the best response of whoever is there from the start"
    worst = max(gaining, key=lambda each: each.gain)
    escrows = [each.escrow for each in gaining if each.escrow is not None]
    escrow = f"so does an escrow of {max(escrows):,} without one" if len(escrows) == len(gaining) else "no escrow does"
    return (
        f"{stakes} cheating pays ({worst.who}: {worst.gain:,.1f} credits over {worst.honest:,.1f}): "
        f"{_deposit([each.deposit for each in gaining])} that; {escrow}"
    )


def _deposit(amounts: list[int | None]) -> str:
    known = [amount for amount in amounts if amount is not None]
    return f"a deposit of {max(known):,} ends" if len(known) == len(amounts) else "no deposit ends"
