"""A simulated run with a bit of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from podlt.sim import simulate


@pytest.fixture(scope="session")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run, with deposits: two who always cheat, two who crash and come back."""
    path = tmp_path_factory.mktemp("simulated") / "run"
    simulate(12, {"always": 2, "crashing:0.1": 2}, 60, seed=3, whole=True, deposit=30, directory=path)
    return path
