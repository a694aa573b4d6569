"""Every exact operation against torch's own: what a call takes, as multiples of stock's, for large and small tensors.

One process, one thread, the thread's own processor time; exact and stock take turns, and medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from podlt.errors import UsageError
from podlt.exact.aten.tensors import named
from podlt.exact.cpu.backend import table
from podlt.exact.operations import ROWS
from podlt.exact.operations.row import Family
from podlt.execution.task_executor import one_thread

DIGITS = 2
LEAST_SECONDS = 2e-4
"""A turn repeats a call for about so long, so that the clock's own resolution does not show."""

_TIMED = (Family.ELEMENTWISE, Family.REDUCTION, Family.PLACE)
Tensor = torch.Tensor


@dataclass(frozen=True)
class Operands:
    """Tensors of one size that calls are made of.

    Args:
        rows: of the matrices.
        columns: of the matrices.
        image: samples, channels, height and width of the images; height and width are even.
    """

    rows: int
    columns: int
    image: tuple[int, int, int, int]

    def x(self) -> Tensor:
        """A matrix of ordinary values of both signs."""
        return torch.randn(self.rows, self.columns)

    def positive(self) -> Tensor:
        """A matrix of values above 0 and below 1."""
        return torch.rand(self.rows, self.columns) * 0.98 + 0.01

    def images(self) -> Tensor:
        """Images of ordinary values."""
        return torch.randn(self.image)

    def row(self) -> Tensor:
        """One value a column."""
        return torch.randn(self.columns)

    def channel(self) -> Tensor:
        """One value a channel, above 0."""
        return torch.rand(self.image[1]) + 0.5

    def places(self, below: int) -> Tensor:
        """One index a row."""
        return torch.randint(0, below, (self.rows,))


SIZES = {"1M": Operands(1024, 1024, (16, 64, 32, 32)), "10k": Operands(64, 160, (4, 10, 16, 16))}
Arguments = Callable[[Operands], tuple[Any, ...]]

_VALUES = """exp log1p expm1 tanh sigmoid erf erfc atan relu gelu silu softplus log_sigmoid_forward elu leaky_relu
hardtanh abs neg sign square floor round sin cos isnan isinf logical_not sum mean argmax prod"""
_POSITIVE = "log log2 sqrt rsqrt reciprocal"
_PAIRS = "add sub mul div eq ne lt le gt ge remainder"
_SLOPES = "silu_backward gelu_backward tanh_backward sigmoid_backward"


def _normed(o: Operands) -> tuple[Any, ...]:
    x, weight = o.x(), o.row()
    _, mean, rstd = torch.native_layer_norm(x, [o.columns], weight, weight, 1e-5)
    return o.x(), x, [o.columns], mean, rstd, weight, weight, [True] * 3


def _grouped(o: Operands) -> tuple[Any, ...]:
    n, c, h, w = o.image
    return o.images(), o.channel(), o.channel(), n, c, h * w, 2, 1e-5


def _group_backward(o: Operands) -> tuple[Any, ...]:
    x, weight, bias, *sizes, eps = _grouped(o)
    _, mean, rstd = torch.ops.aten.native_group_norm(x, weight, bias, *sizes, eps)
    return o.images(), x, mean, rstd, weight, *sizes, [True] * 3


def _batched(o: Operands) -> tuple[Any, ...]:
    return o.images(), o.channel(), o.channel(), o.channel(), o.channel(), True, 0.1, 1e-5


def _batch_backward(o: Operands) -> tuple[Any, ...]:
    x, weight, _, mean, variance, *_ = _batched(o)
    return o.images(), x, weight, mean, variance, mean, variance, True, 1e-5, [True] * 3


def _pool_backward(kernel: int, stride: int, padding: int) -> Arguments:
    window = [kernel] * 2, [stride] * 2, [padding] * 2, [1, 1], False

    def make(o: Operands) -> tuple[Any, ...]:
        x = o.images()
        out, index = torch.ops.aten.max_pool2d_with_indices(x, *window)
        return torch.randn(out.shape), x, *window, index

    return make


def _average_backward(o: Operands) -> tuple[Any, ...]:
    n, c, h, w = o.image
    return torch.randn(n, c, h // 2, w // 2), o.images(), [2, 2], [2, 2], [0, 0], False, True, None


def _nll(o: Operands) -> tuple[Any, ...]:
    return torch.log_softmax(o.x(), 1), o.places(o.columns), None, 1, -100


def _nll_backward(o: Operands) -> tuple[Any, ...]:
    return torch.ones(()), *_nll(o), torch.tensor(float(o.rows))


CALLS: dict[str, tuple[str, Arguments]] = {
    **{f"{name}": (f"{name}.default", lambda o: (o.x(),)) for name in _VALUES.split()},
    **{f"{name}": (f"{name}.default", lambda o: (o.positive(),)) for name in _POSITIVE.split()},
    **{f"{name}": (f"{name}.Tensor", lambda o: (o.x(), o.x())) for name in _PAIRS.split()},
    **{f"{name} number": (f"{name}.Scalar", lambda o: (o.x(), 0.3)) for name in _PAIRS.split()},
    **{f"{name}": (f"{name}.default", lambda o: (o.x(), o.x())) for name in _SLOPES.split()},
    "maximum": ("maximum.default", lambda o: (o.x(), o.x())),
    "minimum": ("minimum.default", lambda o: (o.x(), o.x())),
    "add a row": ("add.Tensor", lambda o: (o.x(), o.row())),
    "mul by channels": ("mul.Tensor", lambda o: (o.images(), o.channel().reshape(1, -1, 1, 1))),
    "rsub number": ("rsub.Scalar", lambda o: (o.x(), 1.0)),
    "addcmul": ("addcmul.default", lambda o: (o.x(), o.x(), o.x())),
    "square by pow": ("pow.Tensor_Scalar", lambda o: (o.x(), 2)),
    "cube": ("pow.Tensor_Scalar", lambda o: (o.x(), 3)),
    "power": ("pow.Tensor_Scalar", lambda o: (o.positive(), 0.7)),
    "clamp": ("clamp.default", lambda o: (o.x(), -0.5, 0.5)),
    "clamp_min": ("clamp_min.default", lambda o: (o.x(), 0.1)),
    "clamp_max": ("clamp_max.default", lambda o: (o.x(), 0.1)),
    "relu6": ("hardtanh.default", lambda o: (o.x(), 0.0, 6.0)),
    "hardtanh_backward": ("hardtanh_backward.default", lambda o: (o.x(), o.x(), 0.0, 6.0)),
    "threshold_backward": ("threshold_backward.default", lambda o: (o.x(), o.x(), 0)),
    "leaky_relu_backward": ("leaky_relu_backward.default", lambda o: (o.x(), o.x(), 0.1, False)),
    "softplus_backward": ("softplus_backward.default", lambda o: (o.x(), o.x(), 1, 20)),
    "log_sigmoid_backward": ("log_sigmoid_backward.default", lambda o: (o.x(), o.x(), o.positive())),
    "elu_backward": ("elu_backward.default", lambda o: (o.x(), 1, 1, 1, False, o.x())),
    "where": ("where.self", lambda o: (o.x() > 0, o.x(), o.x())),
    "masked_fill": ("masked_fill.Scalar", lambda o: (o.x(), o.x() > 0, float("-inf"))),
    "to bool": ("_to_copy.default", lambda o: (o.x(), {"dtype": torch.bool})),
    "bool to float": ("_to_copy.default", lambda o: (o.x() > 0, {"dtype": torch.float32})),
    "to int": ("_to_copy.default", lambda o: (o.x(), {"dtype": torch.int64})),
    "sum of rows": ("sum.dim_IntList", lambda o: (o.x(), [1])),
    "sum of columns": ("sum.dim_IntList", lambda o: (o.x(), [0])),
    "sum of channels": ("sum.dim_IntList", lambda o: (o.images(), [0, 2, 3])),
    "mean of pixels": ("mean.dim", lambda o: (o.images(), [2, 3])),
    "var of rows": ("var.correction", lambda o: (o.x(), [1])),
    "var_mean of rows": ("var_mean.correction", lambda o: (o.x(), [1])),
    "norm of rows": ("linalg_vector_norm.default", lambda o: (o.x(), 2, [1])),
    "logsumexp": ("logsumexp.default", lambda o: (o.x(), [1])),
    "cumsum": ("cumsum.default", lambda o: (o.x(), 1)),
    "cumprod": ("cumprod.default", lambda o: (o.positive(), 1)),
    "amax": ("amax.default", lambda o: (o.x(), [1])),
    "max of rows": ("max.dim", lambda o: (o.x(), 1)),
    "argmax of rows": ("argmax.default", lambda o: (o.x(), 1)),
    "sort": ("sort.default", lambda o: (o.x(), 1)),
    "topk": ("topk.default", lambda o: (o.x(), 5)),
    "softmax": ("_softmax.default", lambda o: (o.x(), 1, False)),
    "softmax of columns": ("_softmax.default", lambda o: (o.x(), 0, False)),
    "log_softmax": ("_log_softmax.default", lambda o: (o.x(), 1, False)),
    "softmax backward": (
        "_softmax_backward_data.default",
        lambda o: (o.x(), torch.softmax(o.x(), 1), 1, torch.float32),
    ),
    "log_softmax backward": (
        "_log_softmax_backward_data.default",
        lambda o: (o.x(), torch.log_softmax(o.x(), 1), 1, torch.float32),
    ),
    "layer_norm": ("native_layer_norm.default", lambda o: (o.x(), [o.columns], o.row(), o.row(), 1e-5)),
    "layer_norm backward": ("native_layer_norm_backward.default", _normed),
    "group_norm": ("native_group_norm.default", _grouped),
    "group_norm backward": ("native_group_norm_backward.default", _group_backward),
    "batch_norm": ("_native_batch_norm_legit_functional.default", _batched),
    "batch_norm backward": ("native_batch_norm_backward.default", _batch_backward),
    "max_pool 2 x 2": ("max_pool2d_with_indices.default", lambda o: (o.images(), [2, 2], [2, 2])),
    "max_pool 3 x 3": ("max_pool2d_with_indices.default", lambda o: (o.images(), [3, 3], [2, 2], [1, 1])),
    "max_pool 2 x 2 backward": ("max_pool2d_with_indices_backward.default", _pool_backward(2, 2, 0)),
    "max_pool 3 x 3 backward": ("max_pool2d_with_indices_backward.default", _pool_backward(3, 2, 1)),
    "avg_pool 2 x 2": ("avg_pool2d.default", lambda o: (o.images(), [2, 2], [2, 2])),
    "avg_pool 2 x 2 backward": ("avg_pool2d_backward.default", _average_backward),
    "avg_pool 3 x 3": ("avg_pool2d.default", lambda o: (o.images(), [3, 3], [1, 1], [1, 1])),
    "adaptive_avg_pool 1": ("_adaptive_avg_pool2d.default", lambda o: (o.images(), [1, 1])),
    "adaptive_avg_pool 1 backward": (
        "_adaptive_avg_pool2d_backward.default",
        lambda o: (torch.randn(*o.image[:2], 1, 1), o.images()),
    ),
    "nll_loss": ("nll_loss_forward.default", _nll),
    "nll_loss backward": ("nll_loss_backward.default", _nll_backward),
    "mse_loss": ("mse_loss.default", lambda o: (o.x(), o.x())),
    "mse_loss backward": ("mse_loss_backward.default", lambda o: (torch.ones(()), o.x(), o.x(), 1)),
    "smooth_l1_loss": ("smooth_l1_loss.default", lambda o: (o.x(), o.x())),
    "huber_loss": ("huber_loss.default", lambda o: (o.x(), o.x())),
    "bce_with_logits": ("binary_cross_entropy_with_logits.default", lambda o: (o.x(), o.positive())),
    "embedding": ("embedding.default", lambda o: (torch.randn(8 * o.rows, o.columns), o.places(8 * o.rows))),
    "embedding backward": (
        "embedding_dense_backward.default",
        lambda o: (o.x(), o.places(8 * o.rows), 8 * o.rows, -1, False),
    ),
    "gather": ("gather.default", lambda o: (o.x(), 1, torch.randint(0, o.columns, (o.rows, o.columns)))),
    "index_select": ("index_select.default", lambda o: (o.x(), 0, o.places(o.rows))),
    "index": ("index.Tensor", lambda o: (o.x(), [o.places(o.rows)])),
    "index_put added": ("index_put.default", lambda o: (o.x(), [o.places(o.rows)], o.x(), True)),
    "index_add": ("index_add.default", lambda o: (o.x(), 0, o.places(o.rows), o.x())),
    "scatter_add": (
        "scatter_add.default",
        lambda o: (o.x(), 1, torch.randint(0, o.columns, (o.rows, o.columns)), o.x()),
    ),
    "cat": ("cat.default", lambda o: ([o.x(), o.x()], 1)),
    "transposed copy": ("clone.default", lambda o: (o.x().t(), {"memory_format": torch.contiguous_format})),
    "heads moved": (
        "clone.default",
        lambda o: (
            o.x().reshape(o.rows, 2, -1).transpose(0, 1),
            {"memory_format": torch.contiguous_format},
        ),
    ),
    "stack": ("stack.default", lambda o: ([o.x(), o.x()],)),
    "constant_pad_nd": ("constant_pad_nd.default", lambda o: (o.images(), [1, 1, 1, 1], 0.0)),
    "flip": ("flip.default", lambda o: (o.x(), [1])),
    "tril": ("tril.default", lambda o: (o.x(),)),
}
"""Each kind of call by what it is called here: the operation, and its arguments from some operands; a last dict holds
keywords."""


def untimed() -> list[str]:
    """Operations of the timed families without a call here."""
    timed = {operation for operation, _ in CALLS.values()}
    return sorted(name for name, row in ROWS.items() if row.family in _TIMED and name not in timed)


def measure(call: str, size: str, repeats: int) -> dict[str, object] | None:
    """One call: stock's microseconds, and [median, least, largest] of exact over stock; None where there is none."""
    operation, make = CALLS[call]
    exact, stock = table(DIGITS).get(operation), named([operation])[operation]
    if exact is None:
        return None
    torch.manual_seed(1)
    arguments = make(SIZES[size])
    options = arguments[-1] if isinstance(arguments[-1], dict) else {}
    arguments = tuple(a for a in arguments if a is not options)
    seconds: dict[str, list[float]] = {"exact": [], "stock": []}
    runs = {"exact": exact, "stock": stock}
    counts = {name: _count(run, arguments, options) for name, run in runs.items()}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.thread_time()
            for _ in range(counts[name]):
                run(*arguments, **options)
            seconds[name].append((time.thread_time() - start) / counts[name])
    each = sorted(a / b for a, b in zip(seconds["exact"], seconds["stock"], strict=True))
    stock_median = statistics.median(seconds["stock"])
    return {
        "call": call,
        "operation": operation,
        "size": size,
        "stock_us": stock_median * 1e6,
        "exact_us": statistics.median(seconds["exact"]) * 1e6,
        "ratio": [statistics.median(seconds["exact"]) / stock_median, each[0], each[-1]],
    }


def _count(run: Callable[..., object], arguments: Sequence[object], options: Mapping[str, object]) -> int:
    """How often a call is repeated in a turn."""
    run(*arguments, **options)
    start = time.perf_counter()
    run(*arguments, **options)
    return max(1, int(LEAST_SECONDS / max(time.perf_counter() - start, 1e-7)))


def as_table(rows: Sequence[Mapping[str, Any]], load: Sequence[float]) -> list[str]:
    """The rows as Markdown, one call a line, after a line that says how they were measured."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["call"], {})[row["size"]] = row

    def cell(row: Mapping[str, Any] | None) -> str:
        return " | " if row is None else f"{row['stock_us']:.0f} us | {row['ratio'][0]:.2f}"

    sizes = [size for size in SIZES if any(size in by_size for by_size in found.values())]
    head = " | ".join(f"stock, {size} | exact / stock" for size in sizes)
    return [
        f"torch {torch.__version__}, one thread, load {min(load):.1f} to {max(load):.1f} meanwhile.",
        "",
        f"| call | {head} |",
        "|---" * (1 + 2 * len(sizes)) + "|",
        *(
            f"| {call} | " + " | ".join(cell(by_size.get(size)) for size in sizes) + " |"
            for call, by_size in found.items()
        ),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="podlt bench operations", description=__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="turns of each (default: 9)")
    parser.add_argument("--only", default="", help="only calls whose name contains this")
    parser.add_argument("--size", choices=list(SIZES), help="only this size")
    parser.add_argument("--above", type=float, default=0.0, help="only print ratios above this")
    parser.add_argument("--json", action="store_true", help="one object a call instead of a table")
    options = parser.parse_args(argv)
    calls = [name for name in CALLS if options.only in name]
    if not calls or options.repeats < 1:
        raise UsageError(f"--only {options.only!r}: expected part of one of {', '.join(CALLS)}, and at least one turn")
    rows, load = [], [os.getloadavg()[0]]
    with one_thread():
        for call in calls:
            for size in [options.size] if options.size else SIZES:
                row = measure(call, size, options.repeats)
                if row is None or row["ratio"][0] < options.above:  # type: ignore[index]
                    continue
                rows.append(row)
                if options.json:
                    print(json.dumps(row), flush=True)
            load.append(os.getloadavg()[0])
    if not options.json:
        print("\n".join(as_table(rows, load)))
        print(f"\nNot timed: {', '.join(untimed()) or 'none'}.", file=sys.stderr)


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
