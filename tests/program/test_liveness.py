"""How much memory a program's values take at once: what gradient checkpointing in the user's model is for."""

from __future__ import annotations

from math import prod

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from podlt.program.capture import capture
from podlt.program.ir import ITEM_BYTES, FieldSpec, Program
from podlt.program.liveness import VIEWS, last_uses

FIELDS = [FieldSpec("x", "f32", (16,), None, "input"), FieldSpec("y", "i64", (), None, "label")]


class Deep(nn.Module):
    def __init__(self, *, checkpointed: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh()) for _ in range(4)
        )
        self.head = nn.Linear(16, 3)
        self._checkpointed = checkpointed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self._checkpointed else block(x)
        return self.head(x)


def peak_bytes(program: Program, examples: int) -> int:
    """The most that values take at once, without inputs, outputs and views."""
    outputs, live, peak = {value for _, value in program.outputs}, 0, 0

    def size(value: int) -> int:
        return prod(program.types[value].at(examples)) * ITEM_BYTES[program.types[value].dtype]

    made = {v for n in program.nodes if n.operation not in VIEWS for v in n.outputs} - outputs
    for node, dying in zip(program.nodes, last_uses(program), strict=True):
        live += sum(size(value) for value in node.outputs if value in made)
        peak = max(peak, live)
        live -= sum(size(value) for value in dying if value in made)
    return peak


def test_gradient_checkpoints_in_a_model_take_more_operations_and_less_memory() -> None:
    plain, checkpointed = (
        capture(Deep(checkpointed=on), "cross_entropy", FIELDS, "exact/2").program for on in (False, True)
    )
    assert len(checkpointed.nodes) > len(plain.nodes)
    assert peak_bytes(checkpointed, 1000) < 0.75 * peak_bytes(plain, 1000)
