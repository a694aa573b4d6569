"""A model of your own: any `nn.Module`. Only the manager imports this file; workers get what was captured from it."""

from __future__ import annotations

import torch
from torch import nn


class Residual(nn.Module):
    """A small network for tables: it learns what a straight line leaves over."""

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.line = nn.Linear(columns, 1)
        self.rest = nn.Sequential(nn.Linear(columns, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, numeric: torch.Tensor) -> torch.Tensor:
        """(examples, columns) -> (examples,): one number an example."""
        return (self.line(numeric) + self.rest(numeric)).squeeze(1)


def build(columns: int, hidden: int = 32) -> nn.Module:
    """What the recipe names."""
    return Residual(columns, hidden)
