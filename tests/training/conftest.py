"""Runs that several tests look at."""

from __future__ import annotations

import pytest
from small_runs import Trained, seeded, small_recipe, train


@pytest.fixture(scope="session")
def cheated(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A finished run of eight workers, two of whom flip signs."""
    return train(tmp_path_factory.mktemp("run") / "cheated", small_recipe(), cheats=["2:sign-flip"], entropy=seeded(1))
