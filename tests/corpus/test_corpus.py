"""Each module of the corpus trains as eager PyTorch trains it, or is refused for the right reason."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch

from .corpus import ROWS, declare_torchvision
from .harness import GRADIENTS, LOSSES, OWN, try_row
from .rows import Row
from .table import PAGE, page


@pytest.fixture(scope="module", autouse=True)
def _torchvision() -> Iterator[None]:
    """Its operations, where its C library brings none: transformers reads it too."""
    library = None if hasattr(torch.ops.torchvision, "nms") else declare_torchvision()
    yield
    del library


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.family}: {row.name}")
def test_a_module_trains_beside_eager_or_is_refused_for_the_right_reason(row: Row) -> None:
    for name in row.needs:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    found = try_row(row)
    assert bool(found.refused) == bool(row.refused) and row.refused in found.refused, found.refused
    assert found.gradients < max(GRADIENTS, OWN * found.own), found
    assert found.losses < LOSSES, found


def test_at_least_sixty_modules_are_in_the_corpus_and_three_of_four_train() -> None:
    assert len(ROWS) >= 60
    assert sum(not row.refused for row in ROWS) >= 0.75 * len(ROWS)


def test_the_page_is_written_from_the_corpus() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.corpus.table"
