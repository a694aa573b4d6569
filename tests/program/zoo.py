"""Small models of every kind that a program must hold, each with its loss, its fields and a way to make examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from podlt import models
from podlt.program.capture import capture
from podlt.program.ir import FieldSpec, Program

PIXELS = [FieldSpec("x", "u8", (64,), 1 / 255, "input"), FieldSpec("y", "i64", (), None, "label")]
TOKENS = [FieldSpec("x", "i64", (6,), None, "input"), FieldSpec("y", "i64", (6,), None, "label")]
FEW_TOKENS = [FieldSpec("x", "i64", (3,), None, "input"), FieldSpec("y", "i64", (3,), None, "label")]
"""For programs that grow with the positions of an example."""

TABLE = [
    FieldSpec("numeric", "f32", (4,), None, "input"),
    FieldSpec("categorical", "i64", (3,), None, "input"),
    FieldSpec("y", "u8", (), None, "label"),
]
NUMBERS = [FieldSpec("x", "f32", (4,), None, "input"), FieldSpec("y", "f32", (3,), None, "label")]


class Normalised(nn.Module):
    """Group norm, attention with a mask made in Python, and a buffer that is counted up in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
        self.norm = nn.GroupNorm(3, 6)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.silu(self.norm(self.first(x)))
        self.seen += 1
        self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)  # put in place of the old one
        return self.second(hidden) * torch.tensor([1.0, 2.0, 3.0])


def pooled() -> nn.Module:
    """Convolution, batch norm, maximum pooling."""
    return nn.Sequential(
        models.Image(1, 8),
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


CASES: dict[str, tuple[Callable[[], nn.Module], str, list[FieldSpec]]] = {
    "mlp": (lambda: models.mlp(64, 16, 10), "cross_entropy", PIXELS),
    "cnn": (lambda: models.cnn(8), "cross_entropy", PIXELS),
    "pooled": (pooled, "cross_entropy", PIXELS),
    "resnet": (lambda: models.resnet(8, width=4, blocks=1), "cross_entropy", PIXELS),
    "table": (lambda: models.embedding_mlp([2, 9, 3], 4, 8), "cross_entropy", TABLE),
    "gpt": (lambda: models.gpt(12, 6, 1, 2, 8), "token_cross_entropy", TOKENS),
    "gpt-dropout": (lambda: models.gpt(12, 6, 1, 2, 8, 0.2), "token_cross_entropy", TOKENS),
    "lstm": (lambda: models.lstm(12, 4), "token_cross_entropy", FEW_TOKENS),
    "gru": (lambda: models.gru(12, 4), "token_cross_entropy", FEW_TOKENS),
    "normalised": (Normalised, "mse", NUMBERS),
    "binary": (lambda: nn.Linear(4, 3), "bce", NUMBERS),
}
RANDOM = ("gpt-dropout",)
SLOW = ("gpt", "resnet", "lstm", "gru")


@dataclass(frozen=True)
class Case:
    """A model with the program that was captured from it."""

    model: nn.Module
    loss: str
    fields: list[FieldSpec]
    program: Program
    state: Mapping[str, torch.Tensor]

    def batch(self, examples: int, seed: int = 0) -> dict[str, torch.Tensor]:
        """Examples of the right types; whole numbers are 0 or 1, which every vocabulary and label here has."""
        generator = torch.Generator().manual_seed(seed)
        found = {}
        for field in self.fields:
            shape = (examples, *field.shape)
            if field.dtype == "f32":
                found[field.name] = torch.rand(shape, generator=generator)
            else:
                high = 256 if field.scale else 2
                found[field.name] = torch.randint(0, high, shape, generator=generator).to(
                    {"u8": torch.uint8, "i64": torch.int64}[field.dtype]
                )
        return found


def build(name: str, case: tuple[Callable[[], nn.Module], str, list[FieldSpec]]) -> Case:
    """A case captured, with the same initial parameters in every process."""
    make, loss, fields = case
    torch.manual_seed(sum(name.encode()))
    model = make()
    found = capture(model, loss, fields)
    return Case(model, loss, fields, found.program, found.state)


@cache
def case(name: str) -> Case:
    """A case of the zoo: captured once a process."""
    return build(name, CASES[name])
