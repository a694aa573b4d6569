"""From a module to one graph of ATen operations: forward, loss and backward together.

`make_fx`, the Python dispatcher and the decompositions are no stable interfaces of PyTorch: they are used here, on the
manager, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from traceback import StackSummary
from typing import Any

import torch
from torch import fx, nn
from torch._decomp import core_aten_decompositions
from torch._dispatch.python import enable_python_dispatcher
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.proxy import TracerBase
from torch.fx.traceback import preserve_node_meta
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from podlt.errors import UnsupportedError
from podlt.program.decompositions import RULES, composed
from podlt.program.decompositions.rewriter import Rewriter
from podlt.program.operations import table
from podlt.program.refusals import check_fixed_shapes
from podlt.program.source_lines import is_users, operation_name
from podlt.program.written_out import WrittenOut, without_looks

aten = torch.ops.aten

_NEVER_DECOMPOSE = {aten._scaled_dot_product_flash_attention_for_cpu.default}
"""Replaced in the forward and kept in the backward: wrong gradients (torch 2.13). MATH is forced instead."""


class WithLoss(nn.Module):
    """A model and its loss, summed over the examples."""

    def __init__(self, model: nn.Module, loss: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, *batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch, a scalar, and the buffers after it: Python code may have put others in their place."""
        loss = self._loss(self.model, *batch)
        return loss, {name: buffer.detach() for name, buffer in self.model.named_buffers()}


class _NoDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses random draws: what the backward pass draws is a second mask where the first was meant."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise UnsupportedError(
                f"the backward pass draws random numbers anew ({operation_name(func)}): is dropout inside of "
                "checkpoint()? It would get a second mask, and wrong gradients; take the checkpoint away"
            )
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Traced:
    """A graph, and the names of its inputs and outputs in order."""

    graph: fx.GraphModule
    inputs: list[str]
    outputs: list[str]


def trace(
    module: WithLoss, batch: Sequence[torch.Tensor], names: Sequence[str], arithmetic: str, *, places: bool = True
) -> Traced:
    """One joint graph of loss, gradients and changed buffers.

    Args:
        module: in train mode.
        batch: an example, one tensor a field.
        names: the fields' names.
        arithmetic: what it does not know is decomposed.
        places: whether nodes remember their examples in the user's code, which takes a fifth of the time.

    Raises:
        UnsupportedError: the module does something that no graph can hold; names the place in the user's code.
    """
    parameters = dict(module.model.named_parameters())
    buffers = dict(module.model.named_buffers())
    trained = [n for n, p in parameters.items() if p.requires_grad]
    frozen = [n for n, p in parameters.items() if not p.requires_grad]

    def joint(
        values: list[torch.Tensor], fixed: list[torch.Tensor], state: list[torch.Tensor], examples: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        copies = [value.clone() for value in state]  # a buffer that is changed in place changes here
        named = {
            **{f"model.{n}": v for n, v in zip(trained, values, strict=True)},
            **{f"model.{n}": v for n, v in zip(frozen, fixed, strict=True)},
            **{f"model.{n}": v for n, v in zip(buffers, copies, strict=True)},
        }
        with torch.enable_grad():
            loss, after = torch.func.functional_call(module, named, tuple(examples), tie_weights=True)
            with _NoDraws():  # type: ignore[no-untyped-call]
                gradients = torch.autograd.grad(loss, values, allow_unused=True, materialize_grads=True)
        for name, before in zip(buffers, copies, strict=True):
            if (before.dtype, before.shape) != (after[name].dtype, after[name].shape):
                raise UnsupportedError(f"buffer {name} changes its type or its shape in a step")
        return [loss.detach(), *gradients, *(after[name] for name in buffers)]

    arguments = (
        [parameters[n].detach().requires_grad_() for n in trained],  # looked at only: the trace computes nothing
        [parameters[n].detach() for n in frozen],
        [b.detach().clone() for b in buffers.values()],
        list(batch),
    )
    try:
        graph = _functional(joint, arguments, arithmetic, places)
    except UnsupportedError:
        raise
    except Exception as error:
        raise UnsupportedError(explain(error, module.model)) from error
    inputs = [f"param:{n}" for n in trained] + [f"frozen:{n}" for n in frozen]
    inputs += [f"buffer:{n}" for n in buffers] + [f"batch:{n}" for n in names]
    outputs = ["loss", *(f"grad:{n}" for n in trained), *(f"buffer:{n}" for n in buffers)]
    return Traced(graph, inputs, outputs)


def _functional(
    joint: Callable[..., Any], arguments: tuple[list[torch.Tensor], ...], arithmetic: str, places: bool
) -> fx.GraphModule:
    """The graph of a step, without mutations, in operations that the arithmetic knows as far as PyTorch has rules."""
    split = _decompositions(frozenset(table(arithmetic)))
    with (
        sdpa_kernel(SDPBackend.MATH),
        enable_python_dispatcher(),
        torch.random.fork_rng(devices=[]),
        WrittenOut(),
        composed(),
        without_looks(),
        _users_stacks(),
        torch._dynamo.config.patch(error_on_nested_fx_trace=False),  # compiled parts are run as written
    ):
        first = make_fx(joint, tracing_mode="fake", _allow_non_fake_inputs=True, record_stack_traces=places)(*arguments)
    _drop_dead(first)
    check_fixed_shapes(first)
    again = Rewriter(first)  # carries each node's example in the user's code over to what it becomes
    plain = ([p.detach() for p in arguments[0]], *arguments[1:])
    with torch.no_grad(), enable_python_dispatcher(), preserve_node_meta():
        graph = make_fx(
            torch.func.functionalize(lambda *x: again.run(*x), remove="mutations"),
            tracing_mode="fake",
            decomposition_table=dict(split),
            _allow_non_fake_inputs=True,
        )(*plain)
    _drop_dead(graph)
    _check_random(first, graph)
    return graph


def _fixed_batch_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor,
    var: torch.Tensor,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch norm in eval mode: its statistics are numbers like others."""
    shape = [1, mean.shape[0], *[1] * (x.ndim - 2)]
    factor = torch.rsqrt(var + eps)
    out = (x - mean.view(shape)) * factor.view(shape)
    if weight is not None:
        out = out * weight.view(shape)
    return out if bias is None else out + bias.view(shape), mean, factor


@cache
def _decompositions(known: frozenset[str]) -> Mapping[Any, Any]:
    """What becomes of operations that an arithmetic does not know."""
    rules: dict[Any, Any] = dict(core_aten_decompositions())
    rules[aten._native_batch_norm_legit_no_training.default] = _fixed_batch_norm
    unknown = {op: rule for op, rule in rules.items() if operation_name(op) not in known and op not in _NEVER_DECOMPOSE}
    return {**unknown, **RULES}


def _drop_dead(graph: fx.GraphModule) -> None:
    """Drops what nothing uses, and assertions on values: a kernel that would read outside its memory looks itself."""
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and operation_name(node.target).startswith("_assert_"):
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()  # its code is not made anew: graphs are interpreted and read, and never called


_RANDOM = ("bernoulli", "native_dropout", "rand", "randn", "uniform", "normal", "randint", "randperm", "multinomial")


def _check_random(first: fx.GraphModule, second: fx.GraphModule) -> None:
    """No pass may draw a second time what was drawn once."""
    counts = [sum(_is_random(n) for n in g.graph.nodes) for g in (first, second)]
    if counts[0] != counts[1]:
        raise UnsupportedError(f"the model draws {counts[0]} random tensors, the captured step {counts[1]}")


def _is_random(node: fx.Node) -> bool:
    return node.op == "call_function" and operation_name(node.target).split(".")[0].rstrip("_") in _RANDOM


def explain(error: Exception, model: nn.Module) -> str:
    """What a user can do about a failed capture: the reason, and the innermost example of the user's own code."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if any(
        word in str(error).lower()
        for word in ("aten._local_scalar_dense", "data-dependent", "bool(", ".item()", "got faketensor")
    ):
        reason = (
            "the step depends on a value of its data (.item(), an if on a tensor, nonzero): choose by torch.where, or "
            "work the value out beforehand"
        )
    elif reason.startswith("aten."):  # a fake tensor of PyTorch's names what it cannot do, and no more
        reason = f"operation {reason.removeprefix('aten.')} is not supported"
    return f"{type(model).__name__} cannot be captured{_place(error)}: {reason[:500]}"


def _place(error: Exception) -> str:
    """Where in code outside PyTorch and podlt's capture the error arose."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        if is_users(trace.tb_frame.f_code.co_filename):
            found = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


@contextmanager
def _users_stacks() -> Iterator[None]:
    """Has nodes remember the user's own frames, of loss and helpers too: PyTorch keeps those called "forward" only."""
    before = TracerBase._filter_traceback_frames

    def users(tracer: TracerBase, summary: StackSummary) -> StackSummary:
        step = (i for i, frame in enumerate(summary) if frame.filename == __file__ and frame.name == "forward")
        return StackSummary.from_list([frame for frame in summary[next(step, 0) :] if is_users(frame.filename)])

    TracerBase._filter_traceback_frames = users  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        TracerBase._filter_traceback_frames = before  # type: ignore[method-assign]
