"""Lets these tests use the small runs of the tests of training; and a simulated run with a bit of everything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from podlt.sim import simulate

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
sys.path.insert(0, str(Path(__file__).parents[1] / "network"))


@pytest.fixture(scope="session")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run, with deposits: two who always cheat, two who crash and come back."""
    path = tmp_path_factory.mktemp("simulated") / "run"
    simulate(12, {"always": 2, "crashing:0.1": 2}, 60, seed=3, whole=True, deposit=30, directory=path)
    return path
