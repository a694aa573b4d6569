"""The least escrow or deposit by which the best response is to be honest.

In a state with e credits in escrow and t tasks left, a fake that is found costs its task's pay, the escrow, the
deposit D, and what the worker would have earned afterwards and cannot earn any more (all of it, or the price of a new
key at most, or, where the first conviction suspends, the escrow - e credits that it owes at most). Honesty is a
best response if, with honest play to
follow, no single fake pays in any state (one-shot deviations suffice in a game that ends):

    hazard (D + (e + 1) reward + lost future) >= cost

The hardest state is e = 0 with nothing lost afterwards: D >= cost/hazard - reward suffices everywhere, and nothing
less does for who joins for the last task. For who is there from the start less may do; then the dynamic programme
decides, as it knows which states cheating leads to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import msgspec

from podlt.economics.response import MAX_STATES, TINY, BestResponse, Situation, Stakes, honest_margin


def deposit_for_all(stakes: Stakes, situations: Sequence[Situation]) -> int | None:
    """The least deposit, in whole credits, by which nobody cheats whenever it joins, whatever the escrow is.

    Returns:
        None: there is a situation in which no fake is ever found.
    """
    tempting = [each for each in situations if each.chance > 0 and each.cost > 0]
    if any(each.hazard < TINY for each in tempting):
        return None
    least = max((each.cost / each.hazard for each in tempting), default=0.0) - stakes.reward
    return max(0, math.ceil(least - TINY))


def deposit_from_the_start(stakes: Stakes, situations: Sequence[Situation], tasks: int) -> int | None:
    """The least deposit, in whole credits, by which a worker that is there for all tasks gains nothing.

    Args:
        stakes: its deposit is not looked at.
        situations: as the best response takes them.
        tasks: of the run.

    Returns:
        None: no deposit does it.
    """
    most = deposit_for_all(stakes, situations)

    @cache
    def enough(deposit: int) -> bool:
        return is_honest(msgspec.structs.replace(stakes, deposit=float(deposit)), situations, tasks)

    return None if most is None else _least(enough, most)


def escrow_from_the_start(stakes: Stakes, situations: Sequence[Situation], tasks: int) -> int | None:
    """The least escrow, in tasks, by which a worker that is there for all tasks gains nothing without a deposit.

    Args:
        stakes: its escrow and deposit are not looked at.
        situations: as the best response takes them.
        tasks: of the run; with a longer escrow than that nothing vests before its end.

    Returns:
        None: no escrow does it.
    """
    bare = msgspec.structs.replace(stakes, deposit=0.0)
    most = min(tasks, MAX_STATES // tasks)

    @cache
    def enough(escrow: int) -> bool:
        return is_honest(msgspec.structs.replace(bare, escrow=escrow), situations, tasks)

    reach = 8
    while reach < most and not enough(reach):  # a longer escrow is more to work out: from below
        reach *= 2
    reach = min(reach, most)
    return _least(enough, reach) if enough(reach) else None


def is_honest(stakes: Stakes, situations: Sequence[Situation], tasks: int) -> bool:
    """Whether the best response of a worker that is there for all tasks is to give no fake."""
    margin = honest_margin(stakes, situations)
    if margin >= 0 and not _honest_path_holds(stakes, situations, tasks, margin):
        return False
    least = stakes.deposit + stakes.reward
    if all(each.hazard * least >= each.cost - TINY for each in situations):
        return True
    return BestResponse(stakes, situations, tasks).work_out().gain() == 0


def _honest_path_holds(stakes: Stakes, situations: Sequence[Situation], tasks: int, margin: float) -> bool:
    """Whether no single fake pays in the states that an honest worker comes through: necessary, and quick."""
    tempting = [each for each in situations if each.chance > 0]
    for done in range(tasks):
        future = (tasks - done - 1) * margin
        lost = future if stakes.new_key is None else min(future, stakes.new_key)
        held = min(done, stakes.escrow)
        lost = min(lost, (stakes.escrow - held) * stakes.reward) if stakes.convictions > 1 else lost
        risk = stakes.deposit + (held + 1) * stakes.reward + lost
        if any(each.hazard * risk < each.cost - TINY for each in tempting):
            return False
    return True


def _least(enough: Callable[[int], bool], most: int) -> int:
    """The least number that is enough, by halving: what is enough stays so when there is more of it."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high
