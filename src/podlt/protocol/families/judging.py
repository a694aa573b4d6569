"""The second half of a round: verdict, apply, pay; and release, between rounds."""

from __future__ import annotations

import math

from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.families.rounds import after_reveal
from podlt.protocol.require import require
from podlt.protocol.round import RevealedRound
from podlt.protocol.state import RunFacts
from podlt.protocol.verdict import Judgement, differing, judge


def verdict(state: RunFacts, entry: e.Verdict) -> None:
    """A shard is judged."""
    round = after_reveal(state, entry.round)
    require(not round.applied, Claim.PROGRESS, "the round's update was applied already")
    require(entry.shard < len(round.open.shards), Claim.VERDICTS, "no such shard")
    require(entry.shard not in round.verdicts, Claim.VERDICTS, "a second verdict on a shard")
    results = round.answers[entry.shard]
    if entry.reason == "suspect":
        due = Judgement("referee", "suspect", entry.accepted, differing(results, entry.accepted))
    else:
        require(entry.shard in round.to_judge, Claim.VERDICTS, "no verdict on the shard is due")
        own = entry.shard in round.own
        found = judge(results, vote=state.options.votes, own=own, executed=entry.accepted)
        assert found is not None, "with what the manager executed there is always a judgement"
        due = found
    said = Judgement(entry.outcome, entry.reason, entry.accepted, entry.convicted)
    require(said == due, Claim.VERDICTS, "another verdict than the results give", due, said)
    round.verdicts[entry.shard] = entry


def apply(state: RunFacts, entry: e.Apply) -> None:
    """The round's average is applied."""
    round = _judged(state, entry.round)
    require(not round.applied, Claim.PROGRESS, "no update is due")
    require(math.isfinite(entry.loss), Claim.PROGRESS, "the loss is not finite")
    parts = [(c.shard, c.part) for c in entry.clipped]
    fitting = parts == sorted(set(parts)) and all(shard < len(round.open.shards) for shard, _ in parts)
    require(fitting, Claim.PROGRESS, "what was clipped is not in order")
    require(state.options.clip > 0 or not parts, Claim.PROGRESS, "nothing is clipped in this run")
    round.applied = True
    state.parameters = entry.parameters


def pay(state: RunFacts, entry: e.Pay) -> None:
    """The round ends with what it pays."""
    round = _judged(state, entry.round)
    require(round.applied, Claim.PROGRESS, "the round's update is not applied")
    earned, owed = state.dues()
    require(entry.transfers == owed, Claim.PAYMENTS, "the round pays other than the rules owe", owed, entry.transfers)
    convicted = round.convicted()
    state.ledger.pay(entry.transfers, earned, convicted)
    for worker in round.passed():
        state.workers[worker].checks_passed += 1
    for worker in convicted:
        known = state.workers[worker]
        known.status = "evicted" if state.is_last_fault(worker) else "suspended"
        known.convictions, known.left = known.convictions + 1, state.round + 1
    state.roster.remove([*convicted, *round.departed])
    while state.leavers and state.leavers[0][0] + state.options.escrow <= state.round:
        state.leavers.popleft()
    for worker, level in state.pending_levels.items():
        state.roster.set_level(worker, level)
    state.pending_levels = {}
    state.current = None
    state.round += 1
    state.part_measured, state.steps = False, state.steps + 1
    state.offset += round.open.examples
    assert state.begin is not None
    if state.offset == state.begin.examples:
        state.epoch, state.offset = state.epoch + 1, 0


def release(state: RunFacts, entry: e.Release) -> None:
    """What waited is its owner's."""
    require(state.current is None, Claim.PROGRESS, "pay and deposits are released between rounds only")
    order = [(t.kind == "return", t.worker) for t in entry.transfers]
    known = bool(order) and order == sorted(set(order)) and all(worker in state.workers for _, worker in order)
    require(known, Claim.PAYMENTS, "pay and deposits are released to known workers, in order")
    for transfer in entry.transfers:
        worker, kind = transfer.worker, transfer.kind
        amount = state.vestable(worker) if kind == "vest" else state.returnable(worker)
        whole = kind in ("vest", "return") and transfer.amount == amount > 0
        require(whole, Claim.PAYMENTS, f"worker {worker} is given other than it may be", amount, transfer)
    state.ledger.post(entry.transfers)
    returned = (t.worker for t in entry.transfers if t.kind == "return")
    state.refunded.update(worker for worker in returned if state.is_active(worker))


def _judged(state: RunFacts, number: int) -> RevealedRound:
    round = after_reveal(state, number)
    missing = [shard for shard in round.due() if shard not in round.verdicts]
    require(not missing, Claim.VERDICTS, "the round's check has no verdict", [], missing)
    return round
