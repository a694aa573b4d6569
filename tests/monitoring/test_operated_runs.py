"""Real runs of `digits` that are watched by real HTTP requests; and nothing secret in all that they print."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import msgspec
import pytest
from patience import Patience
from prometheus_client.parser import text_string_to_metric_families
from small_runs import entries, replayed, small_recipe
from stage import Stage, write_recipe

import podlt.api
from podlt.access.invitation import read as read_invitation
from podlt.access.worker_key import load_key
from podlt.manager import events as ev
from podlt.monitoring.setup import Monitoring, monitored
from podlt.protocol.entries import Redeal
from podlt.recipe import ProtocolSpec

PODLT = [sys.executable, "-c", "from podlt.cli import main; main()"]

RECIPE = """
arithmetic = "stock"
[data]
source = "digits"
[model]
name = "podlt.models:mlp"
args = { inputs = 64, hidden = 16, outputs = 10 }
[optimizer]
name = "adamw"
lr = 0.01
[training]
epochs = 2000
workers = 8
batch_size = 100
[protocol]
checked = 0.5
escrow = 5
"""


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def samples(text: bytes) -> dict[tuple[str, str], float]:
    """Metrics by name and the value of their label, if they have one; podlt's own."""
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name.startswith("podlt_") and not sample.name.endswith(("_bucket", "_info", "_created"))
    }


@pytest.mark.slow
def test_metrics_and_health_follow_a_run_and_end_with_what_its_log_says(tmp_path: Path) -> None:
    said: list[str] = []
    health: list[tuple[int, str]] = []
    during: list[dict[tuple[str, str], float]] = []

    def ask(event: ev.Event) -> None:
        url = said[0].split()[2].removesuffix("/metrics,")
        if isinstance(event, ev.Started | ev.RoundDone | ev.Finished):
            status, body = get(f"{url}/readyz")
            health.append((status, json.loads(body)["state"]))
            assert get(f"{url}/healthz")[0] == 200
            during.append(samples(get(f"{url}/metrics")[1]))

    with monitored(Monitoring(metrics="0"), said.append) as (listen, _):

        def follow(event: ev.Event) -> None:
            listen(event)
            ask(event)

        recipe = msgspec.structs.replace(small_recipe(), protocol=ProtocolSpec(checked=0.5))
        result = podlt.api.train(recipe, run=tmp_path / "run", cheats=["1:random"], listener=follow)
    state = replayed(result.run)
    assert health[0] == (200, "training") and set(health[:-1]) == {(200, "training")}
    assert health[-1] == (503, "finished")
    found = during[-1]
    trained = len(during) - 2
    assert found["podlt_rounds_total", ""] == found["podlt_round_seconds_count", ""] == trained > 20
    assert found["podlt_examples_total", ""] == 2 * 1437
    assert found["podlt_workers", "active"] == 7 and found["podlt_workers", "suspended"] == 1
    assert found["podlt_convictions_total", "referee"] == 1 and found["podlt_convictions_total", "vote"] == 0
    assert found["podlt_executions_total", ""] > 0
    assert found["podlt_credits", "vested"] == sum(a.vested for a in state.ledger.accounts.values()) > 0
    assert found["podlt_credits", "forfeited"] == sum(a.forfeited for a in state.ledger.accounts.values())
    assert found["podlt_test_figure", "accuracy"] == result.metrics["accuracy"]
    assert found["podlt_run_stopped", ""] == 1 and found["podlt_log_read", ""] == 1
    assert found["podlt_compute_seconds_total", ""] > 0 < found["podlt_proof_seconds_total", ""]
    for name in ("podlt_rounds_total", "podlt_log_entries_total", "podlt_examples_total"):
        seen = [each[name, ""] for each in during]
        assert seen == sorted(seen) and seen[0] < seen[-1]
    with pytest.raises(OSError):
        get(said[0].split()[2].rstrip(","))


@contextmanager
def command(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A `podlt` command with its output in files; it is asked to end at the end."""
    with (folder / "out").open("ab") as out, (folder / "err").open("ab") as err:
        running = subprocess.Popen(
            [*PODLT, *map(str, arguments)], stdout=out, stderr=err, cwd=folder, start_new_session=True
        )
        try:
            yield running
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def until_round(log: Path, number: int, running: subprocess.Popen[bytes], first: int = 0) -> list[dict[str, object]]:
    """The lines of a log from line `first` on, once a round is among them."""
    patience = Patience(120)
    while True:
        lines = [json.loads(line) for line in log.read_text().splitlines()[first:]] if log.exists() else []
        if any(line["event"] == "round" and line["round"] >= number for line in lines):
            return lines
        assert running.poll() is None and patience.lasts(), lines[-3:]
        time.sleep(0.1)


def secrets_of(folder: Path) -> set[str]:
    """Every secret that a run's or worker's folder holds, in the forms that a careless print would give it."""
    seeds, found = set(), set()
    for file in folder.rglob("*.key"):
        seeds |= {bytes.fromhex(text) for text in re.findall(r"[0-9a-f]{64}", file.read_text())}
        if file.name == "worker.key":
            seeds.add(load_key(file).seed())
            found.add(file.read_text().strip())
    for raw in seeds:
        found |= {raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
        found.add(str(raw))
    for file in folder.rglob("*.pem"):
        if "PRIVATE KEY" in file.read_text():
            found |= set(file.read_text().splitlines()[1:-1])
    invitation = folder / "invitation.txt"
    if invitation.exists():
        line = invitation.read_text().strip()
        found |= {line, read_invitation(line).secret.hex()}
    return found


@pytest.mark.slow
def test_a_command_serves_logs_is_killed_and_goes_on_with_its_totals_and_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(RECIPE)
    run, log = tmp_path / "run", tmp_path / "log.json"
    options = ("--metrics", "0", "--log-format", "json", "--log-file", log, "--processes", 1)
    with command(tmp_path, "train", "r.toml", "--run", run, "--cheat", "1:sign-flip", *options) as running:
        lines = until_round(log, 40, running)
        url = next(line["url"] for line in lines if line["event"] == "serving")
        first = samples(get(f"{url}/metrics")[1])
        assert get(f"{url}/readyz")[0] == 200
        os.killpg(running.pid, signal.SIGKILL)
    known = len(log.read_text().splitlines())
    with command(tmp_path, "train", "--resume", run, *options) as running:
        lines = until_round(log, 0, running, known)
        url = next(line["url"] for line in lines if line["event"] == "serving")
        again = samples(get(f"{url}/metrics")[1])
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    assert again["podlt_rounds_total", ""] > first["podlt_rounds_total", ""] > 30
    assert again["podlt_credits", "vested"] > first["podlt_credits", "vested"] > 0
    assert again["podlt_convictions_total", "referee"] == 1
    written = [json.loads(line) for line in log.read_text().splitlines()]
    identity = replayed(run).run.hex()
    assert {line["run"] for line in written if "round" in line} == {identity}
    assert written[-1]["event"] == "failed" and written[-1]["error"] == "interrupted"
    everything = (tmp_path / "out").read_text() + (tmp_path / "err").read_text() + log.read_text()
    secrets = secrets_of(run)
    assert len(secrets) >= 4 * (2 + 8)
    assert not [secret for secret in secrets if secret in everything]


@pytest.mark.slow
def test_a_manager_tells_who_is_awaited_and_who_went_and_its_log_invites_nobody(tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    with Stage(tmp_path, write_recipe(tmp_path / "r.toml", epochs=2000), silence_timeout=3.0) as stage:
        stage.start_manager("--metrics", "0", "--log-format", "json", "--log-file", log)
        stage.until(lambda: '"event": "waiting"' in log.read_text())
        url = next(line["url"] for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "serving")
        status, body = get(f"{url}/readyz")
        assert (status, json.loads(body)["state"]) == (503, "waiting")
        assert get(f"{url}/healthz")[0] == 200
        assert samples(get(f"{url}/metrics")[1])["podlt_workers_awaited", ""] == 6
        stage.start_worker("a", "--identities", 3)
        stage.start_worker("b", "--identities", 3)
        stage.until_round(10)
        found = samples(get(f"{url}/metrics")[1])
        assert get(f"{url}/readyz")[0] == 200
        assert (found["podlt_workers", "active"], found["podlt_workers_awaited", ""]) == (6, 0)
        stage.workers["b"].kill()
        stage.until(lambda: len(stage.events("withdrawn")) == 3)
        stage.until_round(stage.rounds() + 5)
        found = samples(get(f"{url}/metrics")[1])
        assert found["podlt_workers", "active"] == found["podlt_workers", "withdrawn"] == 3
        assert found["podlt_withdrawals_total", ""] == 3
        assert found["podlt_redeals_total", ""] == sum(isinstance(entry, Redeal) for entry in entries(stage.run)) > 0
        stage.manager.send(signal.SIGTERM)
        assert stage.manager.end() == 130
        shown = [line for line in stage.manager.text.splitlines() if '"event":"invited"' not in line]
        secrets = {secret for folder in (stage.run, tmp_path / "a", tmp_path / "b") for secret in secrets_of(folder)}
        everything = "\n".join([*shown, log.read_text(), stage.workers["a"].text, stage.workers["b"].text])
    seeds, forms = 4, 4  # both of the manager's, one a worker; the two forms of base64 may be the same
    assert any(secret.startswith("podlt1-") for secret in secrets) and len(secrets) >= seeds * forms + 2
    assert not [secret for secret in secrets if secret in everything]
    kinds = {json.loads(line)["event"] for line in log.read_text().splitlines()}
    assert {"invited", "joined", "withdrawn", "round", "failed"} <= kinds
