"""The manager's side of the protocol: proposes entries, applies them, and says what is still missing.

Sans-IO: time comes as an argument, chance from the hash chain, tensors as digests. A driver carries assignments to
workers and answers back, executes what the referee must, and writes what `take` returns in one transaction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from podlt import crypto
from podlt.errors import InvalidProofError, PeerError, TooFewWorkersError
from podlt.protocol import entries as e
from podlt.protocol.answers import RoundAnswers
from podlt.protocol.draw import Roles
from podlt.protocol.joining import joining, terms_for
from podlt.protocol.messages import Assignment, Committed, JoinSignatures, JoinTerms, Opened, TreeSize
from podlt.protocol.plan import Upcoming
from podlt.protocol.reasons import without_paths
from podlt.protocol.receipt import Bound
from podlt.protocol.redeal import Redealer
from podlt.protocol.round import Copy
from podlt.protocol.rules import RunState
from podlt.protocol.shares import worker_of
from podlt.protocol.signatures import commitment_check
from podlt.protocol.verdict import Judgement, differing, judge


class Manager:
    """Drives one run, round by round: open, committed, commit, opened, reveal, judge, apply, pay.

    Args:
        state: the run so far (fresh, or replayed from its log).
        chain: the manager's secrets.
        clock: gives milliseconds since 1970.
    """

    def __init__(self, state: RunState, chain: crypto.HashChain, clock: Callable[[], int]) -> None:
        self.state, self._chain, self._clock = state, chain, clock
        self._proposed: list[e.Entry] = []
        self._answers: RoundAnswers | None = None
        self._redealer: Redealer | None = None
        self._suspects: set[int] = set()

    # -- between rounds ----------------------------------------------------------------------------------------------

    def begin(self, entry: e.Begin) -> None:
        """The first entry."""
        self._propose(entry)

    def join_terms(
        self, key: bytes, deposit: int, seen: TreeSize, reserved: Collection[int] = (), operator: str = ""
    ) -> JoinTerms:
        """See `joining.terms_for`."""
        return terms_for(self.state, key, deposit, seen, reserved, operator)

    def join(self, key: bytes, terms: JoinTerms, signatures: JoinSignatures) -> int:
        """Admits a worker on the terms that it signed; returns its number.

        Raises:
            PeerError: the signature does not hold, or the rules do not allow it to join on these terms any more.
        """
        self._propose(joining(self.state, self._now(), key, terms, signatures))
        return terms.worker

    def resume(self, *, anew: bool = False) -> None:
        """Resumes a run that had stopped, or (`anew`) one with a round whose commitments may have receipts."""
        closed = self.state.closed
        if (anew and closed is None and self.state.index > 0) or (closed is not None and closed.outcome == "stopped"):
            self._propose(e.Resume(at=self._now()))

    def amend(self, epochs: int, optimizer: str = "", reason: str = "") -> None:
        """The terms from here on. Arguments as `entries.Amend`."""
        self._propose(e.Amend(at=self._now(), epochs=epochs, optimizer=optimizer, reason=without_paths(reason)))

    def end(self, reason: str) -> None:
        """Ends training here: what is left to do is to close the run."""
        self.amend(self.state.epoch, reason=reason)

    def return_deposits(self, workers: Sequence[int]) -> list[e.Transfer]:
        """Returns the deposits of those of the workers to whom they may be returned now."""
        due = [e.Transfer("return", w, amount) for w in sorted(set(workers)) if (amount := self.state.returnable(w))]
        return self._release(due)

    def share(self, levels: Mapping[int, int]) -> None:
        """Has workers, at least one, get levels that they do not have, from the round after the next on."""
        changed = [e.NewLevel(worker, level) for worker, level in sorted(levels.items())]
        self._propose(e.Shares(at=self._now(), round=self.state.round, levels=changed))

    def close(self, outcome: str, reason: str = "") -> None:
        """The last entry, or a stop after which the run can be resumed.

        Before the last one, all that is pending vests, and deposits are returned.
        """
        if outcome == "complete":
            state, workers = self.state, sorted(self.state.workers)
            vest = [e.Transfer("vest", w, amount) for w in workers if (amount := state.vestable(w))]
            self._release(vest + [e.Transfer("return", w, amount) for w in workers if (amount := state.returnable(w))])
        self._propose(e.Close(at=self._now(), outcome=outcome, reason=without_paths(reason)))  # type: ignore[arg-type]

    def _release(self, due: list[e.Transfer]) -> list[e.Transfer]:
        if due:
            self._propose(e.Release(at=self._now(), transfers=due))
        return due

    def upcoming(self) -> Upcoming | None:
        """What the next round is, or None when the run is complete.

        Raises:
            TooFewWorkersError: fewer workers are left than a round needs.
        """
        state = self.state
        try:
            return state.upcoming()
        except InvalidProofError as error:
            least = state.options.min_workers
            raise TooFewWorkersError(f"{error.reason}; {least} are needed: resume the run with more") from None

    def take(self) -> list[e.Entry]:
        """What was proposed since the last call: to be written in one transaction."""
        taken, self._proposed = self._proposed, []
        return taken

    # -- a round -----------------------------------------------------------------------------------------------------

    def open(self, plan: Upcoming, shards: Sequence[bytes]) -> list[Assignment]:
        """Opens a round and deals its tasks.

        Args:
            plan: what `upcoming` returned.
            shards: the digest of each shard.
        """
        state = self.state
        due: dict[str, Any] = {"round": state.round, "attempt": state.resumes, "parameters": state.parameters}
        due |= {"epoch": plan.epoch, "offset": plan.offset, "examples": plan.examples, "shards": list(shards)}
        self._propose(e.Open(at=self._now(), **due))
        roles = state.roles(self._chain.secret(state.round))
        self._answers, self._suspects, self._redealer = RoundAnswers(roles), set(), None
        return [self._assignment(seat, worker_of(seat)) for seat in sorted(roles.seats)]

    @property
    def roles(self) -> Roles:
        """Who was dealt which task of the round in progress: the manager's secret until the reveal."""
        return self._in_round().roles

    def committed(self, message: Committed, *, trusted: bool = False) -> bool:
        """Takes a worker's commitment; returns whether it counts: it may be too late, as another's stands.

        Args:
            message: as it came.
            trusted: whether the manager's own machine made the signature, so that it need not be checked again.

        Raises:
            PeerError: not its task, a second answer, or a signature that does not hold.
        """
        answers = self._answers
        if answers is None or not answers.holds(message.seat, message.holder):
            raise PeerError(message.holder, "commitment", f"no commitment to task {message.seat} is due from it")
        known = answers.known(message)
        if not trusted and not commitment_check(self.state, _logged(message)).holds():
            raise PeerError(message.holder, "commitment", "the signature of its commitment does not hold")
        if not answers.is_due(message):
            return False
        if not known:
            answers.commit(message)
        return True

    @property
    def all_committed(self) -> bool:
        """Whether somebody is committed to each task. Costs nothing, as it is asked after each message."""
        return self._answers is None or not self._answers.uncommitted

    @property
    def all_logged(self) -> bool:
        """Whether no commitment waits to be written: only what is written may be opened."""
        return self._answers is None or not self._answers.unlogged

    @property
    def all_opened(self) -> bool:
        """Whether somebody is committed to each task, and each commitment is opened."""
        return self._answers is None or not (self._answers.uncommitted or self._answers.unopened)

    def uncommitted(self) -> list[int]:
        """The seats to whose task nobody is committed yet, ascending."""
        return sorted(self._in_round().uncommitted)

    def commit(self) -> Bound:
        """Writes the commitments that came since the last call, and returns them: from here on they may be opened."""
        commitments = [_logged(message) for message in self._in_round().take_unlogged()]
        if commitments:
            self._propose(e.Commit(at=self._now(), round=self.state.round, commitments=commitments))
        return Bound(self.state.round, self.state.in_progress.open.attempt, commitments)

    def opened(self, message: Opened, uploaded: bytes | None = None) -> bool:
        """Takes a worker's opening; returns whether it counts: not if its commitment came too late, or is not logged.

        Args:
            uploaded: the digest of the update that arrived, if it was uploaded.

        Raises:
            PeerError: it does not open the commitment, or the upload is something else.
        """
        answers = self._answers
        committed = answers.commitment_of(message.seat, message.holder) if answers is not None else None
        if answers is not None and answers.holds(message.seat, message.holder) and not answers.is_logged(message):
            return False
        if answers is None or committed is None:
            raise PeerError(message.holder, "opening", f"no opening of task {message.seat} is due from it")
        task = self.state.task_digest(answers.roles.seats[message.seat])
        key = self.state.workers[message.holder].key
        if self.state.in_progress.promise(task, key, message.update, message.salt) != committed.commitment:
            raise PeerError(message.holder, "opening", "its opening does not fit its commitment")
        if uploaded is not None and uploaded != message.update:
            raise PeerError(message.holder, "upload", "its upload is not what it committed to")
        answers.open(message)
        return True

    def unopened(self) -> list[Copy]:
        """Seats and holders whose commitment is not opened yet, ascending."""
        return sorted(self._in_round().unopened)

    def withdraw(self, worker: int, reason: str) -> list[Assignment]:
        """Withdraws a worker that is gone, or of no use, and deals the tasks again that nobody else holds.

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
        answers = self._answers
        if answers is None or self.state.current is None:
            return []
        redealer = self._replayed()
        redealer.leave(worker)
        again = []
        for seat in answers.release(worker):
            assignment = self._deal_again(seat)
            if assignment is None:
                raise TooFewWorkersError("nobody is left who may take the task: resume the run with more workers")
            again.append(assignment)
        return again

    def back_up(self, seat: int) -> Assignment | None:
        """Deals a task to one more worker whose holder is late; None where there is no reason, or nobody who may.

        Whichever of the two answers first stands; both do if both answer in time.
        """
        answers = self._answers
        late = self.state.options.backups and answers is not None and answers.is_late(seat)
        return self._deal_again(seat) if late else None

    def _deal_again(self, seat: int) -> Assignment | None:
        holder = self._replayed().deal(seat)
        if holder is None:
            return None
        self._propose(e.Redeal(at=self._now(), round=self.state.round, seat=seat, holder=holder))
        self._in_round().hold(holder, seat)
        return self._assignment(seat, holder)

    def reveal(self) -> None:
        """Reveals the round's secret with all openings; then `to_execute` says what the manager must do itself."""
        openings = [e.Opening(*copy, m.update, m.salt) for copy, m in sorted(self._in_round().opened.items())]
        secret = self._chain.secret(self.state.round)
        self._propose(e.Reveal(at=self._now(), round=self.state.round, secret=secret, openings=openings))

    def suspect(self, shard: int) -> None:
        """The result of a shard cannot be used as it is: the manager will execute it, whoever agreed on it."""
        self._suspects.add(shard)

    def to_execute(self) -> list[int]:
        """The shards that the manager must execute itself before the round can be judged, ascending."""
        round = self.state.revealed
        open = [shard for shard in round.due() if self._judge(shard, None) is None]
        return sorted({*open, *self._suspects, *round.roles.own})

    def judge(self, executed: Mapping[int, bytes]) -> list[e.Verdict]:
        """Writes the verdicts of the round.

        Args:
            executed: shard -> digest of the manager's own result, for each that it must execute.
        """
        round, found = self.state.revealed, []
        for shard in sorted({*round.due(), *self._suspects}):
            judgement = self._judge(shard, executed.get(shard))
            assert judgement is not None, "what cannot be decided otherwise was executed"
            verdict = e.Verdict(
                at=self._now(),
                round=round.open.round,
                shard=shard,
                outcome=judgement.outcome,
                reason=judgement.reason,
                accepted=judgement.accepted,
                convicted=judgement.convicted,
            )
            self._propose(verdict)
            found.append(verdict)
        return found

    def _judge(self, shard: int, executed: bytes | None) -> Judgement | None:
        round = self.state.revealed
        results = round.answers[shard]
        if shard in self._suspects and executed is not None:
            return Judgement("referee", "suspect", executed, differing(results, executed))
        return judge(results, vote=self.state.options.votes, own=shard in round.own, executed=executed)

    def uploads(self) -> list[Copy | None]:
        """For each shard, in order, whose upload is to be applied: a seat and a holder; None for the manager's."""
        return self.state.revealed.uploads()

    def apply(self, update: bytes, parameters: bytes, loss: float, clipped: Sequence[e.ClippedPart] = ()) -> None:
        """The averaged update was applied.

        Args:
            update: digest of the averaged update.
            parameters: digest of the state after it.
            loss: mean an example.
            clipped: what was scaled down before it was averaged, ascending by shard and part.
        """
        self._propose(
            e.Apply(
                at=self._now(),
                round=self.state.round,
                update=update,
                parameters=parameters,
                loss=loss,
                clipped=list(clipped),
            )
        )

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
        _, transfers = self.state.dues()
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

    def _assignment(self, seat: int, holder: int) -> Assignment:
        shard = self.roles.seats[seat]
        return Assignment(seat, holder, shard, self.state.task(shard))

    def _replayed(self) -> Redealer:
        """What draws who takes over a task; made when the round's first is dealt again, or its first worker goes."""
        if self._redealer is None:
            self._redealer = Redealer(self._chain.secret(self.state.round), self.roles, self.state.roster)
        return self._redealer


def _logged(message: Committed) -> e.Commitment:
    return e.Commitment(message.seat, message.holder, message.commitment, message.signature)
