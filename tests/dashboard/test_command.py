"""`podlt dashboard` and `--dashboard` as they are typed: real processes, asked over HTTP."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from podlt.dashboard.companion import DashboardCompanion
from podlt.manager import events as ev

COMMAND = "from podlt.cli import main; main()"


class Running:
    """A command that serves a page, until it is ended."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        self.url = ""
        for line in self.process.stdout:
            if found := re.fullmatch(r"dashboard: (http://\S+/)\s*", line):
                self.url = found[1]
                break

    def messages(self, run: str = "") -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}data?run={run}", timeout=10) as answer:
            return json.load(answer)["messages"]

    def until(self, has: Callable[[list[dict[str, Any]]], object], run: str = "") -> list[dict[str, Any]]:
        for _ in range(600):
            messages = self.messages(run)
            if has(messages):
                return messages
            time.sleep(0.1)
        raise AssertionError("it never came")


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def start(*arguments: object) -> Running:
        made.append(Running(*arguments))
        return made[-1]

    yield start
    for one in made:
        one.process.send_signal(signal.SIGINT)
        one.process.wait(20)


def is_verified(messages: list[dict[str, Any]]) -> bool:
    return any(message["t"] == "claims" and message["state"] == "verified" for message in messages)


@pytest.mark.slow
def test_a_run_that_is_over_is_shown_and_verified(running: Callable[..., Running], finished: Path) -> None:
    messages = running("dashboard", finished, "--address", "0").until(is_verified)
    assert sum(message["t"] == "round" for message in messages) == 120


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_page_that_is_ended_leaves_no_process_behind(
    running: Callable[..., Running], finished: Path, how: signal.Signals
) -> None:
    page = running("dashboard", finished, "--address", "0")
    page.until(is_verified)
    task = Path(f"/proc/{page.process.pid}/task/{page.process.pid}/children")
    children = [int(pid) for pid in task.read_text().split()] if task.exists() else []
    page.process.send_signal(how)
    assert page.process.wait(20) == (-how if how is signal.SIGKILL else 0)
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in children):
            break
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


@pytest.mark.slow
def test_the_runs_of_a_folder_stand_side_by_side(
    running: Callable[..., Running], finished: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        shutil.copytree(finished, tmp_path / "runs" / name)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "log.db").write_bytes(b"SQLite format 3\0")
    page = running("dashboard", tmp_path / "runs", "--address", "0")
    listed = page.until(lambda found: any(one["t"] == "runs" and len(one["rows"]) == 3 for one in found))
    rows = {row["name"]: row for one in listed if one["t"] == "runs" for row in one["rows"]}
    assert rows["broken"]["error"] and rows["one"]["convicted"] == rows["two"]["convicted"] == 2
    assert page.until(lambda found: sum(one["t"] == "round" for one in found) == 120, "two")


def test_an_address_is_refused_with_what_to_do_instead(capfd: pytest.CaptureFixture[str]) -> None:
    from podlt.cli.app import run

    assert run(["dashboard", "https://example.org/mnist.podlt"]) == 2
    said = capfd.readouterr().err
    assert "open it in a browser" in said and "curl -LO https://example.org/mnist.podlt" in said
    assert run(["dashboard", "/nowhere"]) == 2 and "no run here" in capfd.readouterr().err


@pytest.mark.slow
def test_a_companion_follows_what_its_parent_says_and_ends_with_it(finished: Path) -> None:
    with DashboardCompanion("run", "0") as page:
        page(ev.Preparing(what="loading", done=1, total=2))
        started = {"run": "", "workers": 12, "processes": 1, "parameters": 1, "examples": 1, "epochs": 1, "rounds": 1}
        page(ev.Started(path=str(finished), resumed=False, **started))
        reader = Running.__new__(Running)
        reader.url = page.url
        messages = reader.until(lambda found: any(one["t"] == "close" for one in found))
        assert {"phase", "header", "claims"} <= {message["t"] for message in messages}
        process = page._process
    assert process.returncode == 0


@pytest.mark.slow
def test_a_companion_that_is_killed_holds_nobody_up() -> None:
    with DashboardCompanion("run", "0") as page:
        page._process.kill()
        for number in range(5000):
            page(ev.Preparing(what="loading", done=number))
