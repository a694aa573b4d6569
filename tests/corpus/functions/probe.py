"""A function of PyTorch's in the smallest network that has it: captured, executed exactly, and held against eager."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn

from podlt.errors import UnsupportedError
from podlt.program.capture import capture
from podlt.program.eager import GivenDraws, eager_step
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec
from podlt.program.layout import update_layout
from podlt.program.philox import uniform
from podlt.program.step import SummedLoss
from podlt.program.trace import WithLoss

ARITHMETIC = "exact/2"
EXAMPLES = 4
SEED = 7

CLOSE = 4e-3
"""How far loss and gradients may be from eager's, by the norm of eager's: what two digits of a product lose."""


@dataclass(frozen=True)
class Probe:
    """A function or a module.

    Attributes:
        group: a heading of the page.
        name: as PyTorch documents it, with what is special about the call.
        made: of a tensor (`EXAMPLES`, *shape) with a gradient; or, where it takes none, makes the module that is.
        shape: of an example.
        refused: words of the refusal that is right for it; "" if it works.
    """

    group: str
    name: str
    made: Callable[..., Any]
    shape: tuple[int, ...]
    refused: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a probe.

    Attributes:
        refused: why it was, "" if it was not.
        nodes: how many operations its program has.
        error: how far its loss and gradients are from eager's, by their norm.
    """

    refused: str = ""
    nodes: int = 0
    error: float = 0.0


class Probed(nn.Module):
    """Examples times a weight, then the function.

    Args:
        probe: whose function it is.
    """

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(probe.shape, generator=generator))
        required = [p for p in signature(probe.made).parameters.values() if p.default is p.empty]
        self.inner = probe.made if required else probe.made()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One value an example, in which each output has its own share, and the input a small one."""
        h = x * self.weight
        found = self.inner(h)
        found = found[0] if isinstance(found, tuple) else found
        if found.ndim == 0:
            return found
        flat = found.to(torch.get_default_dtype()).reshape(len(x), -1)
        share = 1 + 0.25 * torch.arange(flat.shape[1]) % 3
        return (flat * flat * share).sum(1) + flat.sum(1) + 0.01 * h.flatten(1).sum(1)


def try_probe(probe: Probe) -> Outcome:
    """Captures a probe's network, and runs its step beside eager's.

    Raises:
        Exception: it was captured, and crashed when it ran.
    """
    torch.manual_seed(0)
    model = Probed(probe).train()
    batch = {"x": torch.randn((EXAMPLES, *probe.shape), generator=torch.Generator().manual_seed(2))}
    fields = [FieldSpec("x", "f32", probe.shape, None, "input")]
    try:
        captured = capture(model, _loss, fields, ARITHMETIC, batch, EXAMPLES)
    except UnsupportedError as error:
        return Outcome(str(error))
    found = _run(captured.program, captured.state, batch)
    eager = eager_step(WithLoss(model, SummedLoss(_loss, fields)), batch, GivenDraws(SEED, uniform), torch.float32)
    eager = {name: value for name, value in eager.items() if name in found}
    off = sum(float((found[n].double() - eager[n].double()).square().sum()) for n in eager)
    size = sum(float(value.double().square().sum()) for value in eager.values())
    return Outcome("", len(captured.program.nodes), (off / size) ** 0.5)


def _loss(model: nn.Module, x: torch.Tensor) -> Any:
    return model(x)


def _run(program: Any, state: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    layout = update_layout(program)
    out = layout.views(torch.zeros(layout.nbytes, dtype=torch.uint8).numpy())
    Executor(program).run(state, batch, SEED, out)
    return {name: value.clone() for name, value in out.items()}
