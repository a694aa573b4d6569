"""The rule book: `RunState.apply` is the only code that says what may happen next in a run.

The manager proposes an entry and applies it before it writes it; the verifier applies it again from the log; a page
or a command that shows a run is a fold over the same entries. Signatures are checked beside it (`signatures.py`),
as they can be checked in any order and in parallel. Each `require` names the step of docs/SPEC.md that it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from podlt import crypto
from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.draw import Roles, deal_again, mix_beacon
from podlt.protocol.plan import SETTLEMENT_WORKERS, Upcoming, most_rounds
from podlt.protocol.round import Before, Redealt, RoundState, WorkerState
from podlt.protocol.state import RunFacts, most_paid
from podlt.protocol.steps import Step
from podlt.protocol.verdict import compare, differing
from podlt.units import MAX_INT

MAX_ROUNDS = 2**40
"""As many as a `Round` can number."""

SETTLEMENT_ROUNDS = 1


class RunState(RunFacts):
    """A run after some prefix of its log, and the one way to go on."""

    # -- what may happen next ----------------------------------------------------------------------------------------

    def apply(self, entry: e.Entry) -> None:
        """Makes the state what it is after `entry`.

        Raises:
            InvalidProofError: the rules do not allow it; the state must not be used any further.
        """
        try:
            self._require(entry.at >= self.at, Step.PROGRESS, "the clock went back", self.at, entry.at)
            if self.begin is None:
                self._require(isinstance(entry, e.Begin), Step.PROGRESS, "the first entry must be begin")
            if self.closed is not None:
                goes_on = self.closed.outcome == "stopped" and isinstance(entry, e.Resume)
                self._require(goes_on, Step.OUTCOME, "the run was closed")
            form = type(self.begin if self.begin is not None else entry)
            fits = type(entry) in e.FORMATS[form]  # type: ignore[index]
            self._require(fits, Step.PROGRESS, f"no {e.tag_of(type(entry))} in a run of {e.tag_of(form)}")
            _HANDLERS[type(entry)](self, entry)
        except InvalidProofError as error:
            raise InvalidProofError(
                error.reason, entry=self.index, step=error.step, expected=error.expected, actual=error.actual
            ) from None
        self.at = entry.at
        self.index += 1

    def _apply_begin(self, entry: e.Begin) -> None:
        self._require(self.begin is None, Step.PROGRESS, "a second begin")
        self._require(min(entry.lines, entry.epochs, entry.block_lines) > 0, Step.PROGRESS, "a run without lines")
        self._require(entry.spares == 2, Step.PROGRESS, "classic has two spares", 2, entry.spares)
        rounds = most_rounds(entry.lines, entry.epochs, entry.block_lines, entry.fragment_lines) + SETTLEMENT_ROUNDS
        self._require(rounds <= MAX_ROUNDS, Step.PROGRESS, "more rounds than can be numbered", MAX_ROUNDS, rounds)
        self._require(entry.chain_length >= rounds, Step.DRAWS, "the chain is too short", rounds, entry.chain_length)
        most = most_paid(entry)
        self._require(most <= MAX_INT, Step.PAYMENTS, "more pay than an account can hold", MAX_INT, most)
        self.begin, self.run = entry, e.identity(entry)
        self.parameters, self.secret = entry.parameters, entry.chain_end
        self.beacon = mix_beacon(self.run)

    def _apply_join(self, entry: e.Join) -> None:
        self._require(self.current is None, Step.PROGRESS, "a worker joins between rounds only")
        known = self.workers.get(entry.worker)
        if known is None:
            self._require(
                entry.worker == len(self.workers),
                Step.PROGRESS,
                "workers are numbered in order",
                len(self.workers),
                entry.worker,
            )
            fresh = all(worker.key != entry.key for worker in self.workers.values())
            self._require(fresh, Step.PROGRESS, "the key belongs to another worker")
            self.workers[entry.worker] = WorkerState(entry.key)
            self.ledger.open(entry.worker)
            # Only a first joining counts for the draws: the manager could repeat a later one as often as it likes.
            self.joined.append(entry.signature)
        else:
            back = known.status == "withdrawn" and known.key == entry.key
            self._require(back, Step.PROGRESS, f"worker {entry.worker} cannot join again")
            known.status = "active"
        if isinstance(entry, e.Join2):
            room = self.room()
            self._require(
                entry.deposit <= room, Step.PAYMENTS, "too large a deposit for an account", room, entry.deposit
            )
            self.ledger.deposit(entry.worker, entry.deposit)

    def _apply_withdraw(self, entry: e.Withdraw) -> None:
        worker = self.workers.get(entry.worker)
        self._require(worker is not None and worker.status == "active", Step.PROGRESS, "no such active worker")
        assert worker is not None
        revealed = self.current is not None and self.current.roles is not None
        self._require(not revealed, Step.PROGRESS, "a worker withdraws before the reveal, or between rounds")
        worker.status = "withdrawn"
        if self.current is not None and self.current.open.purpose == "settle":
            self.current.commitments.pop(entry.worker, None)

    def _apply_open(self, entry: e.Open) -> None:
        self._require(self.current is None, Step.PROGRESS, "the round before is not paid")
        self._require(entry.round == self.round, Step.PROGRESS, "round out of order", self.round, entry.round)
        expected = self.upcoming()
        self._require(expected is not None, Step.PROGRESS, "a round after the last one")
        found = Upcoming(entry.purpose, entry.epoch, entry.offset, entry.lines, len(entry.fragments))
        self._require(found == expected, Step.PROGRESS, "the round takes other lines than the plan", expected, found)
        self._require(
            entry.parameters == self.parameters,
            Step.PROGRESS,
            "the round starts from other parameters",
            self.parameters,
            entry.parameters,
        )
        if entry.purpose == "settle":
            assert self.last_open is not None
            same = entry.fragments == self.last_open.fragments
            self._require(same, Step.PROGRESS, "the settlement has other fragments than the last round")
        before = Before(self.index, self.at, self.beacon, self.joined, self.secret)
        self.current = RoundState(entry, self.active(), mix_beacon(self.beacon, *sorted(self.joined)), before)

    def _apply_redeal(self, entry: e.Redeal) -> None:
        round = self._round_before_reveal(entry.round)
        task = entry.origin in round.workers and round.open.purpose == "train"
        self._require(task, Step.PROGRESS, "no such task")
        previous = round.holder(entry.origin)
        lost = self.workers[previous].status == "withdrawn"
        self._require(lost, Step.PROGRESS, f"worker {previous} still holds the task")
        able = self.able()
        self._require(entry.holder in able, Step.PROGRESS, f"worker {entry.holder} cannot take the task")
        round.redealt.append(Redealt(entry.origin, entry.holder, able))
        round.holders[entry.origin] = entry.holder
        round.commitments.pop(entry.origin, None)

    def _apply_commit(self, entry: e.Commit) -> None:
        round = self._round_before_reveal(entry.round)
        origins = [c.origin for c in entry.commitments]
        self._require(bool(origins) and origins == sorted(set(origins)), Step.OPENINGS, "commitments out of order")
        for c in entry.commitments:
            fresh = c.origin in round.workers and c.origin not in round.commitments
            self._require(fresh, Step.OPENINGS, f"no commitment to the task of worker {c.origin} is due")
            holds = c.holder == round.holder(c.origin) and self.workers[c.holder].status == "active"
            self._require(holds, Step.OPENINGS, f"worker {c.holder} does not hold the task of worker {c.origin}")
            round.commitments[c.origin] = c

    def _apply_reveal(self, entry: e.Reveal) -> None:
        round = self._round_before_reveal(entry.round)
        link = crypto.chain_link(entry.secret)
        self._require(link == self.secret, Step.DRAWS, "the secret is not the chain's", self.secret, link)
        roles = self.roles(entry.secret)
        dealt = sorted(roles.seats)
        self._require(
            dealt == sorted(round.commitments),
            Step.DRAWS,
            "the commitments are not those of the tasks dealt",
            dealt,
            sorted(round.commitments),
        )
        self._check_redealt(round, roles, entry.secret)
        opened = [o.origin for o in entry.openings]
        self._require(opened == dealt, Step.OPENINGS, "the openings are not those of the tasks dealt", dealt, opened)
        results: dict[int, bytes] = {}
        for o in entry.openings:
            promised = round.commitments[o.origin]
            key = self.workers[promised.holder].key
            found = crypto.commitment(self.task_digest(roles.seats[o.origin]), key, o.update, o.salt)
            self._require(
                found == promised.commitment,
                Step.OPENINGS,
                f"the commitment to the task of worker {o.origin} opens to something else",
                promised.commitment,
                found,
            )
            results[o.origin] = o.update
        round.reveal(roles, results)
        self.secret = entry.secret
        self.beacon, self.joined = mix_beacon(round.beacon, *(o.salt for o in entry.openings)), []

    def _check_redealt(self, round: RoundState, roles: Roles, secret: bytes) -> None:
        """What can be said of the tasks that were dealt again only once the secret is known."""
        holders: dict[int, int] = {}
        for number, again in enumerate(round.redealt):
            self._require(again.origin in roles.seats, Step.DRAWS, "a task was dealt again that nobody had")
            drawn = deal_again(secret, roles, again.origin, holders, again.able, number)
            message = f"the task of worker {again.origin} was dealt again to another than was drawn"
            self._require(again.holder == drawn, Step.DRAWS, message, drawn, again.holder)
            holders[again.origin] = again.holder
        gone = sorted({round.holder(origin) for origin in roles.seats} - set(self.able()))
        self._require(not gone, Step.DRAWS, "tasks of workers that withdrew were not dealt again", [], gone)
        if round.open.purpose == "settle":
            enough = len(roles.seats) >= SETTLEMENT_WORKERS
            self._require(enough, Step.DRAWS, "too few workers are left to compare", SETTLEMENT_WORKERS)

    def _apply_verdict(self, entry: e.Verdict) -> None:
        round = self._round_after_reveal(entry.round)
        assert round.roles is not None
        self._require(entry.fragment < len(round.open.fragments), Step.VERDICTS, "no such fragment")
        self._require(entry.fragment not in round.verdicts, Step.VERDICTS, "a second verdict on a fragment")
        results = round.fragment_results(entry.fragment)
        is_group = entry.fragment == round.roles.checked
        compared = compare(results, vote=round.open.purpose == "train") if is_group else None
        if entry.outcome == "referee":
            due = entry.reason == "non-finite" or (is_group and compared is None and entry.reason == "no-majority")
            self._require(due, Step.VERDICTS, "no referee is called for")
            evicted = differing(results, entry.accepted)
        else:
            self._require(compared is not None and entry.reason == "compared", Step.VERDICTS, "the results name nobody")
            assert compared is not None
            self._require(
                entry.outcome == compared.outcome,
                Step.VERDICTS,
                "another outcome than the results'",
                compared.outcome,
                entry.outcome,
            )
            self._require(
                entry.accepted == compared.accepted,
                Step.VERDICTS,
                "another result than the accepted one",
                compared.accepted,
                entry.accepted,
            )
            evicted = compared.evicted
        self._require(
            entry.evicted == evicted, Step.VERDICTS, "the verdict evicts the wrong workers", evicted, entry.evicted
        )
        round.verdicts[entry.fragment] = entry

    def _apply_apply(self, entry: e.Apply) -> None:
        round = self._judged_round(entry.round)
        once = round.open.purpose == "train" and not round.applied
        self._require(once, Step.PROGRESS, "no update is due")
        self._require(math.isfinite(entry.loss), Step.PROGRESS, "the loss is not finite")
        round.applied = True
        self.parameters = entry.parameters

    def _apply_pay(self, entry: e.Pay) -> None:
        round = self._judged_round(entry.round)
        opened = round.open
        self._require(round.applied or opened.purpose == "settle", Step.PROGRESS, "the round's update is not applied")
        owed = self.owed()
        self._require(
            entry.transfers == owed, Step.PAYMENTS, "the round pays other than the rules owe", owed, entry.transfers
        )
        for worker in self._passed():
            self.workers[worker].checks_passed += 1
        for worker in self._evicted():
            self.workers[worker].status = "evicted"
        self.ledger.post(entry.transfers)
        self.last_open, self.current = opened, None
        self.round += 1
        if opened.purpose == "settle":
            self.settled = True
            return
        self.offset += opened.lines
        if self.offset == self._begin.lines:
            self.epoch, self.offset = self.epoch + 1, 0

    def _apply_return(self, entry: e.Return) -> None:
        self._require(self.current is None, Step.PROGRESS, "deposits are returned between rounds only")
        workers = [t.worker for t in entry.transfers]
        known = bool(workers) and workers == sorted(set(workers)) and all(w in self.workers for w in workers)
        self._require(known, Step.PAYMENTS, "deposits are returned to known workers, in order")
        due = [e.Transfer("return", worker, self.returnable(worker)) for worker in workers]
        whole = entry.transfers == due and all(t.amount for t in due)
        self._require(whole, Step.PAYMENTS, "another deposit is returned than may be", due, entry.transfers)
        self.ledger.post(entry.transfers)

    def _apply_resume(self, entry: e.Resume) -> None:
        self._require(self.current is None, Step.PROGRESS, "a run resumes between rounds only")
        self.closed = None

    def _apply_close(self, entry: e.Close) -> None:
        self._require(self.current is None, Step.OUTCOME, "the run was closed within a round")
        if entry.outcome == "complete":
            self._require(self.trained and self.upcoming() is None, Step.OUTCOME, "the run is not complete")
            held = [worker for worker, account in self.ledger.accounts.items() if account.deposit]
            self._require(not held, Step.OUTCOME, "deposits were not returned to their owners", [], held)
        self.closed = entry

    def forget_round(self) -> None:
        """Goes back to before the round in progress, of which nothing was written. For the manager only."""
        round = self.current
        if round is None:
            return
        before = round.before
        self.index, self.at, self.secret = before.index, before.at, before.secret
        self.beacon, self.joined = before.beacon, before.joined
        self.parameters = round.open.parameters
        for worker in round.workers:
            self.workers[worker].status = "active"
        self.current = None

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _round_before_reveal(self, number: int) -> RoundState:
        round = self._round_in_progress(number)
        self._require(round.roles is None, Step.PROGRESS, "the round was revealed already")
        return round

    def _round_after_reveal(self, number: int) -> RoundState:
        round = self._round_in_progress(number)
        self._require(round.roles is not None, Step.PROGRESS, "the round was not revealed yet")
        self._require(not round.applied, Step.PROGRESS, "the round's update was applied already")
        return round

    def _judged_round(self, number: int) -> RoundState:
        round = self._round_in_progress(number)
        judged = round.roles is not None and round.roles.checked in round.verdicts
        self._require(judged, Step.VERDICTS, "the round's check has no verdict")
        return round

    def _round_in_progress(self, number: int) -> RoundState:
        self._require(self.current is not None, Step.PROGRESS, "no round is in progress")
        assert self.current is not None
        self._require(
            self.current.open.round == number, Step.PROGRESS, "entry of another round", self.current.open.round, number
        )
        return self.current

    @staticmethod
    def _require(holds: bool, step: Step, message: str, expected: object = None, actual: object = None) -> None:
        if not holds:
            raise InvalidProofError(message, step=step, expected=expected, actual=actual)


_HANDLERS: dict[type[e.Entry], Callable[[RunState, Any], None]] = {
    kind: getattr(RunState, f"_apply_{e.kind_of(kind)}") for kind in e.KINDS
}
