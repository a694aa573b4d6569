"""Real processes with parameters too large for messages: the same bits, also when the manager is killed meanwhile."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from stage import Stage, write_recipe

import podlt.api
from podlt.recipe import load_recipe
from podlt.store.run_names import BLOBS

HIDDEN = 4000
"""1.2 MB of parameters: more than goes in messages."""


def recipe(folder: Path) -> Path:
    return write_recipe(folder / "recipe.toml", epochs=1, workers=4, batch_size=400, hidden=HIDDEN)


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the same recipe comes to on one machine."""
    folder = tmp_path_factory.mktemp("local")
    return podlt.api.train(load_recipe(recipe(folder)), run=folder / "run").parameters


@pytest.mark.slow
@pytest.mark.parametrize("bucket", [False, True])
def test_large_parameters_and_updates_go_by_https(tmp_path: Path, parameters: str, bucket: bool) -> None:
    with Stage(tmp_path, recipe(tmp_path)) as stage:
        stage.start_manager(*(("--blobs", f"file://{tmp_path}/bucket") if bucket else ()))
        stage.start_worker("a", "--identities", 2)
        stage.start_worker("b", "--identities", 2)
        state = stage.end()
        published = stage.events("published")
    assert state.parameters == parameters
    assert all(worker.status == "active" for worker in state.workers.values())
    assert {one["way"] for one in published} == {"store" if bucket else "https"}
    assert not list((tmp_path / "run" / BLOBS).iterdir())


@pytest.mark.slow
def test_a_manager_that_is_killed_while_large_blobs_go_round_goes_on(tmp_path: Path, parameters: str) -> None:
    dice = random.Random(4)
    with Stage(tmp_path, recipe(tmp_path)) as stage:
        stage.start_manager()
        stage.start_worker("a", "--identities", 2)
        stage.start_worker("b", "--identities", 2)
        for number in range(1, 4):
            stage.until_round(number)
            time.sleep(0.3 * dice.random())
            if not stage.manager.runs:
                break
            stage.manager.kill()
            stage.start_manager()
        state = stage.end()
    assert state.parameters == parameters
    assert all(worker.status != "evicted" for worker in state.workers.values())
