"""Learning rates against PyTorch's schedulers, and as functions of the examples that a run has seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from podlt.errors import UsageError
from podlt.program.optimizer import optimizer_from
from podlt.program.schedule import Horizon

STEPS = 40
RUN = Horizon(examples=400, epochs=10, per_round=100)


def rates(horizon: Horizon | None = RUN, examples: int = RUN.per_round, **spec: Any) -> list[float]:
    """Ours, after so many examples a step, until the run has seen them all."""
    optimizer = optimizer_from({"name": "sgd", "lr": 1.0, **spec}, horizon)
    return [optimizer.factor(seen) for seen in range(0, STEPS * RUN.per_round, examples)]


def pytorch_rates(make: Callable[[torch.optim.Optimizer], LRScheduler]) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = make(optimizer), []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("spec", "make"),
    [
        ({"schedule": "cosine"}, lambda o: CosineAnnealingLR(o, STEPS)),
        ({"schedule": "cosine", "min_lr_ratio": 0.1}, lambda o: CosineAnnealingLR(o, STEPS, eta_min=0.1)),
        ({"schedule": "linear"}, lambda o: LinearLR(o, 1.0, 0.0, STEPS)),
        ({"schedule": "onecycle"}, lambda o: OneCycleLR(o, 1.0, STEPS)),
        (
            {"schedule": "onecycle", "pct_start": 0.2, "div_factor": 10.0, "final_div_factor": 100.0},
            lambda o: OneCycleLR(o, 1.0, STEPS, pct_start=0.2, div_factor=10.0, final_div_factor=100.0),
        ),
        (
            {"schedule": "cosine", "warmup": 5},
            lambda o: SequentialLR(
                o, [LambdaLR(o, lambda step: (step + 1) / 5), CosineAnnealingLR(o, STEPS - 5)], milestones=[5]
            ),
        ),
        (
            {"schedule": "wsd", "warmup": 4, "decay": 0.25},
            lambda o: LambdaLR(o, lambda s: (s + 1) / 4 if s < 4 else 1.0 if s < 30 else 1.0 - (s - 30) / 10),
        ),
    ],
)
def test_a_schedule_is_pytorchs_over_a_whole_run(
    spec: dict[str, Any], make: Callable[[torch.optim.Optimizer], LRScheduler]
) -> None:
    assert rates(**spec) == pytest.approx(pytorch_rates(make), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd", "onecycle"])
def test_smaller_rounds_have_the_rates_of_the_examples_that_were_seen(schedule: str) -> None:
    """Whoever leaves makes rounds smaller, and more of them: none of them comes after the schedule's end."""
    full, half = rates(schedule=schedule), rates(schedule=schedule, examples=50)
    assert half[::2] == full
    assert min(half) > 0


def test_a_schedule_given_in_epochs_is_that_in_steps() -> None:
    assert rates(schedule="cosine", warmup_epochs=1.5) == rates(schedule="cosine", warmup=6)
    assert rates(schedule="linear", steps=20)[20:] == [0.0] * 20


def test_more_epochs_stretch_what_is_left() -> None:
    longer = Horizon(RUN.examples, 2 * RUN.epochs, RUN.per_round)
    assert rates(longer, schedule="linear")[20] == rates(schedule="linear")[10]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"schedule": "step"}, "expected constant, linear, cosine, wsd or onecycle"),
        ({"schedule": "cosine", "warmup": 3, "warmup_epochs": 0.5}, "not both"),
        ({"schedule": "onecycle", "warmup": 3}, "pct_start"),
        ({"schedule": "cosine", "warmup": 40}, "fewer than the 40 steps"),
        ({"schedule": "wsd", "decay": 1.5}, "decay: expected a part"),
        ({"schedule": "cosine", "min_lr_ratio": -0.1}, "min_lr_ratio"),
        ({"schedule": "onecycle", "div_factor": 0.5}, "div_factor"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rates(**spec)
