"""Small data and a small module, as a Python program has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from near_hosts import hosts_in_threads
from torch import nn

import podlt

EXAMPLES = 120
SMALL: dict[str, Any] = {"workers": 4, "batch_size": 40, "test_fraction": 0.25, "arithmetic": "stock", "processes": 1}
"""Three rounds an epoch, over hosts in threads."""


def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Points of four numbers, in three classes by the largest of the first three."""
    dice = np.random.default_rng(1)
    x = dice.normal(size=(EXAMPLES, 4)).astype(np.float32)
    return x, x[:, :3].argmax(1)


def network() -> nn.Module:
    """The same parameters every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def train_objects(path: Path, **options: Any) -> podlt.Result:
    """A small run by objects."""
    with hosts_in_threads():
        return podlt.train(network(), arrays(), run=path, **{**SMALL, **options})
