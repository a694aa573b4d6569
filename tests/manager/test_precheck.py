"""What is tried before a run is made: a task of two lines, in the run's own arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from near_hosts import hosts_in_threads
from torch import nn

import podlt


def test_an_operation_that_the_arithmetic_lacks_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """PyTorch computes in three dimensions of space, and exact arithmetic does not yet."""
    model = nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten(), nn.Linear(16, 2))
    x, y = np.random.default_rng(1).random((40, 1, 3, 3, 3), np.float32), np.arange(40) % 2
    with hosts_in_threads(), pytest.raises(podlt.UsageError, match="one or two dimensions in space"):
        podlt.train(model, (x, y), workers=3, block_lines=20, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
