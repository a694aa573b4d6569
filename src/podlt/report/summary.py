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
        convicted: the first round that convicted it, if any.
        status: what it is at the end.
        fakes: how many it gave.
        applied: how many of them went into the parameters.
        vested: credits that became its own from its first fake on.
        forfeited: credits that it lost.
    """

    worker: int
    kind: str
    began: int | None
    convicted: int | None
    status: str
    fakes: int
    applied: int
    vested: int
    forfeited: int

    @property
    def lasted(self) -> int | None:
        """Rounds from its first fake to its conviction, both counted."""
        return self.convicted - self.began + 1 if self.convicted is not None and self.began is not None else None


class Summary(msgspec.Struct, frozen=True):
    """A run's figures.

    Attributes:
        status: how far the run is, for people.
        metrics: on the test set, after the last epoch.
        epochs: how many are whole.
        rounds: that were trained.
        updates: shards' results that went into the model.
        examples: that were trained on.
        seconds: of training, 0 if it was not measured.
        workers: in all.
        left: workers that are still active.
        spare_share: tasks that only repeat another, of all.
        proof_share: of the measured work, what went to hashes, signatures and the log.
        proofs: shards whose results are all the same.
        disputes: shards whose results are not.
        executed: shards that the manager executed itself.
        clipped: updates that were scaled down before they were averaged.
        convicted: numbers of workers.
        evicted: those of them that may not come back.
        votes: whether two of three outvote the third: `classic`.
        cheaters: workers that simulate cheats.
        honest_convicted: workers that were convicted and simulate no cheat.
        withdrawn: how many withdrawals there were.
    """

    status: str
    metrics: dict[str, float]
    epochs: int
    rounds: int
    updates: int
    examples: int
    seconds: float
    workers: int
    left: int
    spare_share: float
    proof_share: float | None
    proofs: int
    disputes: int
    executed: int
    clipped: int
    convicted: list[int]
    evicted: list[int]
    votes: bool
    cheaters: list[SimulatedCheater]
    honest_convicted: list[int]
    withdrawn: int

    @property
    def examples_per_second(self) -> float | None:
        """Useful examples a second, or None if nothing was measured."""
        return self.examples / self.seconds if self.seconds else None

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
    rounds, convictions, workers = history.rounds, history.convictions(), history.state.workers
    useful, spare = sum(row.useful for row in rounds), sum(row.spare for row in rounds)
    compute, proof = figures.spent.compute, figures.spent.proof
    return Summary(
        status=history.status(),
        metrics=history.measured[-1].metrics if history.measured else {},
        epochs=history.state.epoch,
        rounds=len(rounds),
        updates=useful,
        examples=sum(row.examples for row in rounds),
        seconds=figures.spent.seconds,
        workers=len(history.state.workers),
        left=len(history.state.active()),
        spare_share=spare / (useful + spare) if useful else 0.0,
        proof_share=proof / (compute + proof) if compute else None,
        proofs=sum(len(row.agreed) for row in rounds),
        disputes=sum(len(row.disputes) for row in rounds),
        executed=sum(len(row.executed) for row in rounds),
        clipped=sum(len(row.clipped) for row in rounds),
        convicted=sorted(convictions),
        evicted=sorted(number for number in convictions if workers[number].status == "evicted"),
        votes=history.state.options.votes,
        cheaters=[_cheater(worker, kind, history, figures) for worker, kind in sorted(figures.cheats.items())],
        honest_convicted=sorted(set(convictions) - set(figures.cheats)) if figures.cheats else [],
        withdrawn=len(history.withdrawn),
    )


def _cheater(worker: int, kind: str, history: History, figures: Figures) -> SimulatedCheater:
    fakes = figures.fakes[worker]
    conviction = history.convictions().get(worker)
    return SimulatedCheater(
        worker=worker,
        kind=kind,
        began=fakes.first,
        convicted=conviction.number if conviction is not None else None,
        status=history.state.workers[worker].status,
        fakes=fakes.given,
        applied=fakes.applied,
        vested=sum(
            row.vested.get(worker, 0) for row in history.rounds if fakes.first is not None and row.number >= fakes.first
        ),
        forfeited=history.state.ledger.accounts[worker].forfeited,
    )
