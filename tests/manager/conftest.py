"""Runs that several tests look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from near_hosts import audits_that_capture_once, train_near
from small_runs import ALWAYS, OFTEN, Trained, seeded, small_recipe


@pytest.fixture(scope="package", autouse=True)
def capturing_once() -> Iterator[None]:
    """Each audit captures the program again, which costs more than all else that it does with a small run."""
    with audits_that_capture_once():
        yield


@pytest.fixture(scope="session")
def cheated(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A finished run of eight workers, two of whom flip signs."""
    path = tmp_path_factory.mktemp("run") / "cheated"
    return train_near(path, small_recipe(protocol=OFTEN), cheats=["2:sign-flip"], entropy=seeded(2))


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A finished run of 24 workers, of whom thirteen cheat, in ten ways."""
    return train_near(
        tmp_path_factory.mktemp("run") / "crowd",
        small_recipe(workers=24, batch_size=60, epochs=1, protocol=OFTEN),
        cheats=[*(f"1:{kind}" for kind in ALWAYS), "1:selective:0.5", "3:random"],
        entropy=seeded(3),
    )
