"""What is tried before a run is made: a task of two examples, in the run's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from near_hosts import hosts_in_threads
from small_runs import small_recipe
from torch import nn

import podlt
from podlt.manager import events as ev
from podlt.manager import precheck


class Wave(nn.Module):
    """A sine of large values, which PyTorch computes and exact arithmetic does not."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores."""
        found: torch.Tensor = self.head(torch.sin(x * 2.0**24))
        return found


def test_what_the_arithmetic_does_not_compute_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    model = Wave()
    x, y = np.random.default_rng(1).random((40, 4), np.float32) + 1, np.arange(40) % 2
    with hosts_in_threads(), pytest.raises(podlt.UsageError, match="sin"):
        podlt.train(model, (x, y), workers=3, batch_size=20, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_how_far_the_check_of_the_arithmetic_is_is_said_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def checked(arithmetic: str, *, progress: Callable[[int, int], None]) -> SimpleNamespace:
        for done in (0, 3, 10, 10, 10, 15, 20, 20):
            progress(done, 20)
        return SimpleNamespace(require=lambda who: None)

    said: list[ev.Event] = []
    monkeypatch.setattr(precheck, "conformance", checked)
    precheck.check_machine(small_recipe(arithmetic="exact"), said.append)
    assert [event.done for event in said if isinstance(event, ev.Preparing)] == [0, 10, 20]
