"""What a run came to, as `podlt.train`, `podlt.serve` and `podlt.resume` return it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from podlt.data.spec import Column
from podlt.inference.description import read_description
from podlt.inference.loading import load_trained
from podlt.inference.predictor import Predictions, Predictor
from podlt.manager.directory import RunDirectory
from podlt.manager.metrics.stopping import BestCheckpoint, read_best
from podlt.manager.resume import replay_log
from podlt.protocol.ledger import Account


class Result(msgspec.Struct, frozen=True):
    """What a run came to.

    Attributes:
        run: its directory.
        module: the user's module with the trained parameters.
        metrics: on the test set, after the last epoch.
        rounds: how many there were.
        evicted: numbers of the workers that cheated.
        ledger: every worker's credits, by its number.
        treasury: the manager's own account, in credits.
        parameters: digest of the final parameters.
        ended: why training ended early; "" if it did not.
        best: which parameters best.safetensors has, None where the recipe keeps none.
    """

    run: Path
    module: nn.Module
    metrics: dict[str, float]
    rounds: int
    evicted: list[int]
    ledger: Mapping[int, Account]
    treasury: int
    parameters: bytes
    ended: str = ""
    best: BestCheckpoint | None = None

    @property
    def state_dict(self) -> dict[str, torch.Tensor]:
        """The trained module's state."""
        return self.module.state_dict()

    def predict(self, data: Any, id: Column | None = None) -> Predictions:
        """Predictions for new lines. Arguments and errors: as `podlt.inference.predictor.Predictor.predict`."""
        return Predictor(read_description(self.run), self.module).predict(data, id)


def load_result(run: Path, module: nn.Module) -> Result:
    """What a run came to, read from its directory; `module` takes the trained parameters."""
    directory = RunDirectory.existing(run)
    with closing(directory.log()) as store:
        state, applied, _ = replay_log(store)
    module = load_trained(directory.path, module)
    return Result(
        run=run,
        module=module,
        metrics={figure.name: figure.value for figure in state.last_measure.figures} if state.last_measure else {},
        rounds=state.round,
        evicted=[number for number, worker in state.workers.items() if worker.status == "evicted"],
        ledger=state.ledger.accounts,
        treasury=state.ledger.treasury,
        parameters=state.parameters,
        ended=state.ended.reason if state.ended is not None else "",
        best=read_best(directory, applied),
    )
