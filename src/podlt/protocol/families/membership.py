"""Who works in a run: join and withdraw."""

from __future__ import annotations

from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.require import require
from podlt.protocol.roster import WorkerState
from podlt.protocol.round import RevealedRound
from podlt.protocol.shares import SHARES_EVERY
from podlt.protocol.state import RunFacts

AWAY = ("withdrawn", "suspended")
"""Who may join again."""

MOST_LEFT_BOUND = 10
"""How often, beyond the checks that it passed, a worker may leave a round in which it was committed to a result: a
manager could save an accomplice from being compared by it, so that it costs the task's pay, and so often the seat."""


def join(state: RunFacts, entry: e.Join) -> None:
    """A worker joins, or joins again."""
    require(state.current is None, Claim.PROGRESS, "a worker joins between rounds only")
    require(entry.seen <= state.index, Claim.SIGNATURES, "a head was seen before it was there", state.index)
    known = state.workers.get(entry.worker)
    if known is None:
        fresh = state.roster.number(entry.key) is None
        require(fresh, Claim.PROGRESS, "the key belongs to another worker")
        # Only a first joining counts for the draws: the manager could repeat a later one as often as it likes.
        state.joined.append(entry.share)
    else:
        out = known.status in AWAY and may_return(known)
        back = out and (known.key, known.operator) == (entry.key, entry.operator)
        require(back, Claim.PROGRESS, f"worker {entry.worker} cannot join again")
        new = entry.seen > known.joined
        require(new, Claim.SIGNATURES, f"worker {entry.worker} signed this before it joined last")
    room = state.room()
    require(entry.deposit <= room, Claim.PAYMENTS, "too large a deposit for an account", room, entry.deposit)
    state.roster.add(entry.worker, entry.key, entry.operator, state.index)
    state.refunded.discard(entry.worker)
    state.ledger.open(entry.worker)
    state.ledger.deposit(entry.worker, entry.deposit)


def may_return(worker: WorkerState) -> bool:
    """Whether a worker left no more rounds in which it was committed than it may."""
    return worker.left_bound < MOST_LEFT_BOUND + worker.checks_passed


def shares(state: RunFacts, entry: e.Shares) -> None:
    """Workers get other levels, from the round after the next on.

    The round between brings salts into the beacon that the manager does not know yet, so that it cannot choose levels
    by the draw that they give.
    """
    require(state.current is None, Claim.PROGRESS, "levels change between rounds only")
    require(not state.options.votes, Claim.PROGRESS, "in classic all workers have equal shares")
    require(entry.round == state.round, Claim.PROGRESS, "levels of another round", state.round, entry.round)
    require(state.may_share, Claim.PROGRESS, f"levels changed less than {SHARES_EVERY} rounds before", state.shared)
    numbers = [change.worker for change in entry.levels]
    require(bool(numbers) and numbers == sorted(set(numbers)), Claim.PROGRESS, "levels out of order")
    levels = {change.worker: change.level for change in entry.levels}
    for worker, level in levels.items():
        require(state.is_active(worker), Claim.PROGRESS, f"worker {worker} is not active")
        known = state.workers[worker].level
        fitting = level != known and level <= known + 1
        require(fitting, Claim.PROGRESS, f"worker {worker} cannot get this level", known, level)
    require(state.roster.is_usual(levels), Claim.PROGRESS, "more than half of the workers have a level below 0")
    state.pending_levels, state.shared = levels, entry.round


def withdraw(state: RunFacts, entry: e.Withdraw) -> None:
    """A worker is gone."""
    require(state.is_active(entry.worker), Claim.PROGRESS, "no such active worker")
    round = state.current
    revealed = isinstance(round, RevealedRound)
    require(not revealed, Claim.PROGRESS, "a worker withdraws before the reveal, or between rounds")
    state.leave(entry.worker)
    if round is None:
        state.roster.remove([entry.worker])
        return
    round.leave(entry.worker)
    state.workers[entry.worker].left_bound += entry.worker in round.bound
