"""Manager and workers in networks of their own, on a wire that is cut, slow, bad, or leads elsewhere."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stage import Circumstances, Stage, write_recipe
from wires import HERE, Wire, wire

import podlt.api
from podlt.recipe import load_recipe

pytestmark = [pytest.mark.chaos]

WORKERS = 6

MINUTE = 60.0

UNRULY = Path(__file__).with_name("unruly.py")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe") / "recipe.toml", epochs=3, workers=WORKERS)


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The parameters of the same run on one machine, to which nothing happened."""
    return podlt.api.train(load_recipe(recipe), run=tmp_path_factory.mktemp("local") / "run").parameters


@contextmanager
def apart(folder: Path, recipe: Path, silence_timeout: float = 120.0) -> Iterator[tuple[Stage, Wire]]:
    """A manager and two worker processes, with a wire between them."""
    with wire() as between:
        manager, workers = (Circumstances(between.within(network)) for network in (between.here, between.there))
        with Stage(folder, recipe, silence_timeout=silence_timeout, listen=HERE, circumstances=manager) as stage:
            stage.start_manager()
            for name in "ab":
                stage.start_worker(name, "--identities", WORKERS // 2, circumstances=workers)
            yield stage, between


def test_a_network_that_is_cut_for_a_minute_changes_no_bit(tmp_path: Path, recipe: Path, undisturbed: bytes) -> None:
    with apart(tmp_path, recipe, silence_timeout=10 * MINUTE) as (stage, between):
        stage.until_round(5)
        between.link("down")
        done = stage.rounds()
        time.sleep(MINUTE)
        assert stage.rounds() <= done + 1  # what was on its way may still have ended a round
        between.link("up")
        state = stage.end()
        stage.nobody_left(state)
    assert state.parameters == undisturbed


def test_those_who_are_let_go_while_the_network_is_cut_come_back_with_their_identity(tmp_path: Path) -> None:
    longer = write_recipe(tmp_path / "recipe.toml", epochs=40, workers=WORKERS)  # it goes on when two have come back
    with apart(tmp_path, longer, silence_timeout=15) as (stage, between):
        stage.until_round(5)
        began = time.monotonic()
        between.cut = True  # nothing gets through, and nobody is told: both ends have to notice
        stage.until(lambda: len(stage.events("withdrawn")) == WORKERS)
        print(f"machines that vanished were withdrawn after {time.monotonic() - began:.1f} s")
        reasons = {event["reason"] for event in stage.events("withdrawn")}
        assert "left: connection lost" in reasons and not any("timed out" in reason for reason in reasons)
        time.sleep(MINUTE / 4)
        between.cut = False
        state = stage.end()
    assert [worker.status for worker in state.workers.values()] == ["active"] * WORKERS
    assert sum(event["again"] for event in stage.events("joined")) == WORKERS


def test_a_long_line_that_loses_packets_changes_no_bit(tmp_path: Path, recipe: Path, undisturbed: bytes) -> None:
    with apart(tmp_path, recipe) as (stage, between):
        between.delay, between.loss = 0.3, 0.01
        state = stage.end(400)
        stage.nobody_left(state)
        assert between.lost > 10
    assert state.parameters == undisturbed


def test_packets_that_come_twice_or_in_another_order_change_no_bit(
    tmp_path: Path, recipe: Path, undisturbed: bytes
) -> None:
    with apart(tmp_path, recipe) as (stage, between):
        between.delay, between.twice, between.late, between.loss = 0.01, 0.1, 0.1, 0.005
        state = stage.end()
        stage.nobody_left(state)
    assert state.parameters == undisturbed


def test_messages_that_come_twice_late_or_not_at_all_change_no_bit(
    tmp_path: Path, recipe: Path, undisturbed: bytes
) -> None:
    unruly = Circumstances(code=(str(UNRULY),))
    with Stage(tmp_path, recipe, silence_timeout=60, circumstances=unruly) as stage:
        stage.start_manager()
        for name in "ab":
            stage.start_worker(name, "--identities", WORKERS // 2, circumstances=unruly)
        state = stage.end()
        stage.nobody_left(state)
        counts = [line for line in stage.said().splitlines() if line.startswith("unruly:")]
    assert state.parameters == undisturbed
    assert len(counts) == 3 and all(int(number) > 5 for line in counts for number in line.split()[1::2]), counts


def test_a_worker_whose_address_changes_keeps_its_identity(tmp_path: Path, recipe: Path, undisturbed: bytes) -> None:
    with apart(tmp_path, recipe) as (stage, between):
        for round, last in ((5, 77), (20, 78)):
            stage.until_round(round)
            between.move(f"10.213.0.{last}")
        state = stage.end()
        stage.nobody_left(state)
    assert len(state.workers) == WORKERS
    assert state.parameters == undisturbed


def test_a_soak_of_cuts_kills_and_moves_ends_sound(tmp_path: Path) -> None:
    dice = random.Random(11)
    recipe = write_recipe(tmp_path / "recipe.toml", epochs=8, workers=WORKERS)
    with apart(tmp_path, recipe, silence_timeout=15) as (stage, between):
        between.delay, between.loss = 0.005, 0.002
        goal, addresses = 5, iter(range(10, 200))
        while goal < 90:
            stage.until_round(goal)
            goal += dice.randrange(8, 24)
            match dice.choice(["cut", "down", "move", "manager", "worker"]):
                case "cut":
                    between.cut = True
                    time.sleep(dice.uniform(2, 6))
                    between.cut = False
                case "down":
                    between.link("down")
                    time.sleep(dice.uniform(2, 6))
                    between.link("up")
                case "move":
                    between.move(f"10.213.0.{next(addresses)}")
                case "manager":
                    stage.manager.kill()
                    stage.start_manager()
                case _:
                    name = dice.choice("ab")
                    stage.workers[name].kill()
                    stage.start_worker(name)
        state = stage.end(400)
    assert all(worker.status != "evicted" for worker in state.workers.values())
