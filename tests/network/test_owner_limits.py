"""What a worker's owner gives, and no more, seen on real processes; and one key that is used in two places."""

from __future__ import annotations

import re
import shutil
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from stage import Stage, write_recipe

from podlt.wire.messages import INLINE
from podlt.worker.folder import read_status

MIB = 2**20


def children(pid: int) -> list[int]:
    return [
        int(child) for thread in Path(f"/proc/{pid}/task").glob("*/children") for child in thread.read_text().split()
    ]


def soft_limit(pid: int, name: str) -> int:
    """What the system allows a process, as a number."""
    found = re.search(rf"^{name} +(\S+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.slow
def test_one_key_in_two_places_is_said_to_its_owner_and_costs_nobody_the_run(tmp_path: Path) -> None:
    with Stage(tmp_path, write_recipe(tmp_path / "recipe.toml", epochs=60, workers=3)) as stage:
        stage.start_manager()
        stage.start_worker("first", "--identities", 3)
        stage.until_round(2)
        (tmp_path / "second").mkdir()
        shutil.copy(tmp_path / "first" / "worker.key", tmp_path / "second" / "worker.key")
        stage.start_worker("second", "--identities", 3)
        stage.until(lambda: "another process with this key is connected" in stage.workers["second"].text)
        before = stage.rounds()
        stage.until(lambda: stage.rounds() >= before + 5)
        assert stage.workers["first"].runs and stage.workers["second"].runs
        assert not stage.events("withdrawn"), "the first goes on as if nothing had happened"

        same = stage.workers["first"]
        stage.start_worker("first", "--identities", 3)
        assert stage.workers["first"].end(60) == 2, "a folder is one worker's"
        assert "another worker runs in this folder" in stage.workers["first"].text

        same.kill()  # now the other one may
        state = stage.end()
        assert stage.workers["second"].end(30) == 0
    assert len(state.workers) == 3 and not any(worker.status == "evicted" for worker in state.workers.values())
    status, _ = read_status(tmp_path / "second")
    assert all(earned.vested > 0 for earned in status.workers.values())


@pytest.mark.slow
def test_a_worker_works_in_its_hours_alone_and_waits_for_the_next(tmp_path: Path) -> None:
    with Stage(tmp_path, write_recipe(tmp_path / "recipe.toml", epochs=2000, workers=3)) as stage:
        stage.start_manager()
        now = datetime.now()
        far = [now + timedelta(hours=hours) for hours in (3, 4)]
        stage.start_worker("idle", "--identities", 3, "--hours", "-".join(f"{one:%H:%M}" for one in far))
        stage.until(lambda: "waiting until " in stage.workers["idle"].text)
        end = now + timedelta(minutes=2)
        stage.start_worker("short", "--identities", 3, "--hours", f"{now:%H:%M}-{end:%H:%M}")
        stage.until_round(1)
        stage.until(lambda: "its hours are over" in stage.workers["short"].text, 240)
        stage.until(lambda: "waiting until " in stage.workers["short"].text)
        idle, _ = read_status(tmp_path / "idle")
        assert not idle.connected and not idle.run and "waiting" in idle.doing, "it did not even connect"
        for worker in stage.workers.values():
            assert worker.runs
            worker.send(signal.SIGTERM)
            assert worker.end(60) == 0
        stage.manager.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "rounds", "rate"), [(800, 6, 150_000), (3000, 3, 300_000)], ids=["messages", "requests"]
)
def test_memory_and_bandwidth_are_bounded_and_the_run_goes_on(
    tmp_path: Path, hidden: int, rounds: int, rate: int
) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", epochs=60, workers=3, hidden=hidden)
    update = 4 * (64 * hidden + hidden + hidden * 10 + 10)
    assert (update > INLINE) == (hidden > 800)
    with Stage(tmp_path, recipe) as stage:
        stage.start_manager()
        given = ("--memory", "600M", "--disk", "64M", "--bandwidth", str(rate), "--cpus", 1)
        stage.start_worker("a", "--identities", 3, *given)
        stage.until(lambda: stage.rounds() >= 1, 180)
        (executing,) = children(stage.workers["a"].pid)
        assert soft_limit(executing, "Max data size") <= 600 * MIB
        assert soft_limit(executing, "Max cpu time") <= 3700
        first, begun = stage.rounds(), time.monotonic()
        stage.until(lambda: stage.rounds() >= first + rounds, 300)
        passed, done = time.monotonic() - begun, stage.rounds() - first
        least = 3 * (done - 1) * update / 4  # zeros are left out, and one round was under way before
        assert least <= rate * (passed + 1), "as fast as its owner allows, and no faster"
        stage.workers["a"].send(signal.SIGTERM)
        assert stage.workers["a"].end(90) == 0
        stage.manager.kill()
