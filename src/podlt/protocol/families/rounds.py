"""The first half of a round: open, redeal, commit, reveal."""

from __future__ import annotations

from podlt import crypto
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.draw import Roles, mix_beacon
from podlt.protocol.plan import Upcoming
from podlt.protocol.redeal import Redealer
from podlt.protocol.require import require
from podlt.protocol.round import Before, Copy, Left, RevealedRound, RoundState
from podlt.protocol.shares import slot_of, worker_of
from podlt.protocol.state import RunFacts


def open(state: RunFacts, entry: e.Open) -> None:
    """A round begins."""
    require(state.current is None, Claim.PROGRESS, "the round before is not paid")
    require(not state.measure_due, Claim.PROGRESS, "the figures of the epoch before are missing")
    require(entry.round == state.round, Claim.PROGRESS, "round out of order", state.round, entry.round)
    require(entry.attempt == state.resumes, Claim.PROGRESS, "another attempt", state.resumes, entry.attempt)
    due = state.upcoming()
    require(due is not None, Claim.PROGRESS, "a round after the last one")
    found = Upcoming(entry.epoch, entry.offset, entry.examples, len(entry.shards))
    require(found == due, Claim.PROGRESS, "the round takes other examples than the plan", due, found)
    same = entry.parameters == state.parameters
    require(same, Claim.PROGRESS, "the round starts from other parameters", state.parameters, entry.parameters)
    before = Before(state.index, state.at, state.beacon, state.joined, state.secret, len(state.leavers))
    beacon = mix_beacon(state.beacon, *sorted(state.joined))
    state.current = RoundState(entry, len(state.roster), state.roster.weights.total, beacon, before)


def redeal(state: RunFacts, entry: e.Redeal) -> None:
    """A task that was lost, or is late, is dealt again."""
    round = before_reveal(state, entry.round)
    require(_is_seat(state, round, entry.seat), Claim.PROGRESS, "no such task")
    holders = round.holders(entry.seat)
    late = state.options.backups and len(holders) == 1 and not round.is_committed(entry.seat)
    require(not holders or late, Claim.PROGRESS, f"the task of seat {entry.seat} is neither lost nor late")
    able = state.is_active(entry.holder) and entry.holder not in holders
    require(able, Claim.PROGRESS, f"worker {entry.holder} cannot take the task")
    round.deal_again(entry.seat, entry.holder)


def commit(state: RunFacts, entry: e.Commit) -> None:
    """Workers are bound to their results."""
    round = before_reveal(state, entry.round)
    copies = [(c.seat, c.holder) for c in entry.commitments]
    require(bool(copies) and copies == sorted(set(copies)), Claim.OPENINGS, "commitments out of order")
    for c in entry.commitments:
        fresh = _is_seat(state, round, c.seat) and (c.seat, c.holder) not in round.commitments
        require(fresh, Claim.OPENINGS, f"no commitment to the task of seat {c.seat} is due")
        holds = c.holder in round.holders(c.seat)
        require(holds, Claim.OPENINGS, f"worker {c.holder} does not hold the task of seat {c.seat}")
        round.commit(c)


def reveal(state: RunFacts, entry: e.Reveal) -> None:
    """The secret and all results are shown: now it is known who had which task."""
    round = before_reveal(state, entry.round)
    link = crypto.chain_link(entry.secret)
    require(link == state.secret, Claim.DRAWS, "the secret is not the chain's", state.secret, link)
    roles = state.roles(entry.secret)
    dealt, bound = sorted(roles.seats), sorted({seat for seat, _ in round.commitments})
    require(dealt == bound, Claim.DRAWS, "the commitments are not those of the tasks dealt", dealt, bound)
    _check_redealt(state, round, roles, entry.secret)
    opened, due = [(o.seat, o.holder) for o in entry.openings], sorted(round.commitments)
    require(opened == due, Claim.OPENINGS, "the openings are not those of the commitments", due, opened)
    results: dict[Copy, bytes] = {}
    for o in entry.openings:
        promised = round.commitments[o.seat, o.holder]
        key = state.workers[o.holder].key
        found = round.promise(state.task_digest(roles.seats[o.seat]), key, o.update, o.salt)
        message = f"worker {o.holder}'s commitment to the task of seat {o.seat} opens to something else"
        require(found == promised.commitment, Claim.OPENINGS, message, promised.commitment, found)
        results[o.seat, o.holder] = o.update
    state.current = round.revealed(roles, results)
    state.secret = entry.secret
    state.beacon, state.joined = mix_beacon(round.beacon, *(o.salt for o in entry.openings)), []


def _check_redealt(state: RunFacts, round: RoundState, roles: Roles, secret: bytes) -> None:
    """Whether each task was dealt again to whom the secret says."""
    replay = Redealer(secret, roles, state.roster)
    for move in round.moves:
        if isinstance(move, Left):
            replay.leave(move.worker)
            continue
        require(move.seat in roles.seats, Claim.DRAWS, "a task was dealt again that nobody had")
        drawn = replay.deal(move.seat)
        message = f"the task of seat {move.seat} was dealt again to another than was drawn"
        require(move.holder == drawn, Claim.DRAWS, message, drawn, move.holder)


def before_reveal(state: RunFacts, number: int) -> RoundState:
    """The round in progress, whose secret is not known."""
    round = in_progress(state, number)
    require(not isinstance(round, RevealedRound), Claim.PROGRESS, "the round was revealed already")
    return round


def after_reveal(state: RunFacts, number: int) -> RevealedRound:
    """The round in progress, whose secret is known."""
    round = in_progress(state, number)
    require(isinstance(round, RevealedRound), Claim.PROGRESS, "the round was not revealed yet")
    return state.revealed


def in_progress(state: RunFacts, number: int) -> RoundState:
    """The round in progress."""
    require(state.current is not None, Claim.PROGRESS, "no round is in progress")
    opened = state.in_progress.open.round
    require(opened == number, Claim.PROGRESS, "entry of another round", opened, number)
    return state.in_progress


def _is_seat(state: RunFacts, round: RoundState, seat: int) -> bool:
    """Whether there is such a seat: its worker was active when the round opened, as nobody joins within one."""
    worker = worker_of(seat)
    known = state.workers.get(worker)
    was_there = known is not None and (known.status == "active" or worker in round.departed)
    return was_there and slot_of(seat) < state.roster.weight(worker)
