"""The user's own module, run by PyTorch as it is: what a captured program is held against."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from podlt.program.draws import FACTORIES, OF_TENSORS
from podlt.program.execute import Draw
from podlt.program.preparation import copied
from podlt.program.source_lines import operation_name
from podlt.program.trace import WithLoss
from podlt.program.wide import WideMemory, WidenedTensor

WIDENED_WHEN_USED = 2**18
"""From so many elements on, a parameter stays float32 in a step in float64 (`wide`)."""


class GivenDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Has PyTorch draw what a program draws: the k-th uniform tensor for a seed.

    Args:
        seed: of the draws.
        draw: gives a tensor of uniform numbers for a seed, a number and a shape.
    """

    def __init__(self, seed: int, draw: Draw) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed, self._draw, self._count = seed, draw, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = operation_name(func)
        packet = name.split(".")[0]
        if name in _DRAWS:
            return _DRAWS[name](self._uniform, *args, **(kwargs or {}))
        if packet == "native_dropout":
            mask = self._uniform(args[0].shape) < 1.0 - args[1]
            scale = 1.0 / (1.0 - args[1]) if args[1] < 1 else 0.0
            return args[0] * mask.to(args[0].dtype) * scale, mask
        if name in ("bernoulli.p", "bernoulli_.float"):
            mask = (self._uniform(args[0].shape) < _probability(args, kwargs)).to(args[0].dtype)
            return args[0].copy_(mask) if packet == "bernoulli_" else mask
        if packet in ("rand", "rand_like"):
            like = packet == "rand_like"
            dtype = (kwargs or {}).get("dtype") or (args[0].dtype if like else torch.get_default_dtype())
            return self._uniform(args[0].shape if like else args[0]).to(dtype)
        if packet in ("randn", "randn_like"):
            like = packet == "randn_like"
            dtype = (kwargs or {}).get("dtype") or (args[0].dtype if like else torch.get_default_dtype())
            shape = args[0].shape if like else args[0]
            radius = torch.sqrt(-2 * torch.log(1 - self._uniform(shape).to(dtype)))
            return radius * torch.cos(2 * math.pi * self._uniform(shape).to(dtype))
        return func(*args, **(kwargs or {}))

    def _uniform(self, shape: Sequence[int]) -> torch.Tensor:
        self._count += 1
        return self._draw(self._seed, self._count - 1, list(shape))


_DRAWS = {**OF_TENSORS, **FACTORIES}


def _probability(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> float:
    """Of a Bernoulli draw: PyTorch leaves out an argument that has its default."""
    return float(args[1] if len(args) > 1 else (kwargs or {}).get("p", 0.5))


def eager_step(
    module: WithLoss, batch: Mapping[str, torch.Tensor], draws: GivenDraws, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Loss, gradients and buffers of the module itself. Arguments and errors as `eager_outputs`."""
    found: dict[str, torch.Tensor] = {}
    eager_outputs(module, batch, draws, dtype, lambda name, value: found.update({name: value}))
    return found


def eager_outputs(
    module: WithLoss,
    batch: Mapping[str, torch.Tensor],
    draws: GivenDraws,
    dtype: torch.dtype,
    each: Callable[[str, torch.Tensor], None],
) -> None:
    """Gives loss, buffers and gradients of the module itself, each as soon as it is known.

    Args:
        module: in the modes that it is trained in; a copy of it is called.
        batch: the examples.
        draws: what it draws.
        dtype: float32 as it stands, or float64, in which its parameters, buffers and examples are made wide.
        each: is called with an output's name and its value, which nothing else holds; float buffers are times the
            examples, as an update's.

    Raises:
        Exception: whatever the module raises, as one that makes float32 tensors of its own does in float64.
    """
    is_wide, examples, memory = dtype == torch.float64, len(next(iter(batch.values()))), WideMemory()

    def parameter_of(tensor: torch.Tensor) -> torch.Tensor:
        stays_narrow = is_wide and tensor.numel() >= WIDENED_WHEN_USED
        return WidenedTensor(tensor, memory) if stays_narrow else widened(tensor, dtype)

    twin = copied(module, parameter_of, lambda tensor: widened(tensor, dtype))
    if is_wide and any(t.is_floating_point() and t.dtype != dtype for t in (*twin.parameters(), *twin.buffers())):
        twin = twin.double()  # what was copied in its own way
    with _default_dtype(dtype), sdpa_kernel(SDPBackend.MATH), draws:
        loss, buffers = twin(*(widened(value, dtype) for value in batch.values()))
        each("loss", loss.detach())
        for name, value in buffers.items():
            each(f"buffer:{name}", value * examples if value.is_floating_point() else value)
        give_gradients(loss, {n: p for n, p in twin.model.named_parameters() if p.requires_grad}, each)


def give_gradients(
    loss: torch.Tensor, parameters: Mapping[str, nn.Parameter], each: Callable[[str, torch.Tensor], None]
) -> set[str]:
    """Gives the gradients of a copy's parameters, each as soon as it is known: they never take memory all at once.

    A parameter's gradient is complete when all that used it was gone through backwards.

    Args:
        loss: a scalar.
        parameters: by name.
        each: is called with "grad:" and a name, and the gradient: of what the loss does not use, zeros.

    Returns:
        The names of those that the loss does not use.
    """
    unused = set(parameters)

    def keep(parameter: torch.Tensor, name: str) -> None:
        assert parameter.grad is not None
        found, parameter.grad = parameter.grad, None
        unused.discard(name)
        each(f"grad:{name}", found)

    for name, parameter in parameters.items():
        parameter.register_post_accumulate_grad_hook(partial(keep, name=name))  # type: ignore[no-untyped-call]
    loss.backward()  # type: ignore[no-untyped-call]
    for name in sorted(unused):
        each(f"grad:{name}", torch.zeros((), dtype=parameters[name].dtype).expand(parameters[name].shape))
    return unused


def widened(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A copy of a tensor, in the given type if it is a float one."""
    return value.to(dtype, copy=True) if value.is_floating_point() else value.clone()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def constant_draw(value: float) -> Callable[[int, int, list[int]], torch.Tensor]:
    """A stand-in for random draws that is the same for every example: dropout then keeps all of them."""
    return lambda seed, draw, shape: torch.full(shape, value)
