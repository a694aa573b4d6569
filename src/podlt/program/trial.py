"""A module's step tried by PyTorch before it is traced: what it does from call to call, and what its loss is of."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from podlt.errors import UnsupportedError
from podlt.program.eager import GivenDraws, constant_draw, give_gradients
from podlt.program.trace import WithLoss, explain

NOT_THE_SAME = (
    "a random choice, a counter or random constants in Python code; draw by torch (dropout, rand), and keep what "
    "changes in a buffer (register_buffer)"
)
NO_DROPOUT = 2.0**-10
"""A draw for which every dropout keeps its element."""

CLOSE = 1e-5
"""How far two calls of one step on the same examples may be from each other: kernels add in any order."""


@dataclass(frozen=True)
class Trial:
    """What a trial found.

    Attributes:
        unused: parameters that the loss does not use: they have no gradient, and PyTorch's optimisers skip them.
        mean: whether the loss looks like a mean over examples: of a batch twice as long it is the same.
    """

    unused: tuple[str, ...]
    mean: bool


def try_out(module: WithLoss, batch: Mapping[str, torch.Tensor]) -> Trial:
    """Calls a step several times on the same examples.

    Args:
        module: stays as it is; a copy is called.
        batch: the examples.

    Raises:
        UnsupportedError: it fails, has no gradient, or is not the same from call to call.
    """
    twin = copy.deepcopy(module)
    before = _tensors(twin, module)
    try:
        first = _call(twin, batch, 1)
        unused = _unused(twin, first)
        seen = _attributes(twin.model)
        later = []
        for number in (2, 3):
            _restore(before)
            later.append(_value(twin, batch, number))
            _refuse_changes(seen, _attributes(twin.model), twin.model)
        _restore(before)
        double = _value(twin, {name: torch.cat([value, value]) for name, value in batch.items()}, 4)
    except UnsupportedError:
        raise
    except Exception as error:
        raise UnsupportedError(explain(error, module.model)) from error
    value, name = float(first.detach()), type(module.model).__name__
    if not np.isfinite(value):
        raise UnsupportedError(
            f"{name} cannot be captured: its loss is {value} on the examples that it was tried on: are inputs and "
            "labels in the range that the loss takes?"
        )
    if not all(abs(value - other) <= CLOSE * (1 + abs(value)) for other in later):
        raise UnsupportedError(
            f"{name} cannot be captured: its loss is not the same from one call to the next ({value:.6g}, then "
            f"{later[0]:.6g}): {NOT_THE_SAME}"
        )
    return Trial(unused, abs(double - value) < abs(double - 2 * value))


def _call(module: WithLoss, batch: Mapping[str, torch.Tensor], number: int) -> torch.Tensor:
    """The loss, with PyTorch's draws the same in every call, and those of Python and NumPy others."""
    with python_seeds(number), torch.random.fork_rng(devices=[]), GivenDraws(0, constant_draw(NO_DROPOUT)):
        torch.manual_seed(0)
        loss: torch.Tensor = module(*(value.clone() for value in batch.values()))[0]
        return loss


def _value(module: WithLoss, batch: Mapping[str, torch.Tensor], number: int) -> float:
    """The loss, without what a backward pass would need of memory."""
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda nothing: nothing):
        return float(_call(module, batch, number).detach())


def _unused(module: WithLoss, loss: torch.Tensor) -> tuple[str, ...]:
    named = {n: p for n, p in module.model.named_parameters() if p.requires_grad}
    if not loss.requires_grad:
        raise UnsupportedError(
            f"{type(module.model).__name__} cannot be captured: no gradient leads from the loss to any parameter: a "
            "detach, no_grad, argmax or rounding lies between, or the loss does not use the model's output"
        )
    with python_seeds(0), torch.random.fork_rng(devices=[]), GivenDraws(0, constant_draw(NO_DROPOUT)):
        without = give_gradients(loss, named, lambda name, gradient: None)
    unused = tuple(name for name in named if name in without)
    if len(unused) == len(named):
        raise UnsupportedError(
            f"{type(module.model).__name__} cannot be captured: no gradient leads from the loss to any parameter"
        )
    return unused


@contextmanager
def python_seeds(number: int) -> Iterator[None]:
    """Another state of the generators that Python code may draw from, while this lasts."""
    before, before_numpy = random.getstate(), np.random.get_state()
    random.seed(number)
    np.random.seed(number)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)


# -- what a module keeps in Python -----------------------------------------------------------------------------------


def _tensors(twin: WithLoss, module: WithLoss) -> list[tuple[nn.Module, str, torch.Tensor, torch.Tensor]]:
    """Each parameter and buffer of a copy: whose it is, its name, itself, and what it is a copy of."""
    return [
        (part, name, value, original.detach())
        for part, source in zip(twin.modules(), module.modules(), strict=True)
        for (name, value), (_, original) in zip(_own_tensors(part), _own_tensors(source), strict=True)
    ]


def _own_tensors(part: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]


def _restore(tensors: list[tuple[nn.Module, str, torch.Tensor, torch.Tensor]]) -> None:
    """Undoes what a call did to them; what is wrong about it is found where its example is known, by the trace."""
    with torch.no_grad():
        for part, name, value, before in tensors:
            if isinstance(value, nn.Parameter):
                value.copy_(before)
            else:
                setattr(part, name, before.clone())


_MACHINERY = frozenset(vars(nn.Module()))
"""What every module has: parameters, buffers and hooks."""

_MOST_ITEMS, _MOST_LEVELS = 10_000, 4


def _attributes(model: nn.Module) -> dict[str, Any]:
    """Everything that the modules keep as plain Python attributes, as values that can be compared, by name."""
    found = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key not in _MACHINERY:
                found[f"{name}.{key}" if name else key] = _fingerprint(value, _MOST_LEVELS)
    return found


def _fingerprint(value: Any, levels: int) -> Any:
    """A value that is equal for equal content: of numbers and tensors, and of lists, maps and objects of them."""
    if isinstance(value, torch.Tensor):
        plain = value.detach()
        return str(plain.dtype), tuple(plain.shape), plain.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    if isinstance(value, (bool, int, float, complex, str, bytes, np.generic)) or value is None:
        return repr(value)
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if levels == 0 or isinstance(value, (type, nn.Module)) or callable(value):
        return type(value).__name__
    if isinstance(value, Mapping):
        value = [item for pair in list(value.items())[:_MOST_ITEMS] for item in pair]
    if isinstance(value, (set, frozenset)):
        return sorted(str(_fingerprint(item, levels - 1)) for item in value)
    if hasattr(value, "__len__") and hasattr(value, "__iter__"):
        return len(value), [_fingerprint(item, levels - 1) for _, item in zip(range(_MOST_ITEMS), value, strict=False)]
    return type(value).__name__, [_fingerprint(item, levels - 1) for item in vars(value).values()] if hasattr(
        value, "__dict__"
    ) else None


def _refuse_changes(before: Mapping[str, Any], after: Mapping[str, Any], model: nn.Module) -> None:
    """What one call and the next leave behind on the same examples must be the same: a cache is, state is not."""
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        raise UnsupportedError(
            f"{type(model).__name__} cannot be captured: its attribute {changed[0]} changes with every call, and "
            "workers have no Python object to keep it: make it a buffer (self.register_buffer), or take it out"
        )
