"""What a run came to, as `podlt.train`, `podlt.serve` and `podlt.resume` return it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import nn

from podlt.data.spec import Column
from podlt.inference.description import read_description
from podlt.inference.loading import load_trained
from podlt.inference.predictor import Predictions, Predictor
from podlt.manager.directory import RunDirectory
from podlt.manager.events import metrics_text
from podlt.manager.metrics.stopping import BestCheckpoint, read_best
from podlt.manager.resume import replay_log
from podlt.protocol.ledger import Account
from podlt.words import counted

if TYPE_CHECKING:
    from pandas import DataFrame


class Result(msgspec.Struct, frozen=True):
    """What a run came to.

    Attributes:
        run: its directory.
        model: the user's module with the trained parameters.
        metrics: on the test set, after the last epoch.
        rounds: how many there were.
        convicted: numbers of the workers that gave another result than the accepted one.
        evicted: those of them that may not come back; the others were suspended.
        ledger: every worker's credits, by its number.
        treasury: the manager's own account, in credits.
        parameters: digest of the final parameters.
        ended: why training ended early; "" if it did not.
        best: which parameters best.safetensors has, None where the recipe keeps none.
    """

    run: Path
    model: nn.Module
    metrics: dict[str, float]
    rounds: int
    convicted: list[int]
    evicted: list[int]
    ledger: Mapping[int, Account]
    treasury: int
    parameters: bytes
    ended: str = ""
    best: BestCheckpoint | None = None

    @property
    def state_dict(self) -> dict[str, torch.Tensor]:
        """The trained module's state."""
        return self.model.state_dict()

    @property
    def history(self) -> DataFrame:
        """An example a round: epoch, loss, examples, workers, convictions, seconds, and the figures of held-out
        examples.

        Figures are in the example of the round after which they were taken, and NaN in the others.

        Raises:
            MissingPackageError: pandas is not installed.
            UsageError: the run's directory is not there any more.
        """
        from podlt.report.history_table import history_table

        return history_table(self.run)

    def __repr__(self) -> str:
        convicted = f", {len(self.convicted)} convicted" if self.convicted else ""
        figures = f", {metrics_text(self.metrics)}" if self.metrics else ""
        return f"<podlt.Result {self.run}: {counted(self.rounds, 'round')}{figures}{convicted}>"

    def _repr_html_(self) -> str:
        """A small table, for notebooks."""
        figures = {name: metrics_text({name: value}).removeprefix(f"{name} ") for name, value in self.metrics.items()}
        facts = {
            **figures,
            "rounds": f"{self.rounds:,}",
            "convicted": f"workers {', '.join(map(str, self.convicted))}" if self.convicted else "nobody",
            "parameters": f"{self.parameters.hex()[:16]}...",
            "run": str(self.run),
        }
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
        return f"<table>{rows}</table>"

    def predict(self, data: Any, id: Column | None = None) -> Predictions:
        """Predictions for new examples. Arguments and errors: as `podlt.inference.predictor.Predictor.predict`."""
        return Predictor(read_description(self.run), self.model).predict(data, id)


def load_result(run: Path, module: nn.Module) -> Result:
    """What a run came to, read from its directory; `module` takes the trained parameters."""
    directory = RunDirectory.existing(run)
    with closing(directory.log()) as store:
        state, applied, _ = replay_log(store)
    module = load_trained(directory.path, module)
    return Result(
        run=run,
        model=module,
        metrics={figure.name: figure.value for figure in state.last_measure.figures} if state.last_measure else {},
        rounds=state.round,
        convicted=[number for number, worker in state.workers.items() if worker.convictions],
        evicted=[number for number, worker in state.workers.items() if worker.status == "evicted"],
        ledger=state.ledger.accounts,
        treasury=state.ledger.treasury,
        parameters=state.parameters,
        ended=state.ended.reason if state.ended is not None else "",
        best=read_best(directory, applied),
    )
