"""Training from the command line; the slow ones as a user does it, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_calls import Outcome, Podlt
from near_hosts import hosts_in_threads

from podlt import api
from podlt.manager import events as ev
from podlt.manager.directory import RunDirectory, Settings

PODLT = [sys.executable, "-c", "from podlt.cli import main; main()"]

RECIPE = """
[data]
source = "digits"
limit = 1000

[model]
name = "podlt.models:mlp"
args = { inputs = 64, hidden = 16, outputs = 10 }

[optimizer]
name = "adamw"
lr = LEARNING_RATE

[training]
epochs = EPOCHS
workers = 8
batch_size = 100
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of a second or two."""
    path = tmp_path / "small.toml"
    path.write_text(RECIPE.replace("EPOCHS", "1").replace("LEARNING_RATE", "0.01"))
    return path


def process(*argv: object) -> Outcome:
    """Runs the command line in a process of its own."""
    done = subprocess.run([*PODLT, *map(str, argv)], capture_output=True, text=True, check=False, timeout=300)
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_a_run_with_a_cheater_tells_its_events_as_json_and_verifies(podlt: Podlt, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with hosts_in_threads():  # a user's processes: the slow tests below
        outcome = podlt("train", recipe, "--run", run, "--cheat", "1:random", "--json")
    assert outcome.code == 0, outcome.err
    events = [json.loads(line) for line in outcome.out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "preparing" and kinds[-1] == "finished"
    rounds = [event for event in events if event["event"] == "round"]
    assert [event["round"] for event in rounds] == list(range(len(rounds))) and 10 <= len(rounds) <= 12
    assert sum(event["examples"] for event in rounds) == 1000
    assert podlt("verify", run, "--jobs", 1).code == 0
    again = podlt("train", recipe, "--run", run)
    assert again.code == 2 and "there is a run already" in again.err


def test_a_run_with_workers_elsewhere_is_resumed_by_the_manager_and_the_other_way_round(
    podlt: Podlt, run: Path
) -> None:
    for engine, wrong, right in (("network", "train", "manager"), ("local", "manager", "train")):
        RunDirectory(run).write_settings(Settings(engine=engine))
        outcome = podlt(wrong, "--resume", run)
        assert outcome.code == 2 and f"resume it with podlt {right} --resume {run}" in outcome.err


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on_and_goes_on(podlt: Podlt, recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(RECIPE.replace("EPOCHS", "300").replace("LEARNING_RATE", "0.001"))
    run = tmp_path / "run"
    command = [*PODLT, "train", str(recipe), "--run", str(run), "--json", "--processes", "1"]
    # A group of its own, so that Ctrl-C reaches the workers' processes too, as in a terminal.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if json.loads(line)["event"] == "round" and json.loads(line)["round"] == 3:
                break
        os.killpg(running.pid, signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in err
    assert f"podlt train --resume {run}" in err
    done = podlt("verify", run, "--jobs", 1)
    assert done.code == 0 and "not finished" in done.out
    with subprocess.Popen(
        [*PODLT, "train", "--resume", str(run), "--json"], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stdout is not None
        started = next(event for event in map(json.loads, running.stdout) if event["event"] == "started")
        first = next(event for event in map(json.loads, running.stdout) if event["event"] == "round")
        os.killpg(running.pid, signal.SIGINT)
        running.communicate(timeout=60)
    assert started["resumed"] is True
    assert first["round"] >= 3


@pytest.mark.slow
def test_too_few_workers_end_with_3_and_a_way_to_go_on(podlt: Podlt, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = process("train", recipe, "--run", run, "--workers", 3, "--cheat", "1:random", "--quiet", "--processes", 1)
    assert outcome.code == 3, outcome.out
    assert outcome.out == ""
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 2
    assert f"podlt train --resume {run} --workers N" in outcome.err
    assert "stopped" in podlt("show", run).out
    outcome = process("train", "--resume", run, "--workers", 6)
    assert outcome.code == 0, outcome.err
    assert "complete" in outcome.out and "random: caught" in outcome.out


@pytest.mark.slow
def test_a_diverging_run_ends_with_3_and_says_what_to_change(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(
        RECIPE.replace("EPOCHS", "5").replace('name = "adamw"\nlr = LEARNING_RATE', 'name = "sgd"\nlr = 1e30')
    )
    outcome = process("train", recipe, "--run", tmp_path / "run", "--quiet", "--processes", 1)
    assert outcome.code == 3, outcome.err
    assert "finite" in outcome.err and "Traceback" not in outcome.err


@pytest.mark.slow
def test_the_demo_trains_verifies_and_writes_its_report(tmp_path: Path) -> None:
    started = time.monotonic()
    outcome = process("demo", "--recipe", "digits", "--run", tmp_path / "run")
    assert outcome.code == 0, (outcome.err, time.monotonic() - started)
    checked = outcome.out.partition("2. Verify")[2].partition("3. Audit")[0]
    assert " fails " not in checked and "the tree heads are signed by the run's manager" in checked
    assert (tmp_path / "run" / "report.html").is_file()
    assert outcome.out.count("sign-flip: caught") == 3


@pytest.mark.slow
def test_an_audit_executes_drawn_tasks_again(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert process("train", recipe, "--run", run, "--quiet", "--processes", 1).code == 0
    outcome = process("audit", run, "--fraction", "0.2", "--seed", "5", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["holds"] and found["rounds"] == 10 and found["executed"] >= 12 and len(found["averaged"]) == 1
    assert len(found["claims"]) == 27 and {claim["outcome"] for claim in found["claims"]} == {"holds", "not checked"}
    for number in (2, 3):  # one of them may be averaged anew, and needs no file then
        (run / "updates" / f"0000000{number}.bin").unlink()
    outcome = process("audit", run, "--fraction", "0.01", "--seed", "5")
    assert outcome.code == 4 and "its update is not here" in outcome.out
    assert process("audit", run, "--fraction", "1.5").code == 2


@pytest.mark.slow
def test_fields_of_a_recipe_are_set_on_the_command_line_and_a_run_is_opened_again_and_finished(
    podlt: Podlt, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with hosts_in_threads():
        assert podlt("train", recipe, "--run", run, "--set", "training.batch_size=500", "--quiet").code == 0
        assert podlt("train", "--resume", run, "--set", "training.epochs=2", "--quiet").code == 0
    shown = podlt("show", run).out
    assert "2 of 2 done" in shown and "resumed with training.epochs=2" in shown
    assert podlt("verify", run, "--jobs", 1).code == 0
    again = podlt("finish", run)
    assert again.code == 2 and "complete already" in again.err
    refused = podlt("train", "--resume", run, "--set", "training.seed=2")
    assert refused.code == 2 and "training.seed: is fixed by the first entry" in refused.err


def test_a_run_that_was_interrupted_is_finished_from_the_command_line(
    podlt: Podlt, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def interrupt(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == 1:
            raise KeyboardInterrupt

    with hosts_in_threads():
        with pytest.raises(KeyboardInterrupt):
            api.train(recipe, run=run, listener=interrupt)
        outcome = podlt("finish", run, "--reason", "no more time")
    assert outcome.code == 0 and "training ended early: no more time" in outcome.out
    assert "complete, ended early: no more time" in podlt("show", run).out
