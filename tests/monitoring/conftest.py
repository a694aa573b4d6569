"""Simulated runs with a bit of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from podlt.recipe import ProtocolSpec
from podlt.sim import simulate

CAST = {"always": 2, "crashing:0.1": 2}


@pytest.fixture(scope="session")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guarded run, with deposits: two who always cheat and are suspended, two who crash and come back."""
    path = tmp_path_factory.mktemp("simulated") / "run"
    rules = ProtocolSpec(checked=0.25, own=0.1)
    simulate(12, CAST, 60, seed=3, whole=True, deposit=30, protocol=rules, directory=path)
    return path


@pytest.fixture(scope="session")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by the seed's rules, where who cheats is evicted."""
    path = tmp_path_factory.mktemp("simulated") / "run"
    rules = ProtocolSpec(preset="classic")
    simulate(12, CAST, 60, seed=3, whole=True, deposit=30, protocol=rules, directory=path)
    return path
