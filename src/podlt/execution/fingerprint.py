"""What this machine computes for known inputs: a digest that must be the manager's before a worker may join.

Exact arithmetic has golden vectors: their digest is the same on every machine. Stock arithmetic is PyTorch's own, which
gives the same bits only on machines that are alike; so its digest is over what this machine computes for known inputs,
and a worker whose digest is another than the manager's is refused instead of being evicted, later, for honest work.
"""

from __future__ import annotations

import hashlib

import msgspec
import torch

from podlt.exact.portable.devices import CPU
from podlt.execution.conformance import conformance
from podlt.program.operations import EXACT_ARITHMETIC


class Arithmetic(msgspec.Struct, frozen=True):
    """What a machine computes.

    Attributes:
        digest: must be the manager's.
        differing: the first operation that is wrong, if any.
    """

    digest: str
    differing: str = ""


def expected(arithmetic: str) -> str:
    """What the digest of a worker must be for a program's arithmetic."""
    if arithmetic not in EXACT_ARITHMETIC:
        return _stock()
    from podlt.exact.conformance import total, vectors

    return "exact " + total(vectors())


def measured(arithmetic: str, device: str = CPU) -> Arithmetic:
    """What a device computes, for a program's arithmetic. Takes seconds; a minute when kernels must be compiled."""
    if arithmetic not in EXACT_ARITHMETIC:
        return Arithmetic(_stock())
    report = conformance(arithmetic, device)
    return Arithmetic(f"exact {report.digest}", report.differing)


def _stock() -> str:
    """A digest over PyTorch's version, its instruction set, and results that depend on how sums are grouped."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = hashlib.sha256(torch.__version__.encode())
        for size in (7, 64, 300):
            x = _pattern(size * 33, 1).reshape(33, size)
            y = _pattern(size * 29, 2).reshape(size, 29)
            image = _pattern(2 * 3 * 9 * size, 3).reshape(2, 3, 9, size)
            weight = _pattern(4 * 3 * 3 * 3, 4).reshape(4, 3, 3, 3)
            for result in (
                x @ y,
                torch.nn.functional.conv2d(image, weight),
                x.sum(1),
                x.softmax(1),
                x.exp(),
                torch.nn.functional.layer_norm(x, [size]),
                torch.nn.functional.gelu(x),
            ):
                found.update(result.contiguous().numpy().tobytes())
    finally:
        torch.set_num_threads(threads)
    return f"stock {torch.__version__} {torch.backends.cpu.get_cpu_capability()} {found.hexdigest()[:32]}"


def _pattern(count: int, step: int) -> torch.Tensor:
    """Numbers of many sizes, exact in float32, from whole numbers alone."""
    whole = (torch.arange(count, dtype=torch.int64) * (7919 + 2 * step)) % 65_537 - 32_768
    return whole.to(torch.float32) / 4096
