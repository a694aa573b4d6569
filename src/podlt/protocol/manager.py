"""The manager's side of the protocol: proposes entries, applies them, and says what is still missing.

Sans-IO: time comes as an argument, chance from the hash chain, tensors as digests. A driver carries assignments to
workers and answers back, executes what the referee must, and writes what `take` returns in one transaction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from podlt import crypto
from podlt.errors import InvalidProofError, PeerError, TooFewWorkersError
from podlt.protocol import entries as e
from podlt.protocol.answers import RoundAnswers
from podlt.protocol.draw import Roles
from podlt.protocol.joining import joining, terms_for
from podlt.protocol.judging import Dispute, verdicts
from podlt.protocol.messages import Assignment, Committed, JoinSignatures, JoinTerms, Opened, TreeSize
from podlt.protocol.plan import SETTLEMENT_WORKERS, Upcoming
from podlt.protocol.reasons import without_paths
from podlt.protocol.redeal import Redealer
from podlt.protocol.rules import RunState
from podlt.protocol.signatures import commitment_check
from podlt.protocol.verdict import compare


class Manager:
    """Drives one run, round by round: open, committed, commit, opened, reveal, judge, apply, pay.

    Args:
        state: the run so far (fresh, or replayed from its log).
        chain: the manager's secrets.
        clock: gives milliseconds since 1970.
    """

    def __init__(self, state: RunState, chain: crypto.HashChain, clock: Callable[[], int]) -> None:
        self.state = state
        self._chain = chain
        self._clock = clock
        self._proposed: list[e.Entry] = []
        self._answers: RoundAnswers | None = None
        self._redealer: Redealer | None = None
        self._disputes: list[Dispute] = []

    # -- between rounds ----------------------------------------------------------------------------------------------

    def begin(self, entry: e.Begin) -> None:
        """The first entry."""
        self._propose(entry)

    def join_terms(self, key: bytes, deposit: int, seen: TreeSize, reserved: Collection[int] = ()) -> JoinTerms:
        """The terms on which a worker may join now, for it to sign. Arguments and errors: `joining.terms_for`."""
        return terms_for(self.state, key, deposit, seen, reserved)

    def join(self, key: bytes, terms: JoinTerms, signatures: JoinSignatures) -> int:
        """Admits a worker on the terms that it signed; returns its number.

        Raises:
            PeerError: the signature does not hold, or the rules do not allow it to join on these terms any more.
        """
        self._propose(joining(self.state, self._now(), key, terms, signatures))
        return terms.worker

    def resume(self) -> None:
        """Resumes a run that had stopped; nothing to do if it had not."""
        if self.state.closed is not None and self.state.closed.outcome == "stopped":
            self._propose(e.Resume(at=self._now()))

    def amend(self, epochs: int, optimizer: str = "", reason: str = "") -> None:
        """The terms from here on. Arguments as `entries.Amend`."""
        self._propose(e.Amend(at=self._now(), epochs=epochs, optimizer=optimizer, reason=without_paths(reason)))

    def end(self, reason: str) -> None:
        """Ends training here: what is left to do is a settlement, and to close the run."""
        self.amend(self.state.epoch, reason=reason)

    def return_deposits(self, workers: Sequence[int]) -> list[e.Transfer]:
        """Returns the deposits of those of the workers to whom they may be returned now (`RunState.returnable`)."""
        due = [e.Transfer("return", w, amount) for w in sorted(set(workers)) if (amount := self.state.returnable(w))]
        if due:
            self._propose(e.Return(at=self._now(), transfers=due))
        return due

    def close(self, outcome: str, reason: str = "") -> None:
        """The last entry, or a stop after which the run can be resumed. Before the last one, deposits are returned."""
        if outcome == "complete":
            self.return_deposits(list(self.state.workers))
        self._propose(e.Close(at=self._now(), outcome=outcome, reason=without_paths(reason)))  # type: ignore[arg-type]

    def upcoming(self) -> Upcoming | None:
        """What the next round is, or None when the run is complete.

        Raises:
            TooFewWorkersError: fewer than three workers are left.
        """
        try:
            return self.state.upcoming()
        except InvalidProofError as error:
            raise TooFewWorkersError(f"{error.reason}; three are needed: resume the run with more") from None

    def take(self) -> list[e.Entry]:
        """What was proposed since the last call: to be written in one transaction."""
        taken, self._proposed = self._proposed, []
        return taken

    # -- a round -----------------------------------------------------------------------------------------------------

    def open(self, plan: Upcoming, fragments: Sequence[bytes]) -> list[Assignment]:
        """Opens a round and deals its tasks.

        Args:
            plan: what `upcoming` returned.
            fragments: the digest of each fragment.
        """
        state = self.state
        entry = e.Open(
            at=self._now(),
            round=state.round,
            purpose=plan.purpose,  # type: ignore[arg-type]
            epoch=plan.epoch,
            offset=plan.offset,
            lines=plan.lines,
            parameters=state.parameters,
            fragments=list(fragments),
        )
        self._propose(entry)
        self._answers = RoundAnswers(state.roles(self._chain.secret(state.round)))
        self._disputes, self._redealer = [], None
        return [self._assignment(seat) for seat in sorted(self.roles.seats)]

    @property
    def roles(self) -> Roles:
        """Who was dealt which task of the round in progress: the manager's secret until the reveal."""
        return self._in_round().roles

    def committed(self, message: Committed) -> None:
        """Takes a worker's commitment.

        Raises:
            PeerError: not its task, a second answer, or a signature that does not hold.
        """
        answers = self._answers
        if answers is None or not self._is_due(answers, message):
            raise PeerError(message.holder, "commitment", f"no commitment to task {message.seat} is due from it")
        known = answers.known(message)
        if not commitment_check(self.state, _logged(message)).holds():
            raise PeerError(message.holder, "commitment", "the signature of its commitment does not hold")
        if not known:
            answers.commit(message)

    @property
    def all_committed(self) -> bool:
        """Whether somebody is committed to each task. Costs nothing, as it is asked after each message."""
        return self._answers is None or not self._answers.uncommitted

    @property
    def all_opened(self) -> bool:
        """Whether the commitment to each task is opened."""
        return self._answers is None or not self._answers.unopened

    def uncommitted(self) -> list[int]:
        """The seats to whose task nobody is committed yet, ascending."""
        return sorted(self._in_round().uncommitted)

    def commit(self) -> None:
        """Writes the commitments that came since the last call: from here on answers may be opened."""
        commitments = [_logged(message) for message in self._in_round().take_unlogged()]
        if commitments:
            self._propose(e.Commit(at=self._now(), round=self.state.round, commitments=commitments))

    def opened(self, message: Opened, uploaded: bytes | None = None) -> None:
        """Takes a worker's opening.

        Args:
            uploaded: the digest of the update that arrived, if it was uploaded.

        Raises:
            PeerError: it does not open the commitment, or the upload is something else.
        """
        answers = self._answers
        committed = answers.commitment_of(message.seat, message.holder) if answers is not None else None
        if answers is None or committed is None:
            raise PeerError(message.holder, "opening", f"no opening of task {message.seat} is due from it")
        task = self.state.task_digest(answers.roles.seats[message.seat])
        key = self.state.workers[message.holder].key
        if crypto.commitment(task, key, message.update, message.salt) != committed.commitment:
            raise PeerError(message.holder, "opening", "its opening does not fit its commitment")
        if uploaded is not None and uploaded != message.update:
            raise PeerError(message.holder, "upload", "its upload is not what it committed to")
        answers.open(message)

    def unopened(self) -> list[int]:
        """The seats whose commitment is not opened yet, ascending."""
        return sorted(self._in_round().unopened)

    def withdraw(self, worker: int, reason: str) -> list[Assignment]:
        """Withdraws a worker that is gone, or of no use, and deals the tasks that it held again.

        The settlement's tasks are not: everybody who is left has the same one already.

        Args:
            worker: its number.
            reason: for people, as it is logged; paths are shortened.

        Returns:
            The new assignments; none if it held nothing.

        Raises:
            TooFewWorkersError: nobody is left who may take the task; the round in progress cannot be ended, and the run
                goes on from what was written of it.
        """
        self._propose(e.Withdraw(at=self._now(), worker=worker, reason=without_paths(reason)))
        answers, round = self._answers, self.state.current
        if answers is None or round is None:
            return []
        if round.open.purpose == "settle":
            answers.remove(worker)
            if len(answers.roles.seats) < SETTLEMENT_WORKERS:
                raise TooFewWorkersError("nobody is left to compare with: resume the run with more workers")
            return []
        redealer = self._redealer_without(worker)
        again = []
        for seat in answers.release(worker):
            holder = redealer.deal(seat)
            if holder is None:
                raise TooFewWorkersError("nobody is left who may take the task: resume the run with more workers")
            self._propose(e.Redeal(at=self._now(), round=self.state.round, seat=seat, holder=holder))
            answers.hold(holder, seat)
            again.append(self._assignment(seat))
        return again

    def reveal(self) -> None:
        """Reveals the round's secret with all openings; then `disputes` says what the referee must do."""
        openings = [e.Opening(seat, m.update, m.salt) for seat, m in sorted(self._in_round().opened.items())]
        secret = self._chain.secret(self.state.round)
        self._propose(e.Reveal(at=self._now(), round=self.state.round, secret=secret, openings=openings))
        round = self.state.revealed
        checked = round.roles.checked
        if compare(round.fragment_results(checked), vote=round.open.purpose == "train") is None:
            self._disputes.append(Dispute(checked, "no-majority"))

    def suspect(self, fragment: int) -> None:
        """The result of a fragment is not finite: the manager will execute it itself, whoever agreed on it."""
        self._disputes = [d for d in self._disputes if d.fragment != fragment] + [Dispute(fragment, "non-finite")]

    def disputes(self) -> list[Dispute]:
        """What the manager must execute itself before the round can be judged."""
        return list(self._disputes)

    def judge(self, referee: dict[int, bytes]) -> list[e.Verdict]:
        """Writes the verdicts of the round.

        Args:
            referee: fragment -> digest of the manager's own result, for each dispute.
        """
        found = verdicts(self.state.revealed, self._disputes, referee, self._now)
        for verdict in found:
            self._propose(verdict)
        return found

    def uploads(self) -> list[int | None]:
        """For each fragment, in order, the seat whose upload is to be applied; None for the referee's."""
        return self.state.revealed.uploads()

    def apply(self, update: bytes, parameters: bytes, loss: float) -> None:
        """The averaged update was applied.

        Args:
            update: digest of the averaged update.
            parameters: digest of the state after it.
            loss: mean a line.
        """
        self._propose(e.Apply(at=self._now(), round=self.state.round, update=update, parameters=parameters, loss=loss))

    def measure(self, figures: Mapping[str, float]) -> e.Measure:
        """Logs the figures of the parameters on the test set; those that are not finite are left out."""
        state = self.state
        assert state.begin is not None
        entry = e.Measure(
            at=self._now(),
            epoch=state.measured,
            test=state.begin.test,
            parameters=state.parameters,
            figures=[e.Figure(name, value) for name, value in sorted(figures.items()) if math.isfinite(value)],
        )
        self._propose(entry)
        return entry

    def pay(self) -> list[e.Transfer]:
        """Ends the round with what it pays."""
        transfers = self.state.owed()
        self._propose(e.Pay(at=self._now(), round=self.state.round, transfers=transfers))
        self._answers = None
        return transfers

    def roll_back_round(self) -> None:
        """Drops the round in progress, of which nothing was written: it will begin anew, with the same secret.

        What was proposed before the round stays proposed; who withdrew in it is still gone.
        """
        opened = [i for i, entry in enumerate(self._proposed) if isinstance(entry, e.Open)]
        within = self._proposed[opened[-1] :] if opened and self.state.current is not None else []
        self.state.roll_back_round()
        self._answers = None
        del self._proposed[len(self._proposed) - len(within) :]
        for entry in within:
            if isinstance(entry, e.Withdraw):
                self._propose(entry)

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _propose(self, entry: e.Entry) -> None:
        self.state.apply(entry)
        self._proposed.append(entry)

    def _now(self) -> int:
        return max(self.state.at, self._clock())

    def _in_round(self) -> RoundAnswers:
        if self._answers is None:
            raise LookupError("no round is in progress")
        return self._answers

    def _is_due(self, answers: RoundAnswers, message: Committed) -> bool:
        round, seat = self.state.current, message.seat
        return round is not None and seat in answers.roles.seats and round.holder(seat) == message.holder

    def _assignment(self, seat: int) -> Assignment:
        fragment = self.roles.seats[seat]
        return Assignment(seat, self.state.in_progress.holder(seat), fragment, self.state.task(fragment))

    def _redealer_without(self, worker: int) -> Redealer:
        """What draws who takes over the tasks of a worker that leaves; made when the round's first one does."""
        if self._redealer is None:
            self._redealer = Redealer(self._chain.secret(self.state.round), self.roles, self.state.roster)
        self._redealer.leave(worker)
        return self._redealer


def _logged(message: Committed) -> e.Commitment:
    return e.Commitment(message.seat, message.holder, message.commitment, message.signature)
