"""A user's own module, in a file that knows nothing of podlt."""

from __future__ import annotations

import torch
from torch import nn


class Tied(nn.Module):
    """A decoder that shares its encoder's weight, a buffer that is not saved, BatchNorm, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.encode = nn.Linear(8, 8, bias=False)
        self.decode = nn.Linear(8, 8, bias=False)
        self.decode.weight = self.encode.weight
        self.frozen = nn.Linear(8, 8)
        self.frozen.requires_grad_(False)
        self.last = nn.Linear(8, 3)
        self.register_buffer("places", torch.linspace(0.0, 1.0, 8), persistent=False)
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.norm(self.first(x))) + self.places
        return self.last(self.frozen(self.decode(torch.relu(self.encode(hidden)))))


def tied(seed: int = 0) -> nn.Module:
    """One with its own first parameters."""
    torch.manual_seed(seed)
    return Tied()
