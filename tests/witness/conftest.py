"""Simulated runs, whose logs are real, and a witness."""

from __future__ import annotations

from pathlib import Path

import pytest
from witnessed_logs import Log

from podlt.crypto import SigningKey, digest
from podlt.sim.simulate import simulate
from podlt.witness.state import WitnessState
from podlt.witness.witness import Witness


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A run of six rounds."""
    run = tmp_path_factory.mktemp("simulated") / "run"
    simulate(4, rounds=6, seed=1, whole=True, directory=run)
    return Log(run)


@pytest.fixture
def state(tmp_path: Path) -> WitnessState:
    return WitnessState(tmp_path / "witness")


@pytest.fixture
def witness(state: WitnessState) -> Witness:
    return Witness("w.example/1", SigningKey(digest("test-witness/2")), state, most=5, open=True)
