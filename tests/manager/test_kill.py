"""kill -9 of the manager at any moment, Ctrl-C, a full disk: nothing that was logged is lost, no process is left
behind, and the bits are those of an undisturbed run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import closing, suppress
from pathlib import Path

import pytest
from patience import Patience
from small_runs import Trained, seeded

import podlt.api
from podlt.manager.directory import RunDirectory
from podlt.verify import verify

CHILD = Path(__file__).parent / "killed_run.py"


def logged(run: Path) -> list[bytes]:
    """The entries that are in the log."""
    if not (run / "log.db").exists() or not RunDirectory(run).has_entries():
        return []
    with closing(RunDirectory(run).log()) as store:
        return [body for _, _, body in store.entries()]


def killed(run: Path, kind: str, number: int) -> bool:
    """Trains in a child that kills itself; whether it did. Its worker processes must end with it."""
    mark = f"PODLT_TEST={uuid.uuid4()}"
    environment = {**os.environ, **dict([mark.split("=")])}
    command = [sys.executable, str(CHILD), str(run), kind, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    expected = {"full": 1, "interrupt": -signal.SIGINT}.get(kind, -signal.SIGKILL)
    assert done.returncode in (0, expected), done.stderr
    if kind == "full" and done.returncode:
        assert done.stderr.startswith("storage: ") and len(done.stderr.splitlines()) == 1
    patience = Patience(60)
    while marked(mark.encode()):
        assert patience.lasts(), "worker processes outlive their manager"
        time.sleep(0.05)
    return done.returncode != 0


def marked(mark: bytes) -> list[str]:
    """The living processes that have something in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes():
                found.append(process.name)
    return found


def ends_like(run: Path, reference: Trained) -> None:
    """Goes on to the end; the run must be whole, and its parameters those of the reference."""
    before = logged(run)
    result = podlt.api.resume(run, entropy=seeded(2))
    assert logged(run)[: len(before)] == before
    assert result.parameters == reference.result.parameters
    assert result.rounds == reference.result.rounds
    assert result.convicted == reference.result.convicted
    assert result.ledger == reference.result.ledger
    verification = verify(run, jobs=1)
    assert verification.ok, verification.failure


@pytest.mark.parametrize(("kind", "number"), [("half", 9), ("interrupt", 6)])
@pytest.mark.slow
def test_a_run_that_is_killed_or_interrupted_ends_with_the_same_bits(
    tmp_path: Path, cheated: Trained, kind: str, number: int
) -> None:
    run = tmp_path / "run"
    assert killed(run, kind, number)
    ends_like(run, cheated)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["commit", "done", "half", "rename"])
@pytest.mark.parametrize("numbers", [(1, 1, 2), (3, 4, 5), (7, 8, 15), (2, 24, 1)])
def test_a_kill_at_any_write_loses_nothing(
    tmp_path: Path, cheated: Trained, kind: str, numbers: tuple[int, ...]
) -> None:
    run = tmp_path / "run"
    for number in numbers:
        killed(run, kind, number)
    if not (run / "recipe.json").exists():
        assert killed(run, kind, 10**9) is False
    ends_like(run, cheated)


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [96, 120, 160])
def test_a_full_disk_stops_a_run_and_room_lets_it_go_on(tmp_path: Path, cheated: Trained, kilobytes: int) -> None:
    run = tmp_path / "run"
    assert killed(run, "full", kilobytes * 1024)
    if not (run / "recipe.json").exists():
        assert killed(run, "never", 1) is False
    ends_like(run, cheated)


@pytest.mark.slow
def test_a_kill_between_the_last_entry_and_the_model_still_gives_the_model(tmp_path: Path, cheated: Trained) -> None:
    run = tmp_path / "run"
    shutil.copytree(cheated.result.run, run)
    (run / "model.safetensors").unlink()
    ends_like(run, cheated)
    assert (run / "model.safetensors").read_bytes() == (cheated.result.run / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_kill_at_any_time_loses_nothing(tmp_path: Path, cheated: Trained) -> None:
    run = tmp_path / "run"
    for seconds in (4.0, 5.0, 5.5, 6.0, 6.5, 7.0):
        child = subprocess.Popen([sys.executable, str(CHILD), str(run), "never", "1"])
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if not (run / "recipe.json").exists():
        assert killed(run, "never", 1) is False
    ends_like(run, cheated)
