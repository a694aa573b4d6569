"""A manager of workers elsewhere, operated: copied and moved, on PostgreSQL, watched while it is stuck."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import pytest
from postgres_server import Server, why_not
from stage import Process, Stage, write_recipe

import podlt.api
from podlt.access.invitation import read
from podlt.access.worker_key import load_or_create_keys
from podlt.recipe import load_recipe
from podlt.verify import verify

pytestmark = pytest.mark.chaos

WORKERS = 4


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe") / "recipe.toml", epochs=20, workers=WORKERS)


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The parameters of the same run on one machine, to which nothing happened."""
    return podlt.api.train(load_recipe(recipe), run=tmp_path_factory.mktemp("local") / "run").parameters


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def podlt_command(*arguments: object) -> str:
    """What a command prints, which must go well."""
    command = [sys.executable, "-c", "from podlt.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def begin(stage: Stage, *options: object) -> None:
    """A manager, and two workers with two identities each."""
    stage.start_manager(*options)
    for name in "ab":
        stage.start_worker(name, "--identities", 2)
    stage.until_round(10)


def resume(stage: Stage, *options: object) -> None:
    """Goes on with a run, wherever its log is."""
    how = ("--resume", stage.run, "--json", "--silence-timeout", 60)
    stage.manager = Process(stage.folder / "manager.jsonl", "manager", *how, *options)


def workers_keys(stage: Stage) -> set[bytes]:
    """The public keys of all identities."""
    return {key.public for name in "ab" for key in load_or_create_keys(stage.folder / name / "worker.key", 2)}


@pytest.mark.parametrize("how", ["in the same place", "with a new invitation"])
def test_a_run_that_was_copied_while_it_went_on_goes_on_elsewhere(
    tmp_path: Path, recipe: Path, undisturbed: bytes, how: str
) -> None:
    archive = tmp_path / "copy.tar"
    with (
        Stage(tmp_path / "one", recipe, silence_timeout=60) as stage,
        Stage(tmp_path / "two", recipe, silence_timeout=60) as other,
    ):
        for each in (stage, other):
            each.folder.mkdir()
        begin(stage)
        copied = podlt_command("backup", stage.run, archive)
        stage.until_round(stage.rounds() + 5)
        stage.manager.kill()  # the machine is lost, with all that was done since the copy
        podlt_command("restore", archive, other.run)
        before = verify(other.run, jobs=1)
        assert before.ok and "up to round" in copied, copied
        if how == "with a new invitation":
            resume(other, "--listen", "127.0.0.1", "--port", free_port(), "--name", "localhost")
            other.until(lambda: bool(other.events("invited")))
            line = other.events("invited")[-1]["invitation"]
            assert [url.partition("//")[2].partition(":")[0] for url in read(line).servers] == ["localhost"]
            assert read(line).channel == read((stage.run / "invitation.txt").read_text()).channel
            for name in "ab":
                stage.workers.pop(name).kill()
                folder = ("--folder", stage.folder / name, "--identities", 2)
                other.workers[name] = Process(other.folder / f"{name}.txt", "worker", line, *folder)
        else:
            resume(other)  # port, names and certificate are in the copy: workers need not be told
            other.workers = stage.workers
        state = other.end()
        assert not other.events("withdrawn")
        assert {worker.key for worker in state.workers.values()} == workers_keys(stage)
    assert state.parameters == undisturbed
    assert [worker.status for worker in state.workers.values()] == ["active"] * WORKERS


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL server."""
    if reason := why_not():
        pytest.skip(reason)
    pytest.importorskip("psycopg")
    server = Server()
    try:
        yield server
    finally:
        server.delete()


def test_a_log_in_postgresql_survives_manager_and_database_server(
    tmp_path: Path, recipe: Path, undisturbed: bytes, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # which hosts the operator knows is kept there
    url = server.url(server.new_database())
    with Stage(tmp_path, recipe, silence_timeout=60) as stage:
        begin(stage, "--store", url)
        assert not (stage.run / "log.db").exists()
        stage.manager.kill()
        resume(stage)
        stage.until_round(stage.rounds() + 10)
        copied = podlt_command("backup", stage.run, tmp_path / "copy.tar")
        assert "up to round" in copied
        server.stop("immediate")  # all of the database server's processes, at once
        assert stage.manager.end(90) == 3
        assert "Traceback" not in stage.manager.text
        server.start()
        resume(stage)
        state = stage.end()
        assert not stage.events("withdrawn")
    assert state.parameters == undisturbed
    podlt_command("restore", tmp_path / "copy.tar", tmp_path / "restored")
    assert verify(tmp_path / "restored", jobs=1).ok


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


IMPATIENT = (
    "import podlt.monitoring.health as health; health.LEAST, health.TIMES = 2.0, 1.0\n"
    "from podlt.cli import main; main()"
)
"""A manager that takes two seconds without a round for a sign that something is wrong, and not five minutes."""


@contextmanager
def watched(stage: Stage) -> Iterator[str]:
    """An impatient manager with metrics; gives their URL."""
    log = stage.folder / "log.json"
    command = [sys.executable, "-c", IMPATIENT, "manager", stage.recipe, "--run", stage.run, "--listen", "127.0.0.1"]
    command += ["--silence-timeout", 120, "--json", "--metrics", "0", "--log-file", log]
    with (stage.folder / "manager.jsonl").open("ab") as out:
        manager = subprocess.Popen([*map(str, command)], stdout=out, stderr=out)
    try:
        stage.until(lambda: (stage.run / "invitation.txt").exists())
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        yield next(line["url"] for line in lines if line["event"] == "serving")
    finally:
        manager.kill()
        manager.wait()


def value(url: str, name: str) -> float:
    text = get(f"{url}/metrics")[1]
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.split(" ")[0].split("{")[0] == name)


def test_a_run_whose_workers_hang_is_told_unhealthy_until_they_go_on_and_traffic_is_counted(
    tmp_path: Path,
) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", epochs=2000, workers=WORKERS)
    with Stage(tmp_path, recipe) as stage, watched(stage) as url:
        assert value(url, "podlt_workers_connected") == 0
        for name in "ab":
            stage.start_worker(name, "--identities", 2)
        stage.until_round(10)
        stage.until(lambda: value(url, "podlt_workers_connected") == WORKERS)
        stage.until(lambda: value(url, "podlt_received_bytes_total") > 0 < value(url, "podlt_sent_bytes_total"))
        assert value(url, "podlt_published_bytes_total") > 0
        assert get(f"{url}/healthz")[0] == get(f"{url}/readyz")[0] == 200
        for worker in stage.workers.values():
            worker.send(signal.SIGSTOP)
        stage.until(lambda: get(f"{url}/healthz")[0] == 503, 30)
        found = json.loads(get(f"{url}/healthz")[1])
        assert "no round for" in found["reason"] and get(f"{url}/readyz")[0] == 503
        time.sleep(1)
        assert value(url, "podlt_workers_connected") == WORKERS  # the servers find out later than the health page
        for worker in stage.workers.values():
            worker.send(signal.SIGCONT)
        stage.until(lambda: get(f"{url}/healthz")[0] == 200, 60)
        convicted, credits = value(url, "podlt_convictions_total"), value(url, "podlt_credits")
        assert convicted == 0 and credits > 0
        stage.workers.pop("b").kill()
        stage.until(lambda: value(url, "podlt_workers_connected") == 2)
