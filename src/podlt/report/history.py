"""A run as a table of rounds and a table of workers: what plots, summaries and overviews are made of."""

from __future__ import annotations

from pathlib import Path

import msgspec

from podlt.errors import UsageError
from podlt.protocol import entries as e
from podlt.protocol.round import RevealedRound, RoundState
from podlt.protocol.rules import RunState
from podlt.report.fold import Visit, walk


class RoundRow(msgspec.Struct):
    """One round that was paid.

    Attributes:
        workers: how many were active when it opened; checked: the fragment that was compared, and `outcome` what came
            of it; evicted, vested: in this round; useful, spare: tasks, `spare` those that only repeat another;
        at: milliseconds of the manager's clock when it was paid; started: when it opened.
    """

    number: int
    purpose: str
    epoch: int
    lines: int
    workers: int
    started: int
    useful: int = 0
    spare: int = 0
    loss: float | None = None
    checked: int = 0
    outcome: str = ""
    evicted: list[int] = []
    vested: dict[int, int] = {}
    at: int = 0


class EpochMetrics(msgspec.Struct, frozen=True):
    """Figures on the test set after an epoch, as the log has them."""

    epoch: int
    metrics: dict[str, float]


class History(msgspec.Struct):
    """What a log says, up to its last entry.

    Attributes:
        begin: the first entry. state: the run after the last. rounds: those that were paid. measured: figures of each
            epoch. entries: how many there are. withdrawn: (round, worker, reason) of every one who left without
            fraud. resumed: how often the run was resumed. started, ended: milliseconds of the manager's clock.
    """

    begin: e.Begin
    state: RunState
    rounds: list[RoundRow]
    measured: list[EpochMetrics]
    entries: int
    withdrawn: list[tuple[int, int, str]]
    resumed: int
    started: int
    ended: int

    @property
    def trained(self) -> list[RoundRow]:
        """The rounds whose updates were applied; the closing settlement is none."""
        return [row for row in self.rounds if row.purpose == "train"]

    def evictions(self) -> dict[int, RoundRow]:
        """Worker -> the round that convicted it."""
        return {worker: row for row in self.rounds for worker in row.evicted}

    def status(self) -> str:
        """How far the run is, in a word or two."""
        closed = self.state.closed
        if closed is None:
            return "not finished"
        return closed.outcome if not closed.reason else f"{closed.outcome}: {closed.reason}"


class _Fold:
    """Collects a history from visits."""

    def __init__(self) -> None:
        self.rounds: list[RoundRow] = []
        self.measured: list[EpochMetrics] = []
        self.withdrawn: list[tuple[int, int, str]] = []
        self.resumed = 0
        self._row: RoundRow | None = None

    def take(self, visit: Visit) -> None:
        entry, row = visit.entry, self._row
        if isinstance(entry, e.Open):
            assert visit.round is not None
            self._row = RoundRow(entry.round, entry.purpose, entry.epoch, entry.lines, visit.round.size, entry.at)
        elif isinstance(entry, e.Withdraw):
            self.withdrawn.append((visit.state.round, entry.worker, entry.reason))
        elif isinstance(entry, e.Measure):
            self.measured.append(EpochMetrics(entry.epoch, {f.name: f.value for f in entry.figures}))
        elif isinstance(entry, e.Resume):
            self.resumed += 1
        elif row is not None and visit.round is not None:
            self._add(row, entry, visit.round)

    def _add(self, row: RoundRow, entry: e.Entry, round: RoundState) -> None:
        if isinstance(entry, e.Reveal):
            assert isinstance(round, RevealedRound)
            row.useful = len(round.open.fragments) if row.purpose == "train" else 0
            row.spare = len(entry.openings) - row.useful
            row.checked = round.roles.checked
        elif isinstance(entry, e.Verdict):
            row.evicted += entry.evicted
            if entry.fragment == row.checked:
                row.outcome = entry.outcome
        elif isinstance(entry, e.Apply):
            row.loss = entry.loss
        elif isinstance(entry, e.Pay):
            row.at = entry.at
            row.vested = {t.worker: t.amount for t in entry.transfers if t.kind == "vest"}
            self.rounds.append(row)
            self._row = None


def read_history(run: Path) -> History:
    """The history of a run, from its directory, bundle or log.

    Raises:
        UsageError: there is no run; InvalidProofError: its log breaks the rules.
    """
    fold, visit, started = _Fold(), None, 0
    for visit in walk(run):
        started = started or visit.entry.at
        fold.take(visit)
    if visit is None or visit.state.begin is None:
        raise UsageError(f"{run}: the log is empty: nothing was trained yet")
    return History(
        begin=visit.state.begin,
        state=visit.state,
        rounds=fold.rounds,
        measured=fold.measured,
        entries=visit.number + 1,
        withdrawn=fold.withdrawn,
        resumed=fold.resumed,
        started=started,
        ended=visit.entry.at,
    )
