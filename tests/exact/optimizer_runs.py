"""Twenty steps of each optimiser from fixed words: run as a script it prints a digest each, as JSON."""

from __future__ import annotations

import hashlib
import json

import torch

from podlt.exact.samples import EDGES, values
from podlt.program.optimizer import optimizer_from

STEPS = 20
SPECS = {
    "sgd": {"name": "sgd", "lr": 0.1},
    "sgd momentum": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "sgd nesterov": {
        "name": "sgd",
        "lr": 0.03,
        "momentum": 0.9,
        "nesterov": True,
        "schedule": "cosine",
        "warmup": 3,
        "steps": 20,
    },
    "adamw": {"name": "adamw", "lr": 0.001},
    "adamw scheduled": {
        "name": "adamw",
        "lr": 0.01,
        "betas": [0.8, 0.95],
        "eps": 1e-5,
        "weight_decay": 0.1,
        "schedule": "linear",
        "warmup": 2,
        "steps": 20,
    },
}


def start() -> torch.Tensor:
    """Parameters (1014,) float32, subnormals and both zeros among them."""
    return torch.cat([values(300, 1000), torch.tensor(EDGES)])


def gradient(step: int) -> torch.Tensor:
    """A gradient for them: of ordinary size, and some so small that their squares are subnormal or nothing."""
    small = values(320 + step, 14) * torch.tensor([1e-45, 1e-30, 1e-22, 1e-19, 0.0, -0.0, 1.0] * 2)
    return torch.cat([values(340 + step, 1000) * 0.01, small])


def trained(spec: dict[str, object]) -> list[torch.Tensor]:
    """Parameters and state after so many steps."""
    optimizer = optimizer_from(spec)
    parameters = start()
    state = optimizer.init(parameters.numel())
    for step in range(STEPS):
        optimizer.rule.step(parameters, gradient(step), state, step, optimizer.factor(step))
    return [parameters, *(state[name] for name in sorted(state))]


def digests() -> dict[str, str]:
    """SHA-256, hex, of what each optimiser ends with."""
    return {
        name: hashlib.sha256(b"".join(t.numpy().tobytes() for t in trained(spec))).hexdigest()
        for name, spec in SPECS.items()
    }


if __name__ == "__main__":
    print(json.dumps(digests(), indent=1))
