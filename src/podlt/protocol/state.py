"""What a run is after some prefix of its log, and what follows from that. What may happen next is `rules.py`."""

from __future__ import annotations

from collections.abc import Mapping

from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.draw import Roles, deal, deal_settlement
from podlt.protocol.ledger import Ledger
from podlt.protocol.messages import Task, randomness
from podlt.protocol.plan import MIN_WORKERS, SETTLEMENT_WORKERS, Upcoming, fragment_bounds, next_lines
from podlt.protocol.roster import Roster, WorkerState
from podlt.protocol.round import RevealedRound, RoundState
from podlt.units import MAX_INT

MOST_PAID = 4
"""How often a line can be paid for in an epoch: once for its use, twice for the spares, once for the settlement."""


def most_paid(begin: e.Begin, epochs: int) -> int:
    """A bound on all credits that a run can ever pay, in so many epochs."""
    return MOST_PAID * begin.reward * begin.lines * epochs


class RunFacts:
    """Everything that a log has said so far.

    Attributes:
        epochs: how many there are to be, by the last entry that says so.
        payable: how many epochs can be paid for at most, those of earlier terms included.
        measured: of how many epochs the figures on the test set are in the log.
        part_measured: whether those of the parameters with which training ended within an epoch are.
        ended: the amendment by which training ended early, if it did.
        compared: worker -> what is pending of its pay for the work of its last check, which it passed.
        refunded: active workers that were given their deposit back, at an end that may turn out to be none.
        steps: how many training rounds were paid.
        amendments: each with the training rounds that were paid before it.
    """

    def __init__(self) -> None:
        self.index = 0
        self.at = 0
        self.begin: e.Begin | None = None
        self.run = b""
        self.roster = Roster()
        self.ledger = Ledger()
        self.beacon = b""
        self.joined: list[bytes] = []
        self.parameters = b""
        self.secret = b""
        self.round = self.epoch = self.offset = self.measured = self.epochs = self.payable = 0
        self.settled = self.part_measured = False
        self.ended: e.Amend | None = None
        self.steps = 0
        self.amendments: list[tuple[int, e.Amend]] = []
        self.current: RoundState | None = None
        self.compared: dict[int, int] = {}
        self.refunded: set[int] = set()
        self.last_open: e.Open | None = None
        self.last_measure: e.Measure | None = None
        self.closed: e.Close | None = None

    @property
    def workers(self) -> Mapping[int, WorkerState]:
        """The workers by number."""
        return self.roster.workers

    def active(self) -> list[int]:
        """The workers that may be dealt a task, ascending."""
        return self.roster.active()

    @property
    def active_count(self) -> int:
        """How many workers may be dealt a task."""
        return len(self.roster) - (len(self.current.departed) if self.current is not None else 0)

    @property
    def in_progress(self) -> RoundState:
        """The round in progress.

        Raises:
            LookupError: there is none.
        """
        if self.current is None:
            raise LookupError("no round is in progress")
        return self.current

    @property
    def revealed(self) -> RevealedRound:
        """The round in progress, after its reveal.

        Raises:
            LookupError: there is none, or it was not revealed yet.
        """
        if not isinstance(self.current, RevealedRound):
            raise LookupError("no revealed round is in progress")
        return self.current

    @property
    def trained(self) -> bool:
        """Whether every epoch is done, or training was ended early."""
        return self.epochs <= self.epoch

    @property
    def measure_due(self) -> bool:
        """Whether figures are to be logged before the next round: of an epoch that is done, or that ended early."""
        part = self.trained and self.offset > 0 and not self.part_measured
        return self._begin.test != e.NO_TEST and (self.measured < self.epoch or part)

    def upcoming(self) -> Upcoming | None:
        """What the next round must be, or None when the run is complete.

        Raises:
            InvalidProofError: too few workers are left for it.
        """
        begin, active = self._begin, self.active_count
        if self.trained:
            if self.settled or self.last_open is None or active < SETTLEMENT_WORKERS or not self.ledger.pending:
                return None
            last = self.last_open
            return Upcoming("settle", last.epoch, last.offset, last.lines, len(last.fragments))
        if active < max(MIN_WORKERS, begin.spares + 1):
            raise InvalidProofError(f"{active} workers are too few for a round", step=Claim.PROGRESS)
        useful = active - begin.spares
        lines = next_lines(begin.lines, self.offset, begin.block_lines, begin.fragment_lines, useful)
        return Upcoming("train", self.epoch, self.offset, lines, min(useful, lines))

    def roles(self, secret: bytes) -> Roles:
        """Who holds which task of the round in progress, given its secret."""
        round = self.in_progress
        fragments = len(round.open.fragments)
        if round.open.purpose == "settle":
            return deal_settlement(secret, round.beacon, self.active(), fragments)
        return deal(secret, round.beacon, self.roster, fragments, self._begin.spares)

    def is_active(self, worker: int) -> bool:
        """Whether a worker joined, and neither withdrew nor was evicted."""
        known = self.workers.get(worker)
        return known is not None and known.status == "active"

    def task(self, fragment: int) -> Task:
        """The task of a fragment of the round in progress."""
        return self._task(fragment)[0]

    def task_digest(self, fragment: int) -> bytes:
        """The digest of that task."""
        return self._task(fragment)[1]

    def _task(self, fragment: int) -> tuple[Task, bytes]:
        tasks = self.in_progress.tasks
        if fragment not in tasks:
            opened, begin = self.in_progress.open, self._begin
            lines = opened.fragments[fragment]
            seed = randomness(begin.seed, opened.round, lines)
            task = Task(self.run, opened.round, begin.program, opened.parameters, lines, seed)
            tasks[fragment] = task, task.digest()
        return tasks[fragment]

    def owed(self) -> list[e.Transfer]:
        """The transfers with which the round in progress must end."""
        round = self.revealed
        earned: dict[int, int] = {}
        for seat, fragment in round.roles.seats.items():
            holder = round.holder(seat)
            earned[holder] = earned.get(holder, 0) + self._pay_of(fragment)
        left = {w: amount for w, amount in self.compared.items() if self.workers[w].status == "withdrawn"}
        return self.ledger.settle(earned, round.passed(), round.evicted(), left, last=round.open.purpose == "settle")

    def _pay_of(self, fragment: int) -> int:
        """What a task of a fragment of the round in progress earns."""
        opened = self.in_progress.open
        start, stop = fragment_bounds(opened.lines, len(opened.fragments))[fragment]
        return self._begin.reward * (stop - start)

    def _note_compared(self, round: RevealedRound) -> None:
        """Notes what is pending for work that was compared: nothing can be found wrong with it any more."""
        passed, settles = round.passed(), round.open.purpose == "settle"
        paid = [w for w in self.compared if settles and self.workers[w].status == "withdrawn"]
        for worker in [*passed, *paid, *round.evicted()]:
            self.compared.pop(worker, None)
        if not settles:
            self.compared.update(dict.fromkeys(passed, self._pay_of(round.roles.checked)))

    def room(self) -> int:
        """How large a deposit the run can still take, so that no account ever holds more than a number can be."""
        return MAX_INT - most_paid(self._begin, self.payable) - self.ledger.taken

    def returnable(self, worker: int) -> int:
        """The deposit that may be given back to a worker now; 0 if there is none, or it may still be lost.

        At the run's end everybody's may who was not evicted; before it, that of a worker that withdrew: all checks of
        its work are over then, as each is within a round of its own.
        """
        account, status = self.ledger.accounts[worker], self.workers[worker].status
        if self.current is not None or status == "evicted":
            return 0
        over = self.trained and self.upcoming() is None
        return account.deposit if over or status == "withdrawn" else 0

    @property
    def _begin(self) -> e.Begin:
        assert self.begin is not None, "the run has not begun"
        return self.begin
