"""How far the gradients of torchvision's deep networks with batch norm are from float64's, by each arithmetic.

    PYTHONPATH=src python -m tests.corpus.gradients [NAME ...]

One step from the initial weights, on 8 and on 32 random images; relative errors in the Frobenius norm over all
parameters. Networks like these amplify any error: exact arithmetic is held to bfloat16's, not to float32's.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from podlt.execution.task_executor import one_thread
from podlt.program.capture import Captured, capture
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec

from .vision import CLASSES, models

ARITHMETICS = ("exact/auto", "exact/2", "exact/3")
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "DenseNet": (lambda: models().DenseNet(8, (2, 2, 2, 2), 16, num_classes=CLASSES), 32),
    "MobileNet v2": (lambda: models().mobilenet_v2(width_mult=0.25, num_classes=CLASSES, dropout=0.0), 32),
    "ShuffleNet v2": (lambda: models().shufflenet_v2_x0_5(num_classes=CLASSES), 32),
    "MNASNet": (lambda: models().mnasnet0_5(num_classes=CLASSES, dropout=0.0), 32),
    "RegNet": (lambda: models().regnet_y_400mf(num_classes=CLASSES), 32),
    "GoogLeNet": (
        lambda: models().googlenet(num_classes=CLASSES, aux_logits=False, init_weights=True, dropout=0.0),
        64,
    ),
}


def eager(model: nn.Module, x: torch.Tensor, y: torch.Tensor, half: bool = False) -> list[torch.Tensor]:
    """The gradients of a copy of a model, float64."""
    own = copy.deepcopy(model).to(x.dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = functional.cross_entropy(own(x).float() if half else own(x), y, reduction="sum")
    return [gradient.double() for gradient in torch.autograd.grad(loss, list(own.parameters()))]


def exact(
    captured: Captured, model: nn.Module, arithmetic: str, x: torch.Tensor, y: torch.Tensor
) -> list[torch.Tensor]:
    """The gradients of the captured program in an exact arithmetic."""
    program = replace(captured.program, arithmetic=arithmetic)
    out = {
        name: torch.empty(kind.at(len(x)), dtype=torch.int64 if kind.dtype == "i64" else torch.float32)
        for name, kind in ((name, program.types[value]) for name, value in program.outputs)
    }
    Executor(program).run(captured.state, {"x": x, "y": y}, 1, out)
    return [out[f"grad:{name}"].double() for name, _ in model.named_parameters()]


def error(found: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    """The norm of the difference by the norm of what is right."""
    squares = sum(float(((a - b) ** 2).sum()) for a, b in zip(found, right, strict=True))
    return float((squares / sum(float((b**2).sum()) for b in right)) ** 0.5)


def main() -> None:
    """Prints an example for each network and number of images."""
    for name in sys.argv[1:] or NETWORKS:
        make, pixels = NETWORKS[name]
        torch.manual_seed(0)
        model = make().train()
        fields = [
            FieldSpec("x", "f32", (3, pixels, pixels), None, "input"),
            FieldSpec("y", "i64", (), None, "label"),
        ]
        captured = capture(model, "cross_entropy", fields, arithmetic="exact/2")
        for examples in (8, 32):
            x, y = torch.randn(examples, 3, pixels, pixels), torch.randint(0, CLASSES, (examples,))
            right = eager(model, x.double(), y)
            found = {"float32": eager(model, x, y), "bfloat16": eager(model, x, y, half=True)}
            found |= {arithmetic: exact(captured, model, arithmetic, x, y) for arithmetic in ARITHMETICS}
            each = ", ".join(f"{way} {error(gradients, right):.1e}" for way, gradients in found.items())
            print(f"{name}, {examples} images: {each}", flush=True)


if __name__ == "__main__":
    with one_thread():
        main()
