"""Seven small models trained for 20 steps in exact arithmetic, one digest each: on every machine and device the same.

    python -m podlt.bench.models [WAY [MODEL ...]]    prints them, with the CPU's products computed in this way

Weights and batches come from the fixed words of `conformance.values`, not from torch's generator, whose fills may use
vector instructions of their own.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable

import torch
from torch import nn

from podlt import models
from podlt.errors import DivergedError
from podlt.exact import products
from podlt.exact.average import average
from podlt.exact.conformance import values
from podlt.program.capture import capture
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec

PIXELS = [FieldSpec("x", "f32", (256,), None, "input"), FieldSpec("y", "i64", (), None, "label")]
WORDS = [FieldSpec("x", "i64", (16,), None, "input"), FieldSpec("y", "i64", (16,), None, "label")]
STEPS, LINES, RATE = 20, 6, 2.0**-6


def pooled() -> nn.Module:
    """Convolution, batch norm and maximum pooling."""
    convolutions = [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(models.Image(1, 16), *convolutions, nn.Flatten(), nn.Linear(6 * 64, 10))


MODELS: dict[str, tuple[Callable[[], nn.Module], list[FieldSpec]]] = {
    "mlp": (lambda: models.mlp(256, 24, 10), PIXELS),
    "cnn": (lambda: models.cnn(16), PIXELS),
    "cnn with batch norm": (pooled, PIXELS),
    "resnet": (lambda: models.resnet(16, width=4, blocks=1), PIXELS),
    "gpt": (lambda: models.gpt(23, 16, 4, 2, 16, 0.1), WORDS),
    "lstm": (lambda: models.lstm(23, 8), WORDS),
    "gru": (lambda: models.gru(23, 8), WORDS),
}


def words(key: int, shape: tuple[int, ...], below: int) -> torch.Tensor:
    """Whole numbers from fixed words."""
    return (values(key, *shape).view(torch.int32) >> 5).long() % below


def train(name: str, digits: int = 2, device: str = "cpu") -> str:
    """The SHA-256 of a model's parameters and buffers after 20 steps of two fragments each, averaged exactly.

    Args:
        name: of one of MODELS; device: where steps are computed, as `exact.portable.devices` names it.

    Raises:
        DivergedError: a parameter is not finite.
    """
    make, fields = MODELS[name]
    captured = capture(make(), "cross_entropy", fields, arithmetic=f"exact/{digits}")
    executor = Executor(captured.program, device=device)
    state = {k: v.clone() for k, v in captured.state.items()}
    for number, (key, tensor) in enumerate(sorted(state.items())):
        if key.startswith("param:"):  # biases too: a module draws them from a generator that differs by process
            tensor.copy_(values(number + 1, *tensor.shape) * 2.0**-4 + (0.5 if tensor.ndim == 1 else 0.0))
    for step in range(STEPS):
        updates = []
        for part in (0, 1):
            seed = 1000 + 2 * step + part
            batch = {
                f.name: values(seed, LINES, *f.shape) if f.dtype == "f32" else words(seed, (LINES, *f.shape), 10)
                for f in fields
            }
            out = {k: torch.empty(()) if k == "loss" else _like(k, state) for k, _ in captured.program.outputs}
            executor.run(state, batch, seed, out)
            updates.append(out)
        for key in updates[0]:
            if key.startswith("grad:"):
                state["param:" + key[5:]].sub_(average([u[key] for u in updates]) * RATE)
            elif key in state and state[key].is_floating_point():
                state[key].copy_(average([u[key] for u in updates]) / float(LINES))
    sha = hashlib.sha256()
    for key in sorted(state):
        if not bool(torch.isfinite(state[key].double()).all()):
            raise DivergedError(f"{name}: expected finite values, got others in {key}")
        sha.update(key.encode() + state[key].contiguous().numpy().tobytes())
    return sha.hexdigest()


def _like(key: str, state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.empty_like(state["param:" + key[5:] if key.startswith("grad:") else key])


def main() -> None:
    """Print the digests as JSON."""
    way, *names = sys.argv[1:] or ["int8"]
    with products.using(way):  # type: ignore[arg-type]
        print(json.dumps({name: train(name) for name in names or MODELS}))


if __name__ == "__main__":
    main()
