"""A sum over a window keeps bits by how many cells that window sees: padding is no term (above 4,096 it matters)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from podlt.exact.cpu.backend import table as cpu
from podlt.exact.definition import pooling as definition
from podlt.exact.portable.backend import table as portable

TABLES = {"cpu": lambda: cpu(2), "portable": lambda: portable(2)}
PADDED = ([70, 70], [70, 70], [35, 35], False, True, None)


@pytest.mark.parametrize("backend", list(TABLES))
def test_an_average_counts_the_cells_that_its_window_sees(backend: str) -> None:
    x = torch.zeros(1, 1, 80, 80)
    x[0, 0, 0, 0], x[0, 0, 3, 3] = 1.0, 2.0**-49
    x[0, 0, 0, 1] = -1.0
    found = TABLES[backend]()["avg_pool2d.default"](x, *PADDED)
    assert np.array_equal(found.numpy(), definition.average_pool(x.numpy(), *PADDED))


@pytest.mark.parametrize("backend", list(TABLES))
def test_a_gradient_of_averages_counts_the_cells_that_are_seen(backend: str) -> None:
    x, window = torch.zeros(1, 1, 15, 15), ([8, 8], [1, 1], [4, 4], False, True, None)
    grad = torch.zeros(1, 1, 16, 16)
    grad[0, 0, 0, 0], grad[0, 0, 15, 15] = 64.0, 64.0 * 2.0**-47
    found = TABLES[backend]()["avg_pool2d_backward.default"](grad, x, *window)
    assert np.array_equal(found.numpy(), definition.average_pool_backward(grad.numpy(), x.numpy(), *window))
