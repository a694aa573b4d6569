"""How much products of few digits lose where one value hides many, beside bfloat16 and float32.

    podlt bench precision                   products of operands that are hard to cut, and their relative errors
    podlt bench precision --train 200       the loss of a language model of 50,257 words, by each arithmetic

An arithmetic that is adaptive ("auto") must nowhere be worse than bfloat16's operands with exact sums.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from podlt.exact.constants import ADAPTIVE
from podlt.exact.cpu.products import mm
from podlt.execution.task_executor import one_thread
from podlt.program.capture import capture
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec
from podlt.program.losses import CLASSES_LAST

WORDS, WIDTH, LENGTH, EXAMPLES, RATE = 50_257, 64, 32, 8, 3e-3
TRAINED = ("float32", "bfloat16", "exact/1", "exact/2", "exact/3", "exact/auto")
Operands = tuple[torch.Tensor, torch.Tensor]


def vocabulary(kind: str, generator: torch.Generator) -> torch.Tensor:
    """Gradients of the logits of 512 tokens, float32 (512, 50257), at some stage of training."""
    rank = torch.arange(1, WORDS + 1).float()
    spread = {"uniform": 0.02, "Zipf": 1.0, "confident": 2.0}[kind]
    logits = torch.randn(512, WORDS, generator=generator) * spread - (0.0 if kind == "uniform" else rank.log())
    gradient = logits.softmax(1)
    gradient[torch.arange(512), torch.multinomial(gradient, 1, generator=generator).squeeze(1)] -= 1
    return gradient


def hard_operands(generator: torch.Generator) -> Iterator[tuple[str, Operands]]:
    """Operands of products, by what makes them hard."""
    for kind in ("uniform", "Zipf", "confident"):
        gradient = vocabulary(kind, generator)
        weight = torch.randn(WORDS, 128, generator=generator) * 0.02
        hidden = torch.randn(512, 128, generator=generator)
        shared = torch.randn(1, 128, generator=generator)
        yield f"{kind} logits, by a weight", (gradient, weight)
        yield f"{kind} logits, by a weight whose rows share a direction", (gradient, weight + shared * 0.06)
        yield f"{kind} logits, by what they came from", (gradient.t(), hidden)
        yield f"{kind} logits, by what they came from, which shares a direction", (gradient.t(), hidden + shared)
    for keys in (1024, 4096, 16_384, 65_536):
        shares = torch.full((8, keys), 0.5 / (keys - 1))
        shares[:, 5] = 0.5
        yield f"attention over {keys} keys, half on one", (shares, torch.randn(keys, 64, generator=generator) + 0.5)
    for examples, factor in ((1000, 1e3), (10_000, 1e4), (70_001, 1e5)):
        gradient = torch.randn(examples, 4, generator=generator) + 1
        gradient[7] *= factor
        one = f"{examples} examples, the gradient of one {factor:g} times the others'"
        yield one, (gradient.t(), torch.randn(examples, 16, generator=generator) + 1)
    tiny = torch.randn(64, 64, generator=generator) * 1e-33
    yield "gradients of 1e-33", (tiny, torch.randn(64, 64, generator=generator))


def errors(a: torch.Tensor, b: torch.Tensor) -> dict[str, float]:
    """The relative error of each way to multiply, in the Frobenius norm, against float64."""
    exact = a.double() @ b.double()
    ways: dict[str, Callable[[], torch.Tensor]] = {
        f"exact {'auto' if digits == ADAPTIVE else digits}": lambda digits=digits: mm(a, b, digits)  # type: ignore[misc]
        for digits in (1, 2, 3, ADAPTIVE)
    }
    ways["bfloat16"] = lambda: a.bfloat16().float() @ b.bfloat16().float()
    ways["float32"] = lambda: a @ b
    return {name: float((way().double() - exact).norm() / exact.norm()) for name, way in ways.items()}


class Words(nn.Module):
    """A language model of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
        for weight in (self.embed.weight, self.head.weight):
            nn.init.normal_(weight, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (examples, length, words)."""
        h = self.embed(x)
        found: torch.Tensor = self.head(self.norm(h + functional.gelu(self.inner(h))))
        return found


def words(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Words by Zipf's law; half of the next ones follow from them."""
    generator = torch.Generator().manual_seed(10_000 + step)

    def drawn() -> torch.Tensor:
        power = torch.rand(EXAMPLES, LENGTH, generator=generator) * torch.log(torch.tensor(float(WORDS)))
        return (power.exp() - 1).long().clamp(0, WORDS - 1)

    x = drawn()
    return x, torch.where(torch.rand(EXAMPLES, LENGTH, generator=generator) < 0.5, drawn(), (x * 7 + 1) % WORDS)


def train(arithmetic: str, steps: int, seed: int) -> list[float]:
    """The mean loss of a token in each step, by AdamW at a constant rate after 5 steps."""
    torch.manual_seed(seed)
    model = Words()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    step = _plain(model, arithmetic == "bfloat16") if arithmetic in TRAINED[:2] else _captured(model, arithmetic)
    losses = []
    for number in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (number + 1) / 5)
        losses.append(step(number))
        optimizer.step()
    return losses


def _plain(model: nn.Module, half: bool) -> Callable[[int], float]:
    def step(number: int) -> float:
        x, y = words(number)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = functional.cross_entropy(model(x).float().flatten(0, 1), y.flatten())
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    return step


def _captured(model: nn.Module, arithmetic: str) -> Callable[[int], float]:
    fields = [FieldSpec("x", "i64", (LENGTH,), None, "input"), FieldSpec("y", "i64", (LENGTH,), None, "label")]
    captured = capture(model, CLASSES_LAST, fields, arithmetic=arithmetic)
    program, executor = captured.program, Executor(captured.program)
    parameters = dict(model.named_parameters())
    state = {name: parameters[name.partition(":")[2]].detach() for name in captured.state}
    out = {name: torch.empty(program.types[value].at(EXAMPLES)) for name, value in program.outputs}

    def step(number: int) -> float:
        x, y = words(number)
        executor.run(state, {"x": x, "y": y}, number, out)
        for name, parameter in parameters.items():
            parameter.grad = out[f"grad:{name}"] / float(EXAMPLES)
        return float(out["loss"]) / EXAMPLES

    return step


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="what products lose where one value hides many", prog="precision")
    parser.add_argument("--train", type=int, metavar="STEPS", help="train a language model of 50,257 words instead")
    parser.add_argument("--arithmetic", nargs="*", default=TRAINED, choices=TRAINED, help="of --train")
    parser.add_argument("--seed", type=int, default=0, help="of --train")
    parser.add_argument("--json", action="store_true")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables; ends with 1 if adaptive products lose more than bfloat16 somewhere."""
    options = _parser().parse_args(arguments)
    with one_thread():
        if options.train:
            for arithmetic in options.arithmetic:
                losses = train(arithmetic, options.train, options.seed)
                row = {"arithmetic": arithmetic, "steps": len(losses), "loss": sum(losses[-25:]) / len(losses[-25:])}
                print(json.dumps(row) if options.json else _line(row), flush=True)
            return
        worse = 0
        for name, (a, b) in hard_operands(torch.Generator().manual_seed(1)):
            found = errors(a, b)
            worse += found["exact auto"] > found["bfloat16"]
            print(json.dumps({"operands": name, **found}) if options.json else _errors(name, found), flush=True)
    if worse:
        sys.exit(f"adaptive products lose more than bfloat16 in {worse} of these")


def _line(row: dict[str, Any]) -> str:
    return f"{row['arithmetic']:>10}: loss {row['loss']:.4f} over the last 25 of {row['steps']} steps"


def _errors(name: str, found: dict[str, float]) -> str:
    return f"{name}: " + ", ".join(f"{way} {error:.1e}" for way, error in found.items())


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
