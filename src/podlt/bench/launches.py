"""Kernel launches and bytes of operations on a device, beside PyTorch's own: `python -m podlt.bench.launches`.

Counted, not timed, so that it says something of a GPU on a machine without one. A launch is an ATen operation that is
no view and makes more than empty memory, or a Triton kernel; bytes are those of each tensor that it is given and
returns, once, so that what caches save or blocks read again does not show. A wait is a value that the host reads.
PyTorch's own operations are counted as one launch each; its libraries may take more.

Triton's columns need Triton; on a machine without a GPU its interpreter, by TRITON_INTERPRET=1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from podlt import models
from podlt.bench.table import write_between
from podlt.errors import UsageError
from podlt.exact.aten.tensors import named
from podlt.exact.portable.backend import table as portable_table
from podlt.exact.portable.devices import INTERPRETED, PORTABLE, has_triton, torch_device
from podlt.exact.samples import values
from podlt.program.capture import capture
from podlt.program.execute import Executor
from podlt.program.ir import FieldSpec
from podlt.program.losses import CLASSES_LAST

MARK = "launches"
Call = Callable[[], object]
Arguments = Callable[[], tuple[Any, ...]]
_EMPTY = ("empty", "empty_like", "empty_strided", "new_empty", "detach", "alias")
_READ = ("_local_scalar_dense", "item", "is_nonzero", "equal")
_KERNELS = "podlt.exact.triton."
STEP = "step of a GPT, 1 layer"


@dataclass
class Cost:
    """What a call took."""

    launches: int = 0
    bytes: int = 0
    waits: int = 0


class CountingMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is dispatched within it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cost = Cost()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        self.cost.waits += name in _READ
        if name not in (*_EMPTY, *_READ) and not _is_view(func):
            self.count([*args, *(kwargs or {}).values()], out)
        return out

    def count(self, given: Any, returned: Any) -> None:
        """One launch, of these tensors."""
        self.cost.launches += 1
        self.cost.bytes += sum(_size(t) for t in _tensors(given)) + sum(_size(t) for t in _tensors(returned))

    def launch(self, original: Callable[..., None], compiled: Any, grid: Any, *given: Any, **constants: Any) -> None:
        """Stands in for `exact.triton.jit.launch`: what its interpreter asks of torch is no launch of a GPU."""
        if all(grid):
            self.count(list({t.data_ptr(): t for t in _tensors(list(given))}.values()), [])
        with _disable_current_modes():
            original(compiled, grid, *given, **constants)


def _is_view(func: Any) -> bool:
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _tensors(item: Any) -> Iterator[torch.Tensor]:
    if isinstance(item, torch.Tensor):
        yield item
    elif isinstance(item, list | tuple):
        for part in item:
            yield from _tensors(part)


def _size(tensor: torch.Tensor) -> int:
    """Its bytes, or those of its storage where it repeats itself."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


@contextmanager
def counting(triton: bool) -> Iterator[Cost]:
    """Counts what is done within the block."""
    mode = CountingMode()
    with ExitStack() as stack:
        if triton:
            importlib.import_module(f"{_KERNELS}backend")
            launching = [m for name, m in sys.modules.items() if name.startswith(_KERNELS) and hasattr(m, "launch")]
            for module in launching:
                original = module.launch  # each imported it by name
                setattr(module, "launch", partial(mode.launch, original))  # noqa: B010
                stack.callback(setattr, module, "launch", original)
        stack.enter_context(mode)
        yield mode.cost


def counted(call: Call, triton: bool = False) -> Cost:
    """What a call takes, after one that compiles and chooses."""
    call()
    with counting(triton) as cost:
        call()
    return cost


def _image(size: Sequence[int] = (4, 8, 16, 16)) -> torch.Tensor:
    return values(1, *size)


_SHAPE = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
_ROWS, _HEADS = (128, 256), (8, 64, 32)
OPERATIONS: dict[str, Arguments] = {
    "mm.default": lambda: (values(1, 128, 256), values(2, 256, 128)),
    "addmm.default": lambda: (values(3, 128), values(1, 128, 256), values(2, 256, 128)),
    "bmm.default": lambda: (values(1, *_HEADS), values(2, *_HEADS).mT),
    "convolution.default": lambda: (_image(), values(2, 16, 8, 3, 3), values(3, 16), *_SHAPE),
    "convolution_backward.default": lambda: (
        *(values(4, 4, 16, 16, 16), _image(), values(2, 16, 8, 3, 3), [16]),
        *(*_SHAPE, [True, True, True]),
    ),
    "_softmax.default": lambda: (values(1, *_ROWS), 1, False),
    "_log_softmax.default": lambda: (values(1, *_ROWS), 1, False),
    "_softmax_backward_data.default": lambda: (values(1, *_ROWS), values(2, *_ROWS), 1, torch.float32),
    "native_layer_norm.default": lambda: (values(1, *_ROWS), [256], values(2, 256), values(3, 256), 1e-5),
    "native_layer_norm_backward.default": lambda: (
        *(values(4, *_ROWS), values(1, *_ROWS), [256], values(5, 128, 1), values(6, 128, 1)),
        *(values(2, 256), values(3, 256), [True, True, True]),
    ),
    "_native_batch_norm_legit_functional.default": lambda: (
        *(_image(), values(2, 8), values(3, 8), values(4, 8), values(5, 8).abs()),
        *(True, 0.1, 1e-5),
    ),
    "native_batch_norm_backward.default": lambda: (
        *(values(6, 4, 8, 16, 16), _image(), values(2, 8), values(4, 8), values(5, 8).abs()),
        *(values(7, 8), values(8, 8), True, 1e-5, [True, True, True]),
    ),
    "gelu.default": lambda: (values(1, *_ROWS),),
    "gelu_backward.default": lambda: (values(1, *_ROWS), values(2, *_ROWS)),
    "tanh.default": lambda: (values(1, *_ROWS),),
    "relu.default": lambda: (values(1, *_ROWS),),
    "add.Tensor": lambda: (values(1, *_ROWS), values(2, *_ROWS)),
    "div.Tensor": lambda: (values(1, *_ROWS), values(2, *_ROWS)),
    "sum.dim_IntList": lambda: (values(1, *_ROWS), [0], False),
    "embedding.default": lambda: (values(1, 100, 64), torch.arange(96).reshape(2, 48)),
    "embedding_dense_backward.default": lambda: (values(1, 96, 64), torch.arange(96), 100, -1, False),
    "max_pool2d_with_indices.default": lambda: (_image(), [2, 2], [2, 2]),
    "nll_loss_forward.default": lambda: (values(1, *_ROWS), torch.arange(128), None, 1, -100),
}


def moved(item: Any, device: torch.device) -> Any:
    """Arguments with their tensors on a device."""
    if isinstance(item, torch.Tensor):
        return item.to(device)
    return tuple(moved(part, device) for part in item) if isinstance(item, tuple) else item


def step_calls(digits: int, device: str, triton: str) -> dict[str, Call]:
    """A training step of a small GPT: its program on PyTorch's operations, and on the exact ones."""
    fields = [FieldSpec("x", "i64", (32,), None, "input"), FieldSpec("y", "i64", (32,), None, "label")]
    captured = capture(models.gpt(64, 32, 1, 4, 64), CLASSES_LAST, fields, arithmetic=f"exact/{digits}")
    batch = {name: (torch.arange(128) * 7 % 64).reshape(4, 32) for name in ("x", "y")}
    program, state = captured.program, {name: value.detach() for name, value in captured.state.items()}
    out = {name: torch.empty(program.types[value].at(4)) for name, value in program.outputs}

    def run(executor: Executor) -> None:
        executor.run(state, batch, 7, out)

    executors = {"eager": Executor(program, arithmetic="stock"), "portable": Executor(program, device=device)}
    if triton:
        executors["triton"] = Executor(program, device=triton)
    return {name: partial(run, executor) for name, executor in executors.items()}


def operation_calls(name: str, digits: int, device: str, triton: str) -> dict[str, Call]:
    """An operation as PyTorch computes it, and as the tables of a device do."""
    arguments = moved(OPERATIONS[name](), torch_device(device))
    calls: dict[str, Call] = {
        "eager": partial(named([name])[name], *arguments),
        "portable": partial(portable_table(digits, device)[name], *arguments),
    }
    if triton:
        from podlt.exact.triton.backend import table

        calls["triton"] = partial(table(digits, triton)[name], *arguments)
    return calls


def measure(name: str, digits: int, device: str, triton: str) -> dict[str, Any]:
    """One row: what a call takes by each of the contenders."""
    make = step_calls if name == STEP else partial(operation_calls, name)
    with torch.no_grad():
        calls = make(digits, device, triton)
        return {"operation": name, **{who: asdict(counted(call, who == "triton")) for who, call in calls.items()}}


def as_table(rows: Sequence[dict[str, Any]], digits: int) -> list[str]:
    """Markdown: launches, bytes over PyTorch's, and waits."""
    whom = [who for who in ("portable", "triton") if rows and who in rows[0]]
    heads = [f"{who}: {what}" for who in whom for what in ("launches", "bytes / eager's", "waits")]
    table = [
        f"{digits} digits, torch {torch.__version__}; counted, not timed.",
        "",
        f"| operation | eager: launches | eager: kB | {' | '.join(heads)} |",
        "|---" * (3 + len(heads)) + "|",
    ]
    for row in rows:
        eager = row["eager"]
        cells = [row["operation"], str(eager["launches"]), f"{eager['bytes'] / 1000:,.0f}"]
        for who in whom:
            found = row[who]
            cells += [str(found["launches"]), f"{found['bytes'] / eager['bytes']:.1f}", str(found["waits"])]
        table.append(f"| {' | '.join(cells)} |")
    return table


def triton_device(device: str) -> str:
    """The device that Triton's table computes on beside this one; empty where it cannot."""
    if device != PORTABLE:
        return device if has_triton() else ""
    try:
        torch_device(INTERPRETED)
    except UsageError:
        return ""
    return INTERPRETED


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table, and puts it into a document if asked to."""
    parser = argparse.ArgumentParser(prog="podlt bench launches", description=__doc__)
    parser.add_argument("--device", default=PORTABLE, help="portable (default), cuda or cuda:N")
    parser.add_argument("--digits", type=int, default=2, choices=(1, 2, 3))
    parser.add_argument("--only", default="", help="only operations whose name contains this")
    parser.add_argument("--write", type=Path, metavar="FILE", help=f"put the table between FILE's {MARK!r} marks")
    parser.add_argument("--json", action="store_true", help="one object an operation instead of a table")
    options = parser.parse_args(argv)
    names = [name for name in (*OPERATIONS, STEP) if options.only in name]
    if not names:
        raise UsageError(f"--only {options.only!r}: expected part of one of {', '.join((*OPERATIONS, STEP))}")
    triton = triton_device(options.device)
    if not triton:
        print("no columns of Triton: it is not installed, or TRITON_INTERPRET=1 is not set", file=sys.stderr)
    rows = []
    for name in names:
        rows.append(measure(name, options.digits, options.device, triton))
        if options.json:
            print(json.dumps(rows[-1]), flush=True)
    if not options.json:
        print("\n".join(as_table(rows, options.digits)))
    if options.write:
        write_between(options.write, MARK, as_table(rows, options.digits))


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
