"""Chance that anyone can re-derive: draws from the manager's hash chain and the workers' own commitments.

`draw = H(the round's secret, beacon)`. The secret's chain was fixed before the first worker joined, so the manager
cannot choose it; the beacon folds in every worker's signature on joining and every salt that was revealed so far,
which only the workers knew, so the manager cannot foresee it when it makes its chain. Nothing that the manager may
write in two ways is in it (times, the order of joining, how commitments are grouped into entries): a manager that
could turn a knob until the draw suits it would choose the draw. See docs/adr/0003.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from podlt.crypto import digest
from podlt.dice import Dice


def mix_beacon(beacon: bytes, *parts: bytes) -> bytes:
    """The beacon after it took in what workers signed or revealed."""
    return digest("beacon/1", beacon, *parts)


class Roles(msgspec.Struct, frozen=True):
    """Who holds which task in a round, before anything is dealt again.

    Args:
        seats: worker -> fragment number; a worker without a seat has no task this round.
        checked: the fragment that more than one worker executes.
    """

    seats: dict[int, int]
    checked: int

    def group(self) -> list[int]:
        """The origins of the tasks that are compared, ascending."""
        return sorted(worker for worker, fragment in self.seats.items() if fragment == self.checked)


def deal(secret: bytes, beacon: bytes, workers: Sequence[int], fragments: int, spares: int) -> Roles:
    """The seed's round: the workers shuffled, a fragment each, and a random fragment to the spares as well.

    Args:
        workers: the active workers, in the order of their keys (their numbers are the manager's choice);
        fragments: how many there are; spares: how many repeat the drawn one.
    """
    dice = Dice(digest("draw/1", secret, beacon))
    order = dice.shuffle(workers)
    checked = dice.below(fragments)
    seats = {order[j]: j for j in range(fragments)}
    seats.update({worker: checked for worker in order[fragments : fragments + spares]})
    return Roles(seats, checked)


def deal_settlement(secret: bytes, beacon: bytes, workers: Sequence[int], fragments: int) -> Roles:
    """The closing check: one drawn fragment of the last block, executed by every worker that is still there."""
    checked = Dice(digest("draw/1", secret, beacon)).below(fragments)
    return Roles(dict.fromkeys(workers, checked), checked)


def deal_again(
    secret: bytes, roles: Roles, origin: int, holders: Mapping[int, int], able: Sequence[int], number: int
) -> int | None:
    """Who takes over a task whose holder is gone: one of the least loaded, drawn from the secret.

    A fixed choice would tell its neighbours who is checked, and a free one would let the manager choose who sits in
    judgement. So it is drawn, and checked when the secret is revealed.

    Args:
        origin: whose seat the task was dealt to; holders: origin -> holder, where it was dealt again before;
        able: the round's workers that are still active, ascending; number: how many tasks of this round were dealt
            again before this one.

    Returns:
        The new holder, or None when everybody who is left has this fragment already.
    """
    seats = roles.seats
    others = {holders.get(o, o) for o, fragment in seats.items() if fragment == seats[origin] and o != origin}
    free = [worker for worker in able if worker not in others]
    if not free:
        return None
    load = Counter(holders.get(o, o) for o in seats)
    fewest = min(load[worker] for worker in free)
    free = [worker for worker in free if load[worker] == fewest]
    return free[Dice(digest("redeal/1", secret, number.to_bytes(8, "big"))).below(len(free))]
