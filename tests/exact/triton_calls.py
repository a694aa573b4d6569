"""What Triton's kernels return, beside the definitions: run by tests in a process of its own, with TRITON_INTERPRET=1.

    python tests/exact/triton_calls.py operations | products | convolutions

prints JSON: how much was compared, and what differs. The interpreter must be chosen before anything imports Triton.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from test_every_operation import as_arrays, bits, parts

from podlt.exact.constants import ADAPTIVE
from podlt.exact.cpu.backend import table as cpu_table
from podlt.exact.definition import products as definition
from podlt.exact.device_table import device_table
from podlt.exact.operations import definitions, samples
from podlt.exact.portable.devices import INTERPRETED
from podlt.exact.samples import values

EDGES = [0.0, -0.0, 1e-45, -1e-40, 2.0**-126, 1.0, -1.0, 3.0e38, 0.5, -(2.0**-100), 6e-8]


def operations() -> dict[str, Any]:
    """Every operation over all its samples."""
    defined, table, compared, differing = definitions(2), device_table(2, INTERPRETED), 0, set()
    for name, arguments, options in samples(cpu_table(2)):
        given = as_arrays(arguments), {key: as_arrays(value) for key, value in options.items()}
        got = table[name](*arguments, **options)
        want = defined[name](*given[0], **given[1])
        found = [None if t is None else t.numpy() for t in parts(got)]
        compared += 1
        if [bits(a) for a in found] != [bits(a) for a in parts(want)]:
            differing.add(name)
    return {"compared": compared, "differing": sorted(differing)}


def operands() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows and columns of many sizes, and more terms than a chunk of the way by halves."""
    yield values(1, 5, 70), values(2, 70, 6)
    yield values(3, 3, 1100), values(4, 1100, 2)
    uneven, other = values(5, 6, 130), values(6, 130, 5)
    uneven[0] *= 1e-6
    uneven[0, 3], uneven[2] = 1.0, 0.0
    uneven[1] *= 2.0**-120
    uneven[3] *= 1e-40
    uneven[4] = torch.tensor([30000.0] + [0.5] * 129)
    other[:, 0] *= 1e-5
    other[7, 0], other[:, 1] = 3.0, 0.0
    other[:, 2] *= 2.0**-118
    yield uneven, other
    yield torch.diag(torch.tensor(EDGES)), values(7, 11, 9)


def products() -> dict[str, Any]:
    """Products by each way, in each number of digits; and what chooses among them."""
    from podlt.exact.triton import products as kernels
    from podlt.exact.triton import ways

    compared, differing = 0, []
    for number, (a, b) in enumerate(operands()):
        for digits in (ADAPTIVE, 1, 2, 3, 4):
            rows = [[definition.dot(x, y, digits) for y in b.numpy().T] for x in a.numpy()]
            want = np.array(rows, np.float32)
            for way in ("int8", "half", "float64"):
                with kernels.using(way):  # type: ignore[arg-type]
                    got = kernels.mm(a, b, digits), kernels.bmm(a[None], b[None], digits)[0]
                compared += 1
                if any(bits(found.numpy()) != bits(want) for found in got):
                    differing.append([number, digits, way])
    cpu = torch.device("cpu")
    right = [way for way in ("int8", "half") if ways.is_right(way, cpu)]  # type: ignore[arg-type]
    return {"compared": compared, "differing": differing, "right": right, "chosen": ways.fastest(cpu)}


GEOMETRIES = [  # stride, padding, dilation, transposed, output padding, groups; sizes of a line, weight and a sample
    (([1, 1], [1, 1], [1, 1], False, [0, 0], 1), (3, 4, 6, 7), (5, 4, 3, 3)),
    (([2, 3], [2, 0], [1, 2], False, [0, 0], 2), (2, 4, 9, 8), (6, 2, 3, 2)),
    (([2, 1], [1, 1], [1, 2], True, [1, 0], 3), (2, 6, 5, 6), (6, 2, 3, 3)),
    (([2], [1], [2], False, [0], 1), (2, 3, 40), (40, 3, 5)),
    (([1, 2, 1], [1, 0, 1], [1, 1, 1], False, [0, 0, 0], 1), (1, 2, 5, 6, 5), (3, 2, 3, 2, 3)),
]


def convolutions() -> dict[str, Any]:
    """Convolutions and their gradients, samples and channels wide and not, beside the CPU's, by each way."""
    from podlt.exact.triton import products as kernels

    compared, differing = 0, []
    for number, (settings, line, kernel) in enumerate(GEOMETRIES):
        for digits in (ADAPTIVE, 2, 3):
            x, weight = values(1, *line), values(2, *kernel)
            x[0], weight[0] = x[0] ** 21, weight[0] ** 21  # few large values and many small ones
            table, oracle = device_table(digits, INTERPRETED), cpu_table(digits)
            grad = values(3, *oracle["convolution.default"](x, weight, None, *settings).shape)
            grad[:, 0] = grad[:, 0] ** 21
            for way in ("int8", "half"):
                with kernels.using(way):  # type: ignore[arg-type]
                    for name, given in (
                        ("convolution.default", (x, weight, None, *settings)),
                        ("convolution_backward.default", (grad, x, weight, None, *settings, [True, True, True])),
                    ):
                        compared += 1
                        got, want = (parts(t[name](*given)) for t in (table, oracle))
                        if [bits(a.numpy()) for a in got] != [bits(a.numpy()) for a in want]:
                            differing.append([number, digits, way, name])
    return {"compared": compared, "differing": differing}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    print(json.dumps({"operations": operations, "products": products, "convolutions": convolutions}[sys.argv[1]]()))
