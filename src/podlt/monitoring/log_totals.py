"""Totals over a run's own log, read while the manager writes it: of what is on the disk, so they survive a restart.

Events tell what happens now, and begin anew with every process. Credits, convictions and tasks that were dealt again
are in the log, so they are read from there: a manager that was killed and resumed has the totals that it had.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from podlt.canonical import UNREADABLE
from podlt.errors import PodltError
from podlt.protocol import entries as e
from podlt.report.fold import decode, open_log
from podlt.store.run_files import RunLog
from podlt.store.run_names import ROUNDS

LONGEST_LINE = 2**20


class LogTotals(msgspec.Struct):
    """What a log comes to, up to some entry.

    Attributes:
        entries: how many were read.
        rounds: how many trained.
        examples: that were trained on, over all epochs.
        epoch: of the last round, from 0.
        loss: of the last round.
        figures: on the test set, of the last epoch that was measured.
        workers: number -> "active", "withdrawn", "suspended" or "evicted".
        convictions: how often workers were convicted, by the verdict's outcome.
        withdrawals: of workers that went without fraud.
        returns: of workers that had withdrawn, or were suspended.
        redeals: tasks that were dealt again.
        agreements: shards whose results were all the same.
        executions: shards that the manager executed itself.
        clipped: updates that were scaled down before they were averaged.
        pending: credits in escrow.
        vested: credits that are earned for good.
        forfeited: credits that convicted workers lost.
        deposits: credits that are held.
        returned: credits of deposits that were given back.
        seized: credits of deposits that were lost.
        at: the manager's clock at the last entry, in milliseconds.
        closed: "complete" or "stopped", and empty while the run goes on.
        round_examples: of the round in progress.
        convicted: in the round in progress: worker -> the outcome of the first verdict that names it.
        faults: worker -> how often it was convicted.
        refunded: active workers that were given their deposit back, as training was over.
        evicts: whether a first conviction evicts.
        epochs: how many there are to be; as many are done where training is over.
    """

    entries: int = 0
    rounds: int = 0
    examples: int = 0
    epoch: int = 0
    loss: float | None = None
    figures: dict[str, float] = {}
    workers: dict[int, str] = {}
    convictions: dict[str, int] = {}
    withdrawals: int = 0
    returns: int = 0
    redeals: int = 0
    agreements: int = 0
    executions: int = 0
    clipped: int = 0
    pending: int = 0
    vested: int = 0
    forfeited: int = 0
    deposits: int = 0
    returned: int = 0
    seized: int = 0
    at: int = 0
    closed: str = ""
    round_examples: int = 0
    convicted: dict[int, str] = {}
    faults: dict[int, int] = {}
    refunded: set[int] = set()
    levels: dict[int, int] = {}
    share_changes: int = 0
    evicts: bool = False
    epochs: int = 0

    def take(self, entry: e.AnyEntry) -> None:
        """Takes the next entry. It was applied by the rules before it was written; they are not applied again."""
        self.entries, self.at = self.entries + 1, entry.at
        take = _TAKERS.get(type(entry))
        if take is not None:
            take(self, entry)

    def _begin(self, entry: e.Begin) -> None:
        self.evicts, self.epochs = entry.first_fault == "evict", entry.epochs

    def _join(self, entry: e.Join) -> None:
        self.returns += entry.worker in self.workers
        self.refunded.discard(entry.worker)
        self.workers[entry.worker] = "active"
        self.deposits += entry.deposit

    def _withdraw(self, entry: e.Withdraw) -> None:
        self.withdrawals += 1
        self.workers[entry.worker] = "withdrawn"

    def _shares(self, entry: e.Shares) -> None:
        self.share_changes += 1
        self.levels |= {change.worker: change.level for change in entry.levels}

    def _open(self, entry: e.Open) -> None:
        self.round_examples, self.epoch = entry.examples, entry.epoch

    def _redeal(self, entry: e.Redeal) -> None:
        self.redeals += 1

    def _apply(self, entry: e.Apply) -> None:
        self.rounds, self.examples, self.loss = self.rounds + 1, self.examples + self.round_examples, entry.loss
        self.clipped += len({part.shard for part in entry.clipped})

    def _measure(self, entry: e.Measure) -> None:
        self.figures = {figure.name: figure.value for figure in entry.figures}

    def _pay(self, entry: e.Pay) -> None:
        for worker, outcome in self.convicted.items():
            last = self.evicts or worker in self.faults
            self.faults[worker] = self.faults.get(worker, 0) + 1
            self.workers[worker] = "evicted" if last else "suspended"
            self.convictions[outcome] = self.convictions.get(outcome, 0) + 1
        self.convicted.clear()
        self._transfer(entry.transfers)

    def _release(self, entry: e.Release) -> None:
        self.refunded |= {
            t.worker for t in entry.transfers if t.kind == "return" and self.workers[t.worker] == "active"
        }
        self._transfer(entry.transfers)

    def _transfer(self, transfers: list[e.Transfer]) -> None:
        for transfer in transfers:
            self._move(transfer)

    def _close(self, entry: e.Close) -> None:
        self.closed = entry.outcome

    def _resume(self, entry: e.Resume) -> None:
        self.closed = ""

    def _amend(self, entry: e.Amend) -> None:
        if self.closed:  # everybody joins again for another part
            gone = {number for number, status in self.workers.items() if status == "active"}
        else:  # so does who was given its deposit back: that training was over holds no more, unless it ends again here
            gone = self.refunded if entry.epochs > self.epochs else set()
        self.workers |= dict.fromkeys(gone, "withdrawn")
        self.refunded, self.epochs, self.closed = self.refunded - gone, entry.epochs, ""

    def _judge(self, verdict: e.Verdict) -> None:
        self.agreements += verdict.outcome == "agree"
        self.executions += verdict.outcome == "referee" or verdict.reason == "own"
        for worker in verdict.convicted:
            self.convicted.setdefault(worker, verdict.outcome)

    def _move(self, transfer: e.Transfer) -> None:
        kind, amount = transfer.kind, transfer.amount
        self.pending += {"earn": amount, "vest": -amount, "forfeit": -amount}.get(kind, 0)
        self.vested += amount if kind == "vest" else 0
        self.forfeited += amount if kind == "forfeit" else 0
        self.seized += amount if kind == "seize" else 0
        self.deposits -= amount if kind in ("seize", "return") else 0
        self.returned += amount if kind == "return" else 0


_TAKERS: dict[type[Any], Callable[[LogTotals, Any], None]] = {
    e.Begin: LogTotals._begin,
    e.Join: LogTotals._join,
    e.Withdraw: LogTotals._withdraw,
    e.Shares: LogTotals._shares,
    e.Open: LogTotals._open,
    e.Redeal: LogTotals._redeal,
    e.Verdict: LogTotals._judge,
    e.Apply: LogTotals._apply,
    e.Measure: LogTotals._measure,
    e.Pay: LogTotals._pay,
    e.Release: LogTotals._release,
    e.Close: LogTotals._close,
    e.Resume: LogTotals._resume,
    e.Amend: LogTotals._amend,
}


class ProcessorSeconds(msgspec.Struct):
    """Seconds, summed over processes and threads: of computing, and of hashes, signatures and comparisons."""

    compute: float = 0.0
    proof: float = 0.0


class LogFollower:
    """Follows the log of a run in progress.

    Args:
        run: its directory.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self.totals, self.spent = LogTotals(), ProcessorSeconds()
        self.problem = ""
        self._store: RunLog | None = None
        self._offset = 0
        self._lock = threading.Lock()

    def catch_up(self, seconds: float = 2.0) -> bool:
        """Reads what was added since the last call, for at most so many seconds; returns whether that was all.

        A log that cannot be read stops nothing: `problem` says why, and the totals stay as they are.
        """
        until = time.monotonic() + seconds
        with self._lock:
            self.problem = ""
            try:
                self._store = self._store or open_log(self._run)
                for number, _, body in self._store.entries(self.totals.entries):
                    self.totals.take(decode(number, body))
                    if time.monotonic() > until:
                        return False
                self._read_figures()
            except (PodltError, OSError) as error:
                self.problem = str(error)
                return False
            return True

    def close(self) -> None:
        """Closes the log."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _read_figures(self) -> None:
        """Adds the whole lines of rounds.jsonl; they are no part of the proof: what is not understood is left
        out."""
        path = self._run / ROUNDS
        if not path.is_file():
            return
        with path.open("rb") as file:
            file.seek(self._offset)
            while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
                self._offset += len(line)
                try:
                    found = msgspec.json.decode(line, type=ProcessorSeconds)
                except UNREADABLE:
                    continue
                self.spent.compute += found.compute
                self.spent.proof += found.proof
