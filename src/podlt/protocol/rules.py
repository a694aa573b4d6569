"""The rule book: `RunState.apply` is the only code that says what may happen next in a run.

The manager proposes an entry and applies it before it writes it; the verifier applies it again from the log; a page
or a command that shows a run is a fold over the same entries. Signatures are checked apart from it (`signatures.py`),
as they can be checked in any order and in parallel. Each `require` names the step of docs/SPEC.md that it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from podlt import crypto
from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.draw import Roles, mix_beacon
from podlt.protocol.plan import SETTLEMENT_ROUNDS, SETTLEMENT_WORKERS, Upcoming, most_rounds
from podlt.protocol.redeal import Redealer
from podlt.protocol.round import Before, Left, Redealt, RevealedRound, RoundState
from podlt.protocol.state import RunFacts, most_paid
from podlt.protocol.verdict import compare, differing
from podlt.units import MAX_INT

MAX_ROUNDS = 2**40
"""As many as a `Round` can number."""


class RunState(RunFacts):
    """A run after some prefix of its log, and the one way to go on."""

    # -- what may happen next ----------------------------------------------------------------------------------------

    def apply(self, entry: e.Entry) -> None:
        """Makes the state what it is after `entry`.

        Raises:
            InvalidProofError: the rules do not allow it; the state must not be used any further.
        """
        try:
            self._require(entry.at >= self.at, Claim.PROGRESS, "the clock went back", self.at, entry.at)
            if self.begin is None:
                self._require(isinstance(entry, e.Begin), Claim.PROGRESS, "the first entry must be begin")
            if self.closed is not None:
                goes_on = isinstance(entry, e.Resume if self.closed.outcome == "stopped" else e.Amend)
                self._require(goes_on, Claim.OUTCOME, "the run was closed")
            _HANDLERS[type(entry)](self, entry)
        except InvalidProofError as error:
            raise InvalidProofError(
                error.reason, entry=self.index, step=error.step, expected=error.expected, actual=error.actual
            ) from None
        self.at = entry.at
        self.index += 1

    def _apply_begin(self, entry: e.Begin) -> None:
        self._require(self.begin is None, Claim.PROGRESS, "a second begin")
        self._require(min(entry.lines, entry.epochs, entry.block_lines) > 0, Claim.PROGRESS, "a run without lines")
        self._require(entry.spares == 2, Claim.PROGRESS, "classic has two spares", 2, entry.spares)
        steps = entry.local_steps == 1 and entry.local_lr is None
        several = entry.local_steps > 1 and entry.local_lr is not None and 0 < entry.local_lr < math.inf
        self._require(steps or several, Claim.PROGRESS, "local_steps and local_lr do not fit")
        rounds = most_rounds(entry.lines, entry.epochs, entry.block_lines, entry.fragment_lines) + SETTLEMENT_ROUNDS
        self._require(rounds <= MAX_ROUNDS, Claim.PROGRESS, "more rounds than can be numbered", MAX_ROUNDS, rounds)
        self._require(entry.chain_length >= rounds, Claim.DRAWS, "the chain is too short", rounds, entry.chain_length)
        most = most_paid(entry, entry.epochs)
        self._require(most <= MAX_INT, Claim.PAYMENTS, "more pay than an account can hold", MAX_INT, most)
        self.begin, self.run = entry, e.identity(entry)
        self.epochs = self.payable = entry.epochs
        self.parameters, self.secret = entry.parameters, entry.chain_end
        self.beacon = mix_beacon(self.run)

    def _apply_join(self, entry: e.Join) -> None:
        self._require(self.current is None, Claim.PROGRESS, "a worker joins between rounds only")
        self._require(entry.seen <= self.index, Claim.SIGNATURES, "a head was seen before it was there", self.index)
        known = self.workers.get(entry.worker)
        if known is None:
            fresh = self.roster.number(entry.key) is None
            self._require(fresh, Claim.PROGRESS, "the key belongs to another worker")
            # Only a first joining counts for the draws: the manager could repeat a later one as often as it likes.
            self.joined.append(entry.share)
        else:
            back = known.status == "withdrawn" and known.key == entry.key
            self._require(back, Claim.PROGRESS, f"worker {entry.worker} cannot join again")
            new = entry.seen > known.joined
            self._require(new, Claim.SIGNATURES, f"worker {entry.worker} signed this before it joined last")
        room = self.room()
        self._require(entry.deposit <= room, Claim.PAYMENTS, "too large a deposit for an account", room, entry.deposit)
        self.roster.add(entry.worker, entry.key, self.index)
        self.refunded.discard(entry.worker)
        self.ledger.open(entry.worker)
        self.ledger.deposit(entry.worker, entry.deposit)

    def _apply_withdraw(self, entry: e.Withdraw) -> None:
        self._require(self.is_active(entry.worker), Claim.PROGRESS, "no such active worker")
        round = self.current
        revealed = isinstance(round, RevealedRound)
        self._require(not revealed, Claim.PROGRESS, "a worker withdraws before the reveal, or between rounds")
        self.workers[entry.worker].status = "withdrawn"
        if round is None:
            self.roster.remove([entry.worker])
            return
        round.moves.append(Left(entry.worker))
        round.departed.add(entry.worker)
        if round.open.purpose == "settle":
            round.commitments.pop(entry.worker, None)

    def _apply_open(self, entry: e.Open) -> None:
        self._require(self.current is None, Claim.PROGRESS, "the round before is not paid")
        self._require(not self.measure_due, Claim.PROGRESS, "the figures of the epoch before are missing")
        self._require(entry.round == self.round, Claim.PROGRESS, "round out of order", self.round, entry.round)
        expected = self.upcoming()
        self._require(expected is not None, Claim.PROGRESS, "a round after the last one")
        found = Upcoming(entry.purpose, entry.epoch, entry.offset, entry.lines, len(entry.fragments))
        self._require(found == expected, Claim.PROGRESS, "the round takes other lines than the plan", expected, found)
        self._require(
            entry.parameters == self.parameters,
            Claim.PROGRESS,
            "the round starts from other parameters",
            self.parameters,
            entry.parameters,
        )
        if entry.purpose == "settle":
            assert self.last_open is not None
            same = entry.fragments == self.last_open.fragments
            self._require(same, Claim.PROGRESS, "the settlement has other fragments than the last round")
        before = Before(self.index, self.at, self.beacon, self.joined, self.secret)
        beacon = mix_beacon(self.beacon, *sorted(self.joined))
        self.current = RoundState(entry, len(self.roster.order), beacon, before)

    def _apply_redeal(self, entry: e.Redeal) -> None:
        round = self._round_before_reveal(entry.round)
        task = self._in_round(round, entry.seat) and round.open.purpose == "train"
        self._require(task, Claim.PROGRESS, "no such task")
        previous = round.holder(entry.seat)
        lost = self.workers[previous].status == "withdrawn"
        self._require(lost, Claim.PROGRESS, f"worker {previous} still holds the task")
        able = self.is_active(entry.holder)
        self._require(able, Claim.PROGRESS, f"worker {entry.holder} cannot take the task")
        round.moves.append(Redealt(entry.seat, entry.holder))
        round.holders[entry.seat] = entry.holder
        round.commitments.pop(entry.seat, None)

    def _apply_commit(self, entry: e.Commit) -> None:
        round = self._round_before_reveal(entry.round)
        origins = [c.seat for c in entry.commitments]
        self._require(bool(origins) and origins == sorted(set(origins)), Claim.OPENINGS, "commitments out of order")
        for c in entry.commitments:
            fresh = self._in_round(round, c.seat) and c.seat not in round.commitments
            self._require(fresh, Claim.OPENINGS, f"no commitment to the task of worker {c.seat} is due")
            holds = c.holder == round.holder(c.seat) and self.workers[c.holder].status == "active"
            self._require(holds, Claim.OPENINGS, f"worker {c.holder} does not hold the task of worker {c.seat}")
            round.commitments[c.seat] = c
            round.bound.add(c.holder)

    def _apply_reveal(self, entry: e.Reveal) -> None:
        round = self._round_before_reveal(entry.round)
        link = crypto.chain_link(entry.secret)
        self._require(link == self.secret, Claim.DRAWS, "the secret is not the chain's", self.secret, link)
        roles = self.roles(entry.secret)
        dealt = sorted(roles.seats)
        self._require(
            dealt == sorted(round.commitments),
            Claim.DRAWS,
            "the commitments are not those of the tasks dealt",
            dealt,
            sorted(round.commitments),
        )
        self._check_redealt(round, roles, entry.secret)
        opened = [o.seat for o in entry.openings]
        self._require(opened == dealt, Claim.OPENINGS, "the openings are not those of the tasks dealt", dealt, opened)
        results: dict[int, bytes] = {}
        for o in entry.openings:
            promised = round.commitments[o.seat]
            key = self.workers[promised.holder].key
            found = crypto.commitment(self.task_digest(roles.seats[o.seat]), key, o.update, o.salt)
            self._require(
                found == promised.commitment,
                Claim.OPENINGS,
                f"the commitment to the task of worker {o.seat} opens to something else",
                promised.commitment,
                found,
            )
            results[o.seat] = o.update
        self.current = round.revealed(roles, results)
        self.secret = entry.secret
        self.beacon, self.joined = mix_beacon(round.beacon, *(o.salt for o in entry.openings)), []

    def _check_redealt(self, round: RoundState, roles: Roles, secret: bytes) -> None:
        """What can be said of the tasks that were dealt again only once the secret is known."""
        if round.holders:
            replay = Redealer(secret, roles, self.roster)
            for move in round.moves:
                if isinstance(move, Left):
                    replay.leave(move.worker)
                    continue
                self._require(move.seat in roles.seats, Claim.DRAWS, "a task was dealt again that nobody had")
                drawn = replay.deal(move.seat)
                message = f"the task of worker {move.seat} was dealt again to another than was drawn"
                self._require(move.holder == drawn, Claim.DRAWS, message, drawn, move.holder)
        if round.departed:
            gone = sorted(h for h in {round.holder(seat) for seat in roles.seats} if not self.is_active(h))
            self._require(not gone, Claim.DRAWS, "tasks of workers that withdrew were not dealt again", [], gone)
        if round.open.purpose == "settle":
            enough = len(roles.seats) >= SETTLEMENT_WORKERS
            self._require(enough, Claim.DRAWS, "too few workers are left to compare", SETTLEMENT_WORKERS)

    def _apply_verdict(self, entry: e.Verdict) -> None:
        round = self._round_after_reveal(entry.round)
        self._require(not round.applied, Claim.PROGRESS, "the round's update was applied already")
        self._require(entry.fragment < len(round.open.fragments), Claim.VERDICTS, "no such fragment")
        self._require(entry.fragment not in round.verdicts, Claim.VERDICTS, "a second verdict on a fragment")
        results = round.fragment_results(entry.fragment)
        is_group = entry.fragment == round.roles.checked
        compared = compare(results, vote=round.open.purpose == "train") if is_group else None
        if entry.outcome == "referee":
            due = entry.reason == "non-finite" or (is_group and compared is None and entry.reason == "no-majority")
            self._require(due, Claim.VERDICTS, "no referee is called for")
            evicted = differing(results, entry.accepted)
        else:
            self._require(
                compared is not None and entry.reason == "compared", Claim.VERDICTS, "the results name nobody"
            )
            assert compared is not None
            self._require(
                entry.outcome == compared.outcome,
                Claim.VERDICTS,
                "another outcome than the results'",
                compared.outcome,
                entry.outcome,
            )
            self._require(
                entry.accepted == compared.accepted,
                Claim.VERDICTS,
                "another result than the accepted one",
                compared.accepted,
                entry.accepted,
            )
            evicted = compared.evicted
        self._require(
            entry.evicted == evicted, Claim.VERDICTS, "the verdict evicts the wrong workers", evicted, entry.evicted
        )
        round.verdicts[entry.fragment] = entry

    def _apply_apply(self, entry: e.Apply) -> None:
        round = self._judged_round(entry.round)
        once = round.open.purpose == "train" and not round.applied
        self._require(once, Claim.PROGRESS, "no update is due")
        self._require(math.isfinite(entry.loss), Claim.PROGRESS, "the loss is not finite")
        round.applied = True
        self.parameters = entry.parameters

    def _apply_measure(self, entry: e.Measure) -> None:
        self._require(self.current is None, Claim.PROGRESS, "figures are logged between rounds only")
        self._require(self.measure_due, Claim.PROGRESS, "no figures are due")
        self._require(entry.epoch == self.measured, Claim.PROGRESS, "figures of another epoch", self.measured)
        known = (self._begin.test, self.parameters)
        found = (entry.test, entry.parameters)
        self._require(found == known, Claim.PROGRESS, "figures of another test set, or of other parameters")
        names = [figure.name for figure in entry.figures]
        self._require(names == sorted(set(names)), Claim.PROGRESS, "the figures are not in order")
        finite = all(math.isfinite(figure.value) for figure in entry.figures)
        self._require(finite, Claim.PROGRESS, "a figure is not finite")
        self.last_measure = entry
        if self.measured < self.epoch:
            self.measured += 1
        else:
            self.part_measured = True

    def _apply_pay(self, entry: e.Pay) -> None:
        round = self._judged_round(entry.round)
        opened = round.open
        self._require(round.applied or opened.purpose == "settle", Claim.PROGRESS, "the round's update is not applied")
        owed = self.owed()
        self._require(
            entry.transfers == owed, Claim.PAYMENTS, "the round pays other than the rules owe", owed, entry.transfers
        )
        for worker in round.passed():
            self.workers[worker].checks_passed += 1
        for worker in round.evicted():
            self.workers[worker].status = "evicted"
        self.roster.remove([*round.evicted(), *round.departed])
        self.ledger.post(entry.transfers)
        self._note_compared(round)
        self.last_open, self.current = opened, None
        self.round += 1
        self.settled = opened.purpose == "settle"
        if self.settled:
            return
        self.part_measured, self.steps = False, self.steps + 1
        self.offset += opened.lines
        if self.offset == self._begin.lines:
            self.epoch, self.offset = self.epoch + 1, 0

    def _apply_return(self, entry: e.Return) -> None:
        self._require(self.current is None, Claim.PROGRESS, "deposits are returned between rounds only")
        workers = [t.worker for t in entry.transfers]
        known = bool(workers) and workers == sorted(set(workers)) and all(w in self.workers for w in workers)
        self._require(known, Claim.PAYMENTS, "deposits are returned to known workers, in order")
        due = [e.Transfer("return", worker, self.returnable(worker)) for worker in workers]
        whole = entry.transfers == due and all(t.amount for t in due)
        self._require(whole, Claim.PAYMENTS, "another deposit is returned than may be", due, entry.transfers)
        self.ledger.post(entry.transfers)
        self.refunded.update(worker for worker in workers if self.is_active(worker))

    def _apply_amend(self, entry: e.Amend) -> None:
        self._require(self.current is None, Claim.PROGRESS, "terms are amended between rounds only")
        left = entry.epochs - self.epoch
        self._require(left >= 0, Claim.PROGRESS, "more epochs are done than there are to be", self.epoch, entry.epochs)
        self._require(left > 0 or self.closed is None, Claim.OUTCOME, "a complete run is amended to train no more")
        begin = self._begin
        rounds = most_rounds(begin.lines, left, begin.block_lines, begin.fragment_lines) + SETTLEMENT_ROUNDS
        rounds += self.round
        self._require(rounds <= MAX_ROUNDS, Claim.PROGRESS, "more rounds than can be numbered", MAX_ROUNDS, rounds)
        self._require(entry.is_table, Claim.TERMS, "optimizer: not a document", None, entry.optimizer)
        self.payable += entry.epochs + 1
        self._require(self.room() >= 0, Claim.PAYMENTS, "more pay than an account can hold")
        if left:
            # Nobody had to wait for more: whoever goes on brings its deposit, and signs a head over this entry.
            leaving = [number for number in self.active() if self.closed is not None or number in self.refunded]
            for number in leaving:
                self.workers[number].status, self.workers[number].joined = "withdrawn", self.index
            self.roster.remove(leaving)
            self.closed = None
            self.refunded.clear()
        self.epochs, self.ended = entry.epochs, None if left else entry
        self.amendments.append((self.steps, entry))

    def _apply_resume(self, entry: e.Resume) -> None:
        self._require(self.current is None, Claim.PROGRESS, "a run resumes between rounds only")
        self.closed = None

    def _apply_close(self, entry: e.Close) -> None:
        self._require(self.current is None, Claim.OUTCOME, "the run was closed within a round")
        if entry.outcome == "complete":
            done = self.trained and not self.measure_due and self.upcoming() is None
            self._require(done, Claim.OUTCOME, "the run is not complete")
            held = [worker for worker, account in self.ledger.accounts.items() if account.deposit]
            self._require(not held, Claim.OUTCOME, "deposits were not returned to their owners", [], held)
        self.closed = entry

    def roll_back_round(self) -> None:
        """Goes back to before the round in progress, of which nothing was written. For the manager only."""
        round = self.current
        if round is None:
            return
        before = round.before
        self.index, self.at, self.secret = before.index, before.at, before.secret
        self.beacon, self.joined = before.beacon, before.joined
        self.parameters = round.open.parameters
        for worker in round.departed:
            self.workers[worker].status = "active"
        self.current = None

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _in_round(self, round: RoundState, worker: int) -> bool:
        """Whether a worker was active when the round opened: nobody joins within one."""
        known = self.workers.get(worker)
        if known is None or known.status == "evicted":
            return False
        return known.status == "active" or worker in round.departed

    def _round_before_reveal(self, number: int) -> RoundState:
        round = self._round_in_progress(number)
        self._require(not isinstance(round, RevealedRound), Claim.PROGRESS, "the round was revealed already")
        return round

    def _round_after_reveal(self, number: int) -> RevealedRound:
        round = self._round_in_progress(number)
        if not isinstance(round, RevealedRound):
            raise InvalidProofError("the round was not revealed yet", step=Claim.PROGRESS)
        return round

    def _judged_round(self, number: int) -> RevealedRound:
        round = self._round_in_progress(number)
        if not isinstance(round, RevealedRound) or round.roles.checked not in round.verdicts:
            raise InvalidProofError("the round's check has no verdict", step=Claim.VERDICTS)
        return round

    def _round_in_progress(self, number: int) -> RoundState:
        if self.current is None:
            raise InvalidProofError("no round is in progress", step=Claim.PROGRESS)
        opened = self.current.open.round
        self._require(opened == number, Claim.PROGRESS, "entry of another round", opened, number)
        return self.current

    @staticmethod
    def _require(holds: bool, claim: Claim, message: str, expected: object = None, actual: object = None) -> None:
        if not holds:
            raise InvalidProofError(message, step=claim, expected=expected, actual=actual)


_HANDLERS: dict[type[e.Entry], Callable[[RunState, Any], None]] = {
    kind: getattr(RunState, f"_apply_{e.kind_of(kind)}") for kind in e.KINDS
}
