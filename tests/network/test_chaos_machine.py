"""A disk that is full, and clocks that are wrong: what was logged is there, the run goes on, and no bit changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from clocks import Clock
from small_runs import entries
from stage import Circumstances, Stage, write_recipe

import podlt.api
from podlt.recipe import load_recipe
from podlt.verify import verify
from podlt.worker.folder import read_status

pytestmark = [pytest.mark.chaos]

WORKERS = 6

HOUR, YEAR = 3600, 365 * 86400


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe") / "recipe.toml", epochs=4, workers=WORKERS)


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The parameters of the same run on one machine, to which nothing happened."""
    return podlt.api.train(load_recipe(recipe), run=tmp_path_factory.mktemp("local") / "run").parameters


def start_workers(stage: Stage, *circumstances: Circumstances) -> None:
    for name, given in zip("ab", circumstances or (Circumstances(),) * 2, strict=True):
        stage.start_worker(name, "--identities", WORKERS // 2, circumstances=given)


# -- disks -----------------------------------------------------------------------------------------------------------


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A small disk of its own; the test is skipped where none can be mounted."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "podlt", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk of its own can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, left: int = 0) -> Path:
    """Takes what is left of a disk, but for so many bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    assert shutil.disk_usage(disk).free == 0
    os.truncate(filler, filler.stat().st_size - left)
    return filler


@pytest.mark.parametrize("left", [0, 200_000])
def test_a_manager_whose_disk_is_full_says_so_and_goes_on_with_the_same_bits_once_there_is_room(
    tmp_path: Path, recipe: Path, undisturbed: bytes, left: int
) -> None:
    with disk(tmp_path / "disk", 64) as full, Stage(tmp_path, recipe, silence_timeout=60, run=full / "run") as stage:
        stage.start_manager()
        start_workers(stage)
        stage.until_round(5)
        filler = fill(full, left)
        assert stage.manager.end() != 0
        said = stage.manager.text
        assert "No space left on device" in said or "database or disk is full" in said, stage.said()
        assert "Traceback" not in said and "--resume" in said
        logged = entries(stage.run)
        assert all(process.runs for process in stage.workers.values())
        filler.unlink()
        stage.start_manager()
        state = stage.end()
        stage.nobody_left(state)
        assert entries(stage.run)[: len(logged)] == logged
    assert state.parameters == undisturbed


def test_a_worker_whose_disk_is_full_goes_on_working(tmp_path: Path, recipe: Path, undisturbed: bytes) -> None:
    with disk(tmp_path / "a", 96) as full, Stage(tmp_path, recipe, silence_timeout=60) as stage:
        stage.start_manager()
        start_workers(stage)
        stage.until_round(5)
        filler = fill(full)
        stage.until_round(40)
        filler.unlink()
        state = stage.end()
        stage.nobody_left(state)
        status, _ = read_status(full)
    assert state.parameters == undisturbed
    for earned in status.workers.values():
        assert earned.vested == state.ledger.accounts[earned.number].vested > 0


# -- clocks ----------------------------------------------------------------------------------------------------------


def in_order(run: Path) -> list[int]:
    """The times of a log, which never go back."""
    times = [entry.at for entry in entries(run)]
    assert all(one <= other for one, other in pairwise(times))
    return times


def test_a_manager_whose_clock_is_set_back_and_forth_while_it_runs_changes_no_bit(
    tmp_path: Path, recipe: Path, undisturbed: bytes
) -> None:
    clock = Clock(tmp_path, "manager")
    with Stage(tmp_path, recipe, silence_timeout=60, circumstances=clock.circumstances) as stage:
        stage.start_manager()
        start_workers(stage)
        for round, seconds in ((5, -HOUR), (15, HOUR), (25, -YEAR)):
            stage.until_round(round)
            clock.set(seconds)
        state = stage.end()
        stage.nobody_left(state)
    times = in_order(stage.run)
    assert state.parameters == undisturbed
    assert times[-1] - times[0] > 0.9 * HOUR * 1000  # it was ahead for a while, and nothing is earlier after that


@pytest.mark.parametrize("seconds", [-HOUR, 2 * YEAR])
def test_a_manager_that_goes_on_with_another_clock_changes_no_bit(
    tmp_path: Path, recipe: Path, undisturbed: bytes, seconds: int
) -> None:
    clock = Clock(tmp_path, "manager")
    with Stage(tmp_path, recipe, silence_timeout=60, circumstances=clock.circumstances) as stage:
        stage.start_manager()
        start_workers(stage)
        stage.until_round(5)
        stage.manager.kill()
        clock.set(seconds)
        stage.start_manager()
        state = stage.end()
        stage.nobody_left(state)
    in_order(stage.run)
    assert state.parameters == undisturbed


def test_workers_whose_clocks_are_years_off_work_and_are_told(tmp_path: Path, recipe: Path, undisturbed: bytes) -> None:
    behind, ahead = Clock(tmp_path, "a", HOUR - int(time.time())), Clock(tmp_path, "b", 20 * YEAR)
    with Stage(tmp_path, recipe, silence_timeout=60) as stage:
        stage.start_manager()
        start_workers(stage, behind.circumstances, ahead.circumstances)
        state = stage.end()
        stage.nobody_left(state)
        for name, where in (("a", "behind"), ("b", "ahead of")):
            assert f"{where} the manager's" in " ".join(stage.workers[name].text.split()), stage.said()
    assert state.parameters == undisturbed
    assert verify(stage.run, jobs=1).ok and abs(in_order(stage.run)[-1] / 1000 - time.time()) < HOUR
