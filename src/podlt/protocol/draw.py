"""Chance that anyone can re-derive: draws from the manager's hash chain and the workers' own commitments.

`draw = H(the round's secret, beacon)`. The secret's chain was fixed before the first worker joined, so the manager
cannot choose it; the beacon folds in every worker's signature on joining and every salt that was revealed so far,
which only the workers knew, so the manager cannot foresee it when it makes its chain. Nothing that the manager may
write in two ways is in it (times, the order of joining, how commitments are grouped into entries): a manager that
could turn a knob until the draw suits it would choose the draw. See docs/adr/0003.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from podlt.crypto import digest
from podlt.dice import Dice
from podlt.protocol.roster import Roster


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


def deal(secret: bytes, beacon: bytes, roster: Roster, fragments: int, spares: int) -> Roles:
    """The seed's round: a fragment each to drawn workers, and one of the fragments to the spares as well.

    Args:
        roster: its order is that of the keys (numbers are the manager's choice), as it was when the round opened.
        fragments: how many there are.
        spares: how many workers repeat the drawn one.
    """
    dice = Dice(digest("draw/1", secret, beacon))
    places = dice.sample(len(roster.order), fragments + spares)
    checked = dice.below(fragments)
    seats = {roster.at(place): min(j, fragments) for j, place in enumerate(places)}
    return Roles({worker: checked if j == fragments else j for worker, j in seats.items()}, checked)


def deal_settlement(secret: bytes, beacon: bytes, workers: Sequence[int], fragments: int) -> Roles:
    """The closing check: one drawn fragment of the last block, executed by every worker that is still there."""
    checked = Dice(digest("draw/1", secret, beacon)).below(fragments)
    return Roles(dict.fromkeys(workers, checked), checked)
