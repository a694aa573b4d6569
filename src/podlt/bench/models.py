"""Ten models trained for 20 steps in exact arithmetic, one digest each: on every machine and device the same.

    python -m podlt.bench.models [WAY [MODEL ...]]    prints them, with the CPU's products computed in this way
    python -m podlt.bench.models > tests/vectors/exact_models.json    makes the golden digests anew

The way "stock" trains in PyTorch's own float32 instead: its digests show what a machine's setting does to others' bits.
Weights come from the fixed words of `conformance.values`, not from torch's generator, whose fills may use vector
instructions of their own. Three models train on real data (MNIST and two novels, fetched and checked as for a run),
the others on fixed words.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from podlt import models
from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec
from podlt.errors import DivergedError
from podlt.exact.conformance import values
from podlt.exact.cpu import products
from podlt.exact.cpu.average import average
from podlt.execution.task_executor import as_batch
from podlt.program.capture import capture
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec
from podlt.program.losses import CLASSES_LAST

PIXELS = [FieldSpec("x", "f32", (256,), None, "input"), FieldSpec("y", "i64", (), None, "label")]
WORDS = [FieldSpec("x", "i64", (16,), None, "input"), FieldSpec("y", "i64", (16,), None, "label")]
STEPS, EXAMPLES, RATE = 20, 6, 2.0**-6


def pooled() -> nn.Module:
    """Convolution, batch norm and maximum pooling."""
    convolutions = [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(models.Image(1, 16), *convolutions, nn.Flatten(), nn.Linear(6 * 64, 10))


@dataclass(frozen=True)
class Golden:
    """A model with a golden digest: how it is made, and what it trains on: fields of fixed words, or real data."""

    make: Callable[[], nn.Module]
    fields: list[FieldSpec] | None = None
    data: DataSpec | None = None
    examples: int = EXAMPLES
    loss: str = "cross_entropy"


MNIST, AUSTEN = DataSpec("mnist"), DataSpec("austen", context=64)
MODELS: dict[str, Golden] = {
    "mlp": Golden(lambda: models.mlp(256, 24, 10), PIXELS),
    "cnn": Golden(lambda: models.cnn(16), PIXELS),
    "cnn with batch norm": Golden(pooled, PIXELS),
    "resnet": Golden(lambda: models.resnet(16, width=4, blocks=1), PIXELS),
    "gpt": Golden(lambda: models.gpt(23, 16, 4, 2, 16, 0.1), WORDS, loss=CLASSES_LAST),
    "lstm": Golden(lambda: models.lstm(23, 8), WORDS, loss=CLASSES_LAST),
    "gru": Golden(lambda: models.gru(23, 8), WORDS, loss=CLASSES_LAST),
    "mnist mlp": Golden(lambda: models.mlp(784, 128, 10), data=MNIST, examples=20),
    "mnist cnn": Golden(lambda: models.cnn(28), data=MNIST, examples=20),
    "austen gpt": Golden(lambda: models.gpt(100, 64, 4, 4, 64, 0.1), data=AUSTEN, loss=CLASSES_LAST),
}
NO_DATA = [name for name, golden in MODELS.items() if golden.data is None]
"""The models that need nothing fetched."""


def words(key: int, shape: tuple[int, ...], below: int) -> torch.Tensor:
    """Whole numbers from fixed words."""
    return (values(key, *shape).view(torch.int32) >> 5).long() % below


def source(golden: Golden) -> tuple[list[FieldSpec], Callable[[int], dict[str, torch.Tensor]]]:
    """The fields of an example, and what gives the batch of each number."""
    if golden.data is not None:
        examples, dataset = golden.examples, prepare(golden.data).train
        fields = [FieldSpec(f.name, f.dtype, f.shape, f.scale, f.role) for f in dataset.fields]
        return fields, lambda number: as_batch(dataset.read(np.arange(number * examples, (number + 1) * examples)))
    fields = golden.fields or []

    def batch(number: int) -> dict[str, torch.Tensor]:
        shaped = [(f, (golden.examples, *f.shape)) for f in fields]
        return {f.name: values(number, *s) if f.dtype == "f32" else words(number, s, 10) for f, s in shaped}

    return fields, batch


def train(name: str, arithmetic: str = "exact/2", device: str = "cpu") -> str:
    """The SHA-256 of a model's parameters and buffers after 20 steps of two shards each, averaged exactly.

    Args:
        name: of one of MODELS.
        arithmetic: as a program names it.
        device: where steps are computed, as `exact.portable.devices` names it.

    Raises:
        DivergedError: a parameter is not finite.
    """
    golden = MODELS[name]
    fields, batch = source(golden)
    captured = capture(golden.make(), golden.loss, fields, arithmetic=arithmetic)
    executor = Executor(captured.program, device=device)
    state = {k: v.clone() for k, v in captured.state.items()}
    for number, (key, tensor) in enumerate(sorted(state.items())):
        if key.startswith("param:"):  # biases too: a module draws them from a generator that differs by process
            tensor.copy_(values(number + 1, *tensor.shape) * 2.0**-4 + (0.5 if tensor.ndim == 1 else 0.0))
    for step in range(STEPS):
        updates = []
        for part in (0, 1):
            seed = 1000 + 2 * step + part
            out = {k: torch.empty(()) if k == "loss" else _like(k, state) for k, _ in captured.program.outputs}
            executor.run(state, batch(seed), seed, out)
            updates.append(out)
        for key in updates[0]:
            if key.startswith("grad:"):
                state["param:" + key[5:]].sub_(average([u[key] for u in updates]) * RATE)
            elif key in state and state[key].is_floating_point():
                state[key].copy_(average([u[key] for u in updates]) / float(golden.examples))
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
    way, *names = sys.argv[1:] or [products.WAYS[0]]
    arithmetic = "stock" if way == "stock" else "exact/2"
    with products.using(products.WAYS[0] if way == "stock" else way):  # type: ignore[arg-type]
        print(json.dumps({name: train(name, arithmetic) for name in names or MODELS}, indent=1))


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
