"""What a run came to, in the figures that people ask for first."""

from __future__ import annotations

from pathlib import Path

import msgspec

from podlt.report.figures import Figures, read_figures
from podlt.report.history import History, read_history


class SimulatedCheater(msgspec.Struct, frozen=True):
    """A worker that simulated a cheat, in a demonstration.

    Attributes:
        worker: its number.
        kind: of cheat.
        began: the round of its first fake, or None if it never got to one.
        evicted: the round that convicted it, if any.
        fakes: how many it gave.
        applied: how many of them went into the parameters.
        vested: credits that became its own from its first fake on.
    """

    worker: int
    kind: str
    began: int | None
    evicted: int | None
    fakes: int
    applied: int
    vested: int

    @property
    def lasted(self) -> int | None:
        """Rounds from its first fake to its eviction, both counted."""
        return self.evicted - self.began + 1 if self.evicted is not None and self.began is not None else None


class Summary(msgspec.Struct, frozen=True):
    """A run's figures.

    Attributes:
        status: how far the run is, for people.
        metrics: on the test set, after the last epoch.
        epochs: how many are whole.
        rounds: that were trained.
        updates: fragments' results that went into the model.
        lines: that were trained on.
        seconds: of training, 0 if it was not measured.
        workers: in all.
        left: workers that are still active.
        spare_share: tasks that only repeat another, of all.
        proof_share: of the measured work, what went to hashes, signatures and the log.
        proofs: fragments whose results are all the same.
        disputes: rounds in which the results were not all the same.
        evicted: numbers of workers.
        cheaters: workers that simulate cheats.
        honest_evicted: workers that were convicted and simulate no cheat.
        withdrawn: how many withdrawals there were.
    """

    status: str
    metrics: dict[str, float]
    epochs: int
    rounds: int
    updates: int
    lines: int
    seconds: float
    workers: int
    left: int
    spare_share: float
    proof_share: float | None
    proofs: int
    disputes: int
    evicted: list[int]
    cheaters: list[SimulatedCheater]
    honest_evicted: list[int]
    withdrawn: int

    @property
    def lines_per_second(self) -> float | None:
        """Useful lines a second, or None if nothing was measured."""
        return self.lines / self.seconds if self.seconds else None

    @property
    def demonstration(self) -> bool:
        """Whether workers simulated cheats."""
        return bool(self.cheaters)


def summarise(run: Path) -> Summary:
    """The summary of a run, from its directory, bundle or log.

    Raises:
        UsageError: there is no run.
        InvalidProofError: its log breaks the rules.
    """
    return summary_of(read_history(run), read_figures(run))


def summary_of(history: History, figures: Figures) -> Summary:
    """The summary of a history and its figures."""
    trained, evictions = history.trained, history.evictions()
    useful, spare = sum(row.useful for row in history.rounds), sum(row.spare for row in trained)
    compute, proof = figures.spent.compute, figures.spent.proof
    return Summary(
        status=history.status(),
        metrics=history.measured[-1].metrics if history.measured else {},
        epochs=history.state.epoch,
        rounds=len(trained),
        updates=sum(row.useful for row in trained),
        lines=sum(row.lines for row in trained),
        seconds=figures.spent.seconds,
        workers=len(history.state.workers),
        left=len(history.state.active()),
        spare_share=spare / (useful + spare) if useful else 0.0,
        proof_share=proof / (compute + proof) if compute else None,
        proofs=sum(row.outcome == "agree" for row in history.rounds),
        disputes=sum(row.outcome not in ("", "agree") for row in history.rounds),
        evicted=sorted(evictions),
        cheaters=[_cheater(worker, kind, history, figures) for worker, kind in sorted(figures.cheats.items())],
        honest_evicted=sorted(set(evictions) - set(figures.cheats)) if figures.cheats else [],
        withdrawn=len(history.withdrawn),
    )


def _cheater(worker: int, kind: str, history: History, figures: Figures) -> SimulatedCheater:
    fakes = figures.fakes[worker]
    conviction = history.evictions().get(worker)
    return SimulatedCheater(
        worker=worker,
        kind=kind,
        began=fakes.first,
        evicted=conviction.number if conviction is not None else None,
        fakes=fakes.given,
        applied=fakes.applied,
        vested=sum(
            row.vested.get(worker, 0) for row in history.rounds if fakes.first is not None and row.number >= fakes.first
        ),
    )
