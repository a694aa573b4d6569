"""What a run is after some prefix of its log, and what follows from that. What may happen next is `rules.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.draw import Roles, deal, round_dice
from podlt.protocol.ledger import Ledger
from podlt.protocol.messages import Task, randomness
from podlt.protocol.options import CLASSIC, RuleOptions
from podlt.protocol.plan import Upcoming
from podlt.protocol.roster import Roster, WorkerState
from podlt.protocol.round import RevealedRound, RoundState
from podlt.protocol.shares import SHARES_EVERY, SeatWeights
from podlt.units import MAX_INT

MOST_PAID = 4
"""How often an example can be paid for in an epoch: to who used it, to its spares, and to the backups of these."""


def most_paid(begin: e.Begin, epochs: int) -> int:
    """A bound on all credits that a run can ever pay, in so many epochs."""
    return MOST_PAID * begin.reward * begin.examples * epochs


class RunFacts:
    """Everything that a log has said so far.

    Attributes:
        epochs: how many there are to be, by the last entry that says so.
        payable: how many epochs can be paid for at most, those of earlier terms included.
        measured: of how many epochs the figures on the test set are in the log.
        part_measured: whether those of the parameters with which training ended within an epoch are.
        ended: the amendment by which training ended early, if it did.
        leavers: who left, in the order of the rounds: all that is pending of each vests `escrow` rounds later.
        pending_levels: worker -> the level that it has once the round before is paid.
        shared: in which round levels were last changed; None if never.
        refunded: active workers that were given their deposit back, at an end that may turn out to be none.
        steps: how many training rounds were paid.
        resumes: how often the manager resumed the run.
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
        self.part_measured = False
        self.ended: e.Amend | None = None
        self.steps = self.resumes = 0
        self.amendments: list[tuple[int, e.Amend]] = []
        self.current: RoundState | None = None
        self.options: RuleOptions = CLASSIC
        self.leavers: deque[tuple[int, int]] = deque()
        self.pending_levels: Mapping[int, int] = {}
        self.shared: int | None = None
        self.refunded: set[int] = set()
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
        if self.trained:
            return None
        active = self.active_count
        if active < self.options.min_workers:
            raise InvalidProofError(f"{active} workers are too few for a round", step=Claim.PROGRESS)
        return self._plan(self.epoch, self.offset, self.round, self.roster.weights)

    def plan_after(self, epoch: int, offset: int) -> Upcoming:
        """What the round after the one in progress will be, at this place of the data, if nobody comes or leaves."""
        return self._plan(epoch, offset, self.round + 1, self.roster.weights_with(self.pending_levels))

    def _plan(self, epoch: int, offset: int, round: int, weights: SeatWeights) -> Upcoming:
        useful = weights.total - self.spares(round, weights.total)
        return self._begin.cut.upcoming(epoch, offset, useful, weights.usual)

    @property
    def may_share(self) -> bool:
        """Whether levels may change before the next round."""
        return not self.options.votes and (self.shared is None or self.round >= self.shared + SHARES_EVERY)

    def spares(self, round: int, seats: int) -> int:
        """How many spares a round of so many seats has."""
        return self.options.spares_of(self._begin.seed, round, seats)

    def roles(self, secret: bytes) -> Roles:
        """Who holds which task of the round in progress, given its secret."""
        round = self.in_progress
        if round.drawn is None or round.drawn[0] != secret:
            spares, dice = self.spares(round.open.round, round.seats), round_dice(secret, round.beacon)
            round.drawn = secret, deal(dice, self.options, self.roster, spares, len(round.open.shards))
        return round.drawn[1]

    def leave(self, worker: int) -> None:
        """A worker is withdrawn: what is pending of it vests `escrow` rounds later, unless it comes back."""
        known = self.workers[worker]
        known.status, known.left = "withdrawn", self.round
        self.leavers.append((self.round, worker))

    def is_active(self, worker: int) -> bool:
        """Whether a worker joined, and neither withdrew nor was evicted."""
        known = self.workers.get(worker)
        return known is not None and known.status == "active"

    def task(self, shard: int) -> Task:
        """The task of a shard of the round in progress."""
        return self._task(shard)[0]

    def task_digest(self, shard: int) -> bytes:
        """The digest of that task."""
        return self._task(shard)[1]

    def _task(self, shard: int) -> tuple[Task, bytes]:
        tasks = self.in_progress.tasks
        if shard not in tasks:
            opened, begin = self.in_progress.open, self._begin
            examples = opened.shards[shard]
            seed = randomness(begin.seed, opened.round, examples)
            task = Task(self.run, opened.round, begin.program, opened.parameters, examples, seed)
            tasks[shard] = task, task.digest()
        return tasks[shard]

    def dues(self) -> tuple[dict[int, list[int]], list[e.Transfer]]:
        """The credits of the round in progress by worker, in the order of the seats, and the transfers with which it
        must end."""
        round = self.revealed
        if round.due_at != self.index:  # an entry may change who is owed what
            earned = self._earned()
            round.dues = earned, self.ledger.owed(earned, round.convicted(), self.gone_long())
            round.due_at = self.index
        return round.dues

    def _earned(self) -> dict[int, list[int]]:
        round = self.revealed
        examples = round.examples_of(range(len(round.open.shards)))
        earned: dict[int, list[int]] = {}
        for seat, holder in sorted(round.results):
            earned.setdefault(holder, []).append(self._begin.reward * examples[round.roles.seats[seat]])
        return earned

    def is_last_fault(self, worker: int) -> bool:
        """Whether a conviction in the round in progress evicts a worker; else it is suspended."""
        return self.options.first_fault == "evict" or self.workers[worker].convictions > 0

    def gone_long(self) -> list[int]:
        """Workers that left `escrow` rounds before the round in progress or earlier, and did not come back."""
        found = []
        for left, worker in self.leavers:
            if left + self.options.escrow > self.round:
                break
            known = self.workers[worker]
            if known.status == "withdrawn" and known.left == left:
                found.append(worker)
        return sorted(set(found))

    def room(self) -> int:
        """How large a deposit the run can still take, so that no account ever holds more than a number can be."""
        return MAX_INT - most_paid(self._begin, self.payable) - self.ledger.taken

    def returnable(self, worker: int) -> int:
        """The deposit that may be given back to a worker now; 0 if there is none, or it may still be lost.

        At the run's end everybody's may who was not evicted; before it, that of a worker that left `escrow` rounds ago.
        """
        account, known = self.ledger.accounts[worker], self.workers[worker]
        if self.current is not None or known.status == "evicted":
            return 0
        waited = known.status != "active" and not account.pending and known.left + self.options.escrow <= self.round
        return account.deposit if self.trained or waited else 0

    def vestable(self, worker: int) -> int:
        """What is pending of a worker and vests now, between rounds: all of it, once training is over."""
        return self.ledger.accounts[worker].pending if self.trained and self.current is None else 0

    @property
    def _begin(self) -> e.Begin:
        assert self.begin is not None, "the run has not begun"
        return self.begin
