"""What a run came to, as `podlt.train`, `podlt.serve` and `podlt.resume` return it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import msgspec
import torch
from safetensors.torch import load_file
from torch import nn

from podlt.manager.directory import RunDirectory
from podlt.manager.metrics import load_state
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
    best: BestCheckpoint | None = None

    @property
    def state_dict(self) -> dict[str, torch.Tensor]:
        """The trained module's state."""
        return self.module.state_dict()


def load_result(run: Path, module: nn.Module) -> Result:
    """What a run came to, read from its directory; `module` takes the trained parameters."""
    directory = RunDirectory.existing(run)
    with closing(directory.log()) as store:
        state, applied, _ = replay_log(store)
    load_state(module, {f"param:{name}": value for name, value in load_file(directory.model).items()})
    return Result(
        run=run,
        module=module,
        metrics={figure.name: figure.value for figure in state.last_measure.figures} if state.last_measure else {},
        rounds=state.round,
        evicted=[number for number, worker in state.workers.items() if worker.status == "evicted"],
        ledger=state.ledger.accounts,
        treasury=state.ledger.treasury,
        parameters=state.parameters,
        best=read_best(directory, applied),
    )
