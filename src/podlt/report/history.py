"""A run as a table of rounds and a table of workers: what plots, summaries and overviews are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from podlt.errors import UsageError
from podlt.protocol import entries as e
from podlt.protocol.round import RevealedRound
from podlt.protocol.rules import RunState
from podlt.report.fold import Visit, walk


class RoundRow(msgspec.Struct):
    """One round that was paid.

    Attributes:
        number: from 0.
        epoch: from 0.
        examples: that it trained on.
        workers: how many were active when it opened.
        started: milliseconds of the manager's clock when it opened.
        useful: tasks whose results were to be applied.
        spare: results that only repeat another: of spares, and of backups that came besides.
        loss: the mean over its examples.
        checked: the shards that were given to spares as well.
        own: those that the manager executed, whatever the results were.
        agreed: shards on which all results are the same.
        disputes: the other verdicts.
        clipped: the shards whose update was scaled down, and by which power of two at most.
        suspended: workers that it convicted for the first time, and that may come back.
        evicted: the other workers that it convicted.
        vested: worker -> credits that became its own.
        at: milliseconds of the manager's clock when it was paid.
    """

    number: int
    epoch: int
    examples: int
    workers: int
    started: int
    useful: int = 0
    spare: int = 0
    loss: float | None = None
    checked: list[int] = []
    own: list[int] = []
    agreed: list[int] = []
    disputes: list[e.Verdict] = []
    clipped: dict[int, int] = {}
    suspended: list[int] = []
    evicted: list[int] = []
    vested: dict[int, int] = {}
    at: int = 0

    @property
    def convicted(self) -> list[int]:
        """The workers that it convicted, ascending."""
        return sorted([*self.suspended, *self.evicted])

    @property
    def executed(self) -> list[int]:
        """The shards that the manager executed itself, ascending."""
        return sorted({*self.own, *(verdict.shard for verdict in self.disputes if verdict.outcome == "referee")})


class EpochMetrics(msgspec.Struct, frozen=True):
    """Figures on the test set after an epoch, as the log has them."""

    epoch: int
    metrics: dict[str, float]


class History(msgspec.Struct):
    """What a log says, up to its last entry.

    Attributes:
        begin: the first entry.
        state: the run after the last.
        rounds: those that were paid.
        measured: figures of each epoch.
        entries: how many there are.
        withdrawn: (round, worker, reason) of every one who left without fraud.
        resumed: how often the run was resumed.
        started: milliseconds of the manager's clock at the first entry.
        ended: milliseconds of the manager's clock at the last entry.
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

    def convictions(self) -> dict[int, RoundRow]:
        """Worker -> the first round that convicted it."""
        return {worker: row for row in reversed(self.rounds) for worker in row.convicted}

    def operators(self) -> dict[str, list[int]]:
        """The operators that are named -> their workers."""
        found: dict[str, list[int]] = {}
        for number, worker in sorted(self.state.workers.items()):
            if worker.operator:
                found.setdefault(worker.operator, []).append(number)
        return found

    def amended(self) -> str:
        """Where terms changed, and why; "" if they never did."""
        return "; ".join(f"after {steps:,} rounds: {entry.reason}" for steps, entry in self.state.amendments)

    def status(self) -> str:
        """How far the run is, in a word or two."""
        closed = self.state.closed
        if closed is None:
            return "not finished"
        if closed.outcome == "complete" and self.state.ended is not None:
            return f"complete, ended early: {self.state.ended.reason}"
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
        """Takes the next entry, with the state after it."""
        take = _TAKERS.get(type(visit.entry))
        if take is not None:
            take(self, visit, visit.entry)

    def _open(self, visit: Visit, entry: e.Open) -> None:
        assert visit.round is not None
        self._row = RoundRow(entry.round, entry.epoch, entry.examples, visit.round.size, entry.at)

    def _withdraw(self, visit: Visit, entry: e.Withdraw) -> None:
        self.withdrawn.append((visit.state.round, entry.worker, entry.reason))

    def _measure(self, visit: Visit, entry: e.Measure) -> None:
        self.measured.append(EpochMetrics(entry.epoch, {f.name: f.value for f in entry.figures}))

    def _resume(self, visit: Visit, entry: e.Resume) -> None:
        self.resumed += 1

    def _reveal(self, visit: Visit, entry: e.Reveal) -> None:
        row, round = self._row, visit.round
        assert row is not None and isinstance(round, RevealedRound)
        row.useful = len(round.open.shards)
        row.spare = len(entry.openings) - row.useful
        row.checked, row.own = round.roles.checked, round.roles.own

    def _verdict(self, visit: Visit, entry: e.Verdict) -> None:
        assert self._row is not None
        if entry.outcome == "agree":
            self._row.agreed.append(entry.shard)
        else:
            self._row.disputes.append(entry)

    def _apply(self, visit: Visit, entry: e.Apply) -> None:
        assert self._row is not None
        self._row.loss = entry.loss
        for part in entry.clipped:
            self._row.clipped[part.shard] = max(part.exponent, self._row.clipped.get(part.shard, 0))

    def _pay(self, visit: Visit, entry: e.Pay) -> None:
        assert self._row is not None and isinstance(visit.round, RevealedRound)
        self._row.at = entry.at
        for worker in sorted(visit.round.convicted()):
            evicted = visit.state.workers[worker].status == "evicted"
            (self._row.evicted if evicted else self._row.suspended).append(worker)
        self._row.vested = {t.worker: t.amount for t in entry.transfers if t.kind == "vest"}
        self.rounds.append(self._row)
        self._row = None


_TAKERS: dict[type[Any], Callable[[_Fold, Visit, Any], None]] = {
    e.Open: _Fold._open,
    e.Withdraw: _Fold._withdraw,
    e.Measure: _Fold._measure,
    e.Resume: _Fold._resume,
    e.Reveal: _Fold._reveal,
    e.Verdict: _Fold._verdict,
    e.Apply: _Fold._apply,
    e.Pay: _Fold._pay,
}


def read_history(run: Path) -> History:
    """The history of a run, from its directory, bundle or log.

    Raises:
        UsageError: there is no run.
        InvalidProofError: its log breaks the rules.
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
