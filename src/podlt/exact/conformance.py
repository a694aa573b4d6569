"""Golden vectors: one digest says whether this machine computes the bits that every other machine computes.

    python -m podlt.exact.conformance            recompute; print the digest and PASS, or the first case that differs
    python -m podlt.exact.conformance --write    rewrite vectors.json (a change of definition: review it as one)

Inputs come from NumPy's counter-based Philox generator, whose raw words are fixed, and from the edges of float32. Every
operation of the table has a vector over all its samples, under its ATen name; the others are larger, and older.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from podlt.exact.constants import ADAPTIVE
from podlt.exact.cpu.average import average
from podlt.exact.cpu.backend import table
from podlt.exact.device_table import device_table
from podlt.exact.operations import samples
from podlt.exact.operations.row import Definition, Table
from podlt.exact.portable.devices import CPU, torch_device
from podlt.exact.samples import values as values

VECTORS = "vectors.json"
_EDGES = [0.0, -0.0, 1e-45, -1e-40, 2.0**-126, 1.0, -1.0, 0.625, 0.92773438, 88.7, -103.9]
_WINDOW: tuple[list[int], ...] = ([3, 3], [2, 2], [1, 1])
Case = tuple[str, Any]
"""A name, and what was computed under it."""


@dataclass(frozen=True)
class Report:
    """What this machine computed.

    Attributes:
        digest: SHA-256 over all cases, hex.
        differences: the cases that differ from the golden vectors, in their order.
    """

    digest: str
    differences: tuple[str, ...]

    @property
    def differing(self) -> str | None:
        """The first case that differs, or None."""
        return self.differences[0] if self.differences else None


Progress = Callable[[int, int], object]
"""Takes how many cases are done, and of how many."""


def check(device: str = CPU, progress: Progress = lambda done, total: None) -> Report:
    """Recompute every golden vector: "cpu", or what `device_table` takes.

    Args:
        device: that computes.
        progress: hears of each case.

    Raises:
        UsageError: there is no such device here.
    """
    golden = vectors()
    found = compute(device, lambda done: progress(done, len(golden)))
    return Report(total(found), tuple(name for name in {**golden, **found} if golden.get(name) != found.get(name)))


def vectors() -> dict[str, str]:
    """The golden vectors: each case's SHA-256, hex."""
    found: dict[str, str] = json.loads(resources.files("podlt.exact").joinpath(VECTORS).read_text(encoding="utf-8"))
    return found


def compute(device: str = CPU, progress: Callable[[int], object] = lambda done: None) -> dict[str, str]:
    """Each case's SHA-256, hex, over the types, shapes and bytes of what it returns.

    Args:
        device: that computes.
        progress: hears how many cases are done.
    """
    known = (1, 2, 3, ADAPTIVE)
    tables = {digits: table(digits) if device == CPU else visited(device, digits) for digits in known}
    cases: dict[str, str] = {}
    for name, found in _cases(tables):
        cases[name] = digest(found)
        progress(len(cases))
    return cases | _samples(tables[2], lambda done: progress(len(cases) + done))


def total(digests: dict[str, str]) -> str:
    """One SHA-256, hex, over the names and digests of all cases in the order of their names."""
    return hashlib.sha256("".join(f"{k} {digests[k]}\n" for k in sorted(digests)).encode()).hexdigest()


def _samples(t: Table, progress: Callable[[int], object]) -> dict[str, str]:
    """One digest an operation, over the results of all its samples; none where the table lacks it."""
    found: dict[str, Any] = {}
    for name, arguments, options in samples(t):
        if name in t:
            sha = found.setdefault(name, hashlib.sha256())
            sha.update(digest(t[name](*arguments, **options)).encode())
            progress(len(found))
    return {name: sha.hexdigest() for name, sha in found.items()}


def _cases(tables: Mapping[int, Table]) -> Iterator[Case]:
    for digits, t in tables.items():
        for name, found in _adaptive_products(t) if digits == ADAPTIVE else _products(t):
            yield f"{name} digits={digits or 'auto'}", found
    yield from _elementwise(tables[2])
    yield from _reductions(tables[2])
    yield from _layers(tables[2])


def _products(t: Table) -> Iterator[Case]:
    yield "mm", t["mm.default"](values(1, 37, 300), values(2, 41, 300).t())
    yield "mm wide", t["mm.default"](values(3, 3, 5000) * values(4, 3, 1), values(5, 5000, 2))
    yield "mm edges", t["mm.default"](torch.diag(torch.tensor(_EDGES)), values(6, 11, 9) * 1e30)
    yield "addmm", t["addmm.default"](values(7, 33), values(8, 20, 65), values(9, 65, 33))
    yield "bmm", t["bmm.default"](values(10, 3, 17, 20), values(11, 3, 19, 20).mT)
    image, weight, grad = values(12, 3, 4, 9, 11), values(13, 6, 2, 3, 3), values(14, 3, 6, 5, 6)
    shape = ([2, 2], [1, 1], [1, 1], False, [0, 0], 2)
    yield "convolution", t["convolution.default"](image, weight, values(15, 6), *shape)
    yield ("convolution_backward", t["convolution_backward.default"](grad, image, weight, [6], *shape, [True] * 3))
    volume, weight, grad = values(16, 2, 4, 5, 6, 7), values(17, 6, 2, 3, 3, 3), values(18, 2, 6, 3, 3, 4)
    deep = ([2] * 3, [1] * 3, [1] * 3, False, [0] * 3, 2)
    yield "convolution3d", t["convolution.default"](volume, weight, values(19, 6), *deep)
    yield "convolution3d_backward", t["convolution_backward.default"](grad, volume, weight, [6], *deep, [True] * 3)


def _adaptive_products(t: Table) -> Iterator[Case]:
    yield from _products(t)
    yield "mm uneven", t["mm.default"](_uneven(60, 23, 300), _uneven(61, 31, 300).t())
    yield "mm columns", t["mm.default"](values(62, 5, 700), _uneven(63, 700, 9))
    yield "bmm uneven", t["bmm.default"](_uneven(64, 3, 17, 40), _uneven(65, 3, 40, 19))
    image, weight, grad = _uneven(66, 3, 4, 9, 11), _uneven(67, 6, 2, 3, 3), _uneven(68, 3, 6, 5, 6)
    shape = ([2, 2], [1, 1], [1, 1], False, [0, 0], 2)
    yield "convolution uneven", t["convolution.default"](image, weight, values(69, 6), *shape)
    backward = t["convolution_backward.default"](grad, image, weight, [6], *shape, [True] * 3)
    yield "convolution_backward uneven", backward


def _uneven(key: int, *shape: int) -> torch.Tensor:
    """Values of which one in 37 is 2**17 times as large: some rows need four digits."""
    x = values(key, *shape)
    x.view(-1)[::37] *= 2.0**17
    x[-1] *= 2.0**-110
    return x


def _elementwise(t: Table) -> Iterator[Case]:
    x = torch.cat([values(20, 5000), values(21, 500) * 20, torch.tensor(_EDGES)])
    y = values(22, x.numel())
    for name in ("exp", "tanh", "sigmoid", "erf", "sin", "cos", "gelu", "silu", "reciprocal"):
        yield name, t[f"{name}.default"](x)
    for name in ("log", "sqrt", "rsqrt"):
        yield name, t[f"{name}.default"](x.abs())
    for name in ("add", "sub", "mul", "div"):
        yield name, t[f"{name}.Tensor"](x, y)
    yield "div scalar", t["div.Scalar"](x, 3.0)
    yield "add alpha", t["add.Tensor"](x, y, alpha=0.3)
    yield "addcmul", t["addcmul.default"](x, y, y, value=0.7)
    yield "gelu tanh", t["gelu.default"](x, approximate="tanh")
    yield "gelu_backward", t["gelu_backward.default"](y, x)
    yield "silu_backward", t["silu_backward.default"](y, x)
    for exponent in (-0.5, 0.5, 1.7, 3, -7):
        yield f"pow {exponent}", t["pow.Tensor_Scalar"](x.abs(), exponent)


def _reductions(t: Table) -> Iterator[Case]:
    x, grad = values(30, 7, 50, 6), values(31, 7, 50, 6)
    for dims in ([0], [1], [2], [0, 2], [0, 1, 2]):
        yield f"sum {dims}", t["sum.dim_IntList"](x, dims, False)
    yield "mean", t["mean.default"](x)
    yield "cumsum", t["cumsum.default"](x, 1)
    yield "var_mean", t["var_mean.correction"](x, [1], correction=1)
    for dim in (1, 2):
        yield f"softmax {dim}", t["_softmax.default"](x, dim, False)
        yield f"log_softmax {dim}", t["_log_softmax.default"](x, dim, False)
    y = t["_softmax.default"](x, 1, False)
    yield "softmax_backward", t["_softmax_backward_data.default"](grad, y, 1, torch.float32)
    yield "log_softmax_backward", t["_log_softmax_backward_data.default"](grad, y, 1, torch.float32)
    index = torch.arange(40) * 7 % 11
    yield "embedding_backward", t["embedding_dense_backward.default"](values(32, 40, 9), index, 11, 3, False)
    yield "index_put", t["index_put.default"](values(33, 11), [index], values(34, 40), True)
    yield "average", average([values(k, 100) for k in range(35, 42)], [1, 2, 3, 4, 5, 6, 7])


def _layers(t: Table) -> Iterator[Case]:
    x, grad, w, b = values(50, 9, 70), values(51, 9, 70), values(52, 70), values(53, 70)
    normal = t["native_layer_norm.default"](x, [70], w, b, 1e-5)
    yield "layer_norm", normal
    yield ("layer_norm_backward", t["native_layer_norm_backward.default"](grad, x, [70], *normal[1:], w, b, [True] * 3))
    image, back, s = values(54, 5, 4, 7, 7), values(55, 5, 4, 7, 7), values(56, 4)
    running = values(57, 4), values(58, 4).abs()
    batch = t["_native_batch_norm_legit_functional.default"](image, s, s, *running, True, 0.1, 1e-5)
    yield "batch_norm", batch
    yield (
        "batch_norm_backward",
        t["native_batch_norm_backward.default"](back, image, s, *running, batch[1], batch[2], True, 1e-5, [True] * 3),
    )
    pooled, index = t["max_pool2d_with_indices.default"](image, *_WINDOW)
    yield "max_pool", (pooled, index)
    yield (
        "max_pool_backward",
        t["max_pool2d_with_indices_backward.default"](values(59, *pooled.shape), image, *_WINDOW, [1, 1], False, index),
    )
    yield "avg_pool", t["avg_pool2d.default"](image, [3, 3], [2, 2])
    target = torch.arange(9)
    yield "nll_loss", t["nll_loss_forward.default"](x, target, w.abs(), 1, -100)


def digest(found: Any) -> str:
    """SHA-256, hex, over what an operation returned: types, shapes and bytes, with one NaN for all."""
    sha = hashlib.sha256()
    for tensor in found if isinstance(found, tuple | list) else [found]:
        if tensor is None:
            continue
        if tensor.is_floating_point():
            tensor = torch.where(torch.isnan(tensor), torch.nan, tensor)
        sha.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()


def visited(device: str, digits: int) -> Table:
    """The table of a device for tensors on the CPU: they go there, and what comes out comes back."""
    at = torch_device(device)
    return {name: _visiting(run, at) for name, run in device_table(digits, device).items()}


def _visiting(run: Definition, device: torch.device) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        return moved(run(*moved(arguments, device), **moved(options, device)), torch.device(CPU))

    return call


def moved(item: Any, device: torch.device) -> Any:
    """`item` with every tensor in it on `device`."""
    if isinstance(item, torch.Tensor):
        return item.to(device)
    if isinstance(item, dict):
        return {key: moved(value, device) for key, value in item.items()}
    return type(item)(moved(part, device) for part in item) if isinstance(item, list | tuple) else item


def main() -> int:
    """Print the digest, and PASS or the first differing case; 0 when this machine may take part."""
    parser = argparse.ArgumentParser(description="recompute the golden vectors of podlt's exact arithmetic")
    parser.add_argument("--write", action="store_true", help="rewrite the golden vectors")
    if parser.parse_args().write:
        found, path = compute(), Path(__file__).with_name(VECTORS)
        known = [name for name in vectors() if name in found]  # what is new is appended
        path.write_text(json.dumps({name: found[name] for name in [*known, *found]}, indent=1) + "\n")
        print(total(found))
        return 0
    report = check()
    print(report.digest, "PASS" if report.differing is None else f"FAIL: {report.differing}")
    return 0 if report.differing is None else 1


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
