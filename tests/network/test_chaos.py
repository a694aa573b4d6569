"""kill -9 and SIGSTOP of everybody, at any moment: the run ends, all is paid, nobody honest is evicted."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from small_runs import entries, replayed
from stage import Stage, all_committed_work_is_paid, write_recipe

import podlt.api
from podlt.recipe import load_recipe

pytestmark = [pytest.mark.chaos]

EPOCHS, WORKERS = 8, 6

LONG = 80
"""Epochs that last until a worker has started again: it imports PyTorch first."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe") / "recipe.toml", epochs=EPOCHS, workers=WORKERS)


@pytest.fixture(scope="module")
def long_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe") / "recipe.toml", epochs=LONG, workers=WORKERS)


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The parameters of the same run on one machine, to which nothing happened."""
    return podlt.api.train(load_recipe(recipe), run=tmp_path_factory.mktemp("local") / "run").parameters


def started(folder: Path, recipe: Path, silence_timeout: float = 120.0) -> Stage:
    stage = Stage(folder, recipe, silence_timeout=silence_timeout)
    stage.start_manager()
    stage.start_worker("a", "--identities", 3)
    stage.start_worker("b", "--identities", 3)
    stage.until_round(5)
    return stage


def test_what_is_not_paid_is_noticed(tmp_path: Path, recipe: Path) -> None:
    run = podlt.api.train(load_recipe(recipe), run=tmp_path / "run").run
    log, state = entries(run), replayed(run)
    all_committed_work_is_paid(state, log)
    state.ledger.accounts[2].vested -= 1
    with pytest.raises(AssertionError, match="worker 2"):
        all_committed_work_is_paid(state, log)


def test_a_worker_that_is_killed_and_comes_back_in_time_changes_no_bit(
    tmp_path: Path, recipe: Path, undisturbed: bytes
) -> None:
    with started(tmp_path, recipe) as stage:
        stage.workers["b"].kill()
        stage.start_worker("b")
        state = stage.end()
        stage.nobody_left(state)
    assert state.parameters == undisturbed


def test_a_worker_that_is_killed_and_stays_away_is_let_go_and_keeps_its_pay(tmp_path: Path, recipe: Path) -> None:
    with started(tmp_path, recipe, silence_timeout=4) as stage:
        stage.until_round(30)  # until then a check has covered work of each
        stage.workers.pop("b").kill()
        state = stage.end()
    assert sorted(worker.status for worker in state.workers.values()) == ["active"] * 3 + ["withdrawn"] * 3
    assert all(state.ledger.accounts[number].vested > 0 for number in state.workers)


def test_a_worker_that_was_let_go_comes_back_with_its_identity(tmp_path: Path, long_recipe: Path) -> None:
    with started(tmp_path, long_recipe, silence_timeout=3) as stage:
        stage.workers["b"].kill()
        stage.until(lambda: len(stage.events("withdrawn")) >= 3)
        stage.start_worker("b")
        stage.until(lambda: sum(event["again"] for event in stage.events("joined")) >= 3)
        state = stage.end()
    assert [worker.status for worker in state.workers.values()] == ["active"] * WORKERS


@pytest.mark.parametrize("rounds", [[7], [6, 20, 21, 60]])
def test_a_manager_that_is_killed_goes_on_and_changes_no_bit(
    tmp_path: Path, recipe: Path, undisturbed: bytes, rounds: list[int]
) -> None:
    with started(tmp_path, recipe) as stage:
        for number in rounds:
            stage.until_round(number)
            stage.manager.kill()
            done = stage.rounds()
            stage.start_manager()
            stage.until(lambda done=done: stage.rounds() > done)  # type: ignore[misc]
        state = stage.end()
        stage.nobody_left(state)
    assert state.parameters == undisturbed


def test_a_worker_that_is_stopped_for_a_while_changes_no_bit(tmp_path: Path, recipe: Path, undisturbed: bytes) -> None:
    with started(tmp_path, recipe) as stage:
        stage.workers["a"].send(signal.SIGSTOP)
        time.sleep(4)
        stage.workers["a"].send(signal.SIGCONT)
        state = stage.end()
        stage.nobody_left(state)
    assert state.parameters == undisturbed


def test_a_worker_that_is_stopped_for_long_is_let_go_and_comes_back(tmp_path: Path, long_recipe: Path) -> None:
    with started(tmp_path, long_recipe, silence_timeout=3) as stage:
        stage.workers["a"].send(signal.SIGSTOP)
        stage.until(lambda: len(stage.events("withdrawn")) >= 3)
        stage.workers["a"].send(signal.SIGCONT)
        stage.until(lambda: sum(event["again"] for event in stage.events("joined")) >= 3)
        state = stage.end()
    assert [worker.status for worker in state.workers.values()] == ["active"] * WORKERS


def test_a_manager_that_is_stopped_for_long_blames_nobody(tmp_path: Path, recipe: Path, undisturbed: bytes) -> None:
    with started(tmp_path, recipe, silence_timeout=10) as stage:
        stage.manager.send(signal.SIGSTOP)
        time.sleep(20)
        stage.manager.send(signal.SIGCONT)
        state = stage.end()
        stage.nobody_left(state)
    assert state.parameters == undisturbed


def test_thirty_random_kills_end_in_the_bits_of_an_undisturbed_run(tmp_path: Path) -> None:
    dice = random.Random(3)
    recipe = write_recipe(tmp_path / "recipe.toml", epochs=60, workers=WORKERS)  # it lasts, on however fast a machine
    undisturbed = podlt.api.train(load_recipe(recipe), run=tmp_path / "local").parameters
    with started(tmp_path, recipe) as stage:
        for _ in range(30):
            stage.until_round(stage.rounds() + dice.randrange(1, 12))
            time.sleep(0.2 * dice.random())
            name = dice.choice(["manager", "a", "b"])
            if name == "manager":
                stage.manager.kill()
                stage.start_manager()
            else:
                stage.workers[name].kill()
                stage.start_worker(name)
        state = stage.end(300)
        stage.nobody_left(state)
    assert state.parameters == undisturbed


def test_a_soak_of_random_kills_and_stops_ends_sound(tmp_path: Path) -> None:
    dice = random.Random(7)
    recipe = write_recipe(tmp_path / "recipe.toml", epochs=18, workers=8)
    with Stage(tmp_path, recipe, silence_timeout=15) as stage:
        stage.start_manager()
        for name in "abcd":
            stage.start_worker(name, "--identities", 2)
        goal = 5
        while goal < 190:
            stage.until_round(goal)
            goal += dice.randrange(5, 30)
            disturb(stage, dice)
        state = stage.end(400)
    assert all(worker.status != "evicted" for worker in state.workers.values())
    assert state.round >= 200


def disturb(stage: Stage, dice: random.Random) -> None:
    """Kills or stops the manager or a worker."""
    victim, stops = dice.choice([*"abcd", "manager"]), dice.random() < 0.3
    if stops:
        process = stage.manager if victim == "manager" else stage.workers[victim]
        process.send(signal.SIGSTOP)
        time.sleep(3)
        process.send(signal.SIGCONT)
    elif victim == "manager":
        stage.manager.kill()
        stage.start_manager()
    else:
        stage.workers[victim].kill()
        stage.start_worker(victim)
