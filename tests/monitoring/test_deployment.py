"""The examples of examples/monitoring, held to what they must not lose; and the words of docs/OPERATIONS.md."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from podlt.manager import events as ev
from podlt.monitoring.metrics import Metrics

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "monitoring"
UNITS = ("podlt-manager", "podlt-worker")
LINT = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")


def settings(unit: str) -> dict[str, list[str]]:
    """The settings of a unit's file, each with its values in order; continued lines are joined."""
    found: dict[str, list[str]] = {}
    text = "\n".join(line for line in (EXAMPLES / f"{unit}.service").read_text().splitlines() if line[:1] != "#")
    for line in text.replace("\\\n", " ").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found.setdefault(name, []).append(value)
    return found


def checkable(unit: str, folder: Path) -> Path:
    """A unit with an executable that is there: whoever installs it has /opt/podlt."""
    path = folder / f"{unit}.service"
    path.write_text((EXAMPLES / path.name).read_text().replace("/opt/podlt/bin/podlt", sys.executable))
    return path


@LINT
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_has_nothing_to_say_of_a_unit(unit: str, tmp_path: Path) -> None:
    path = checkable(unit, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    path.write_text(path.read_text().replace("NoNewPrivileges=", "NoNewPrivilege="))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False, timeout=60
    )
    assert "NoNewPrivilege" in done.stderr  # a slip is seen


@LINT
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_as_hard_as_systemd_can_tell(unit: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", checkable(unit, tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_keeps_its_state_bounds_its_memory_and_comes_back(unit: str) -> None:
    found = settings(unit)
    for name, value in {
        "DynamicUser": "yes",
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
        "Restart": "on-failure",
        "StateDirectory": unit,
        "StateDirectoryMode": "0700",
        "UMask": "0077",
        "CapabilityBoundingSet": "",
    }.items():
        assert found[name] == [value], name
    assert re.fullmatch(r"\d+G", found["MemoryMax"][0])
    assert "MemoryDenyWriteExecute" not in found  # Numba could not run what it compiles
    assert "2" in found["RestartPreventExitStatus"][0].split()


def fake_podlt(path: Path) -> Path:
    """A command that prints its arguments as JSON."""
    path.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    path.chmod(0o755)
    return path


def test_the_managers_unit_begins_a_run_once_and_goes_on_with_it_then(tmp_path: Path) -> None:
    (start,) = settings("podlt-manager")["ExecStart"]
    shell, flag, script = start.split(maxsplit=2)
    assert (shell, flag, script[0], script[-1]) == ("/bin/sh", "-c", "'", "'")
    script = script[1:-1].replace("$$", "$").replace("/opt/podlt/bin/podlt", str(fake_podlt(tmp_path / "podlt")))

    def arguments() -> list[str]:
        environment = {"STATE_DIRECTORY": str(tmp_path), "PODLT_OPTIONS": "--name train.example.org"}
        done = subprocess.run([shell, flag, script], capture_output=True, text=True, check=True, env=environment)
        return list(json.loads(done.stdout))

    run = str(tmp_path / "run")
    assert arguments()[:4] == ["manager", "/etc/podlt/recipe.toml", "--run", run]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").touch()
    assert arguments()[:3] == ["manager", "--resume", run]
    check_options(arguments())


def test_the_containers_script_begins_a_run_once_and_goes_on_with_it_then(tmp_path: Path) -> None:
    fake_podlt(tmp_path / "podlt")
    script = (EXAMPLES / "manager.sh").read_text().replace("/state", str(tmp_path))

    def arguments() -> list[str]:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        command = ["/bin/sh", "-c", script, "sh", "--name", "train.example.org"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return list(json.loads(done.stdout))

    run = str(tmp_path / "run")
    assert arguments()[:4] == ["manager", "/etc/podlt/recipe.toml", "--run", run]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").touch()
    assert arguments()[:5] == ["manager", "--resume", run, "--name", "train.example.org"]
    check_options(arguments())


def check_options(arguments: list[str]) -> None:
    """`podlt manager` knows every option, and the invitation is printed to no log."""
    from typer.main import get_command

    from podlt.cli.app import build

    group: Any = get_command(build())
    context = group.commands["manager"].make_context("manager", list(arguments[1:]))
    assert context.params["log_format"] == "json" and context.params["metrics"].endswith("9464")
    assert context.params["quiet"] and context.params["name"] == ["train.example.org"]


def test_the_workers_commands_are_options_that_podlt_has() -> None:
    from typer.main import get_command

    from podlt.cli.app import build

    group: Any = get_command(build())
    (start,) = settings("podlt-worker")["ExecStart"]
    words = start.replace("$PODLT_OPTIONS", "--cpus 4 --memory 6G").split()
    entry = json.loads(instructions()["ENTRYPOINT"][-1])
    for command in (words[1:], entry[1:]):
        assert command[0] == "worker"
        context = group.commands["worker"].make_context("worker", command[1:])
        assert context.params["invitation"].endswith("/invitation") and context.params["folder"] is not None


def instructions() -> dict[str, list[str]]:
    """The Dockerfile's instructions by name, in order; continued lines are joined."""
    found: dict[str, list[str]] = {}
    lines = [line for line in (EXAMPLES / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, value = line.partition(" ")
            assert name in {
                *("FROM", "WORKDIR", "COPY", "RUN", "ENV", "VOLUME", "STOPSIGNAL"),
                *("USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"),
            }, line
            found.setdefault(name, []).append(value.strip())
    return found


def stages() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """The Dockerfile's stages: name -> what it starts from, and its instructions."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    name = ""
    for line in (EXAMPLES / "Dockerfile").read_text().replace("\\\n", " ").splitlines():
        if line.startswith("FROM "):
            _, image, _, name = line.split()
            found[name] = (image, [])
        elif line.strip() and not line.startswith("#"):
            word, _, value = line.partition(" ")
            found[name][1].append((word, value))
    return found


def test_images_have_a_version_a_slim_base_and_no_registry_of_their_own() -> None:
    known = stages()
    assert {"manager", "worker"} <= set(known)
    for image, _ in known.values():
        if image not in known:
            assert re.fullmatch(r"python:3\.\d+(\.\d+)?-slim-\w+", image), image


@pytest.mark.parametrize("target", ["manager", "worker"])
def test_an_image_runs_as_nobody_and_can_be_asked_how_it_is(target: str) -> None:
    _, steps = stages()[target]
    words = [word for word, _ in steps]
    (user,) = [value for word, value in steps if word == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert words.index("USER") < words.index("ENTRYPOINT")
    health = next(value for word, value in steps if word == "HEALTHCHECK")
    command = json.loads(health.partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")


def test_the_image_is_installed_by_pip_from_this_tree_with_its_extras() -> None:
    (install,) = [line for line in instructions()["RUN"] if "pip install" in line]
    assert "'.[network,operations]'" in install and "--no-cache-dir" in install
    assert not re.search(
        r"https?://|--(extra-)?index-url", (EXAMPLES / "Dockerfile").read_text().replace("http://127.0.0.1", "")
    )
    for copied in instructions()["COPY"]:
        if "--from" not in copied:
            *sources, _ = [word for word in copied.split() if not word.startswith("--")]
            assert all((ROOT / source).exists() for source in sources), copied


@pytest.fixture
def names(eventful: Path) -> set[str]:
    """Every metric that a run gives, with the suffixes that Prometheus asks for."""
    metrics = Metrics()
    metrics(
        ev.Started(
            run="ab",
            path=str(eventful),
            workers=3,
            processes=1,
            parameters=1,
            examples=1,
            epochs=1,
            rounds=1,
            resumed=False,
        )
    )
    assert metrics._follower is not None
    metrics._follower.totals.figures = {"accuracy": 0.5}  # the simulated run has no test set
    metrics(ev.Published(size=10, way="message"))
    metrics._follower.totals.levels = {3: -1}
    one = ev.WorkerFigures(
        worker=3,
        key="ab",
        tasks=1,
        seconds=1.0,
        examples_per_second=1.0,
        late=0,
        unopened=0,
        wrong=0,
        received=1,
        sent=1,
        silent=0.0,
    )
    metrics(ev.WorkersSeen(workers=[one]))
    metrics(ev.HeldUp(worker=3, round=1, seconds=9.0, others=1.0))
    text = metrics.text().decode()
    metrics.close()
    found = set(re.findall(r"^(podlt_\w+)", text, re.MULTILINE))
    return {name for name in found if not name.endswith("_created")}


def test_alerts_ask_for_metrics_that_there_are(names: set[str]) -> None:
    document = yaml.safe_load((EXAMPLES / "podlt-alerts.yml").read_text())
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 5
    for rule in rules:
        assert rule["annotations"]["summary"] and rule["labels"]["severity"] in {"page", "ticket"}
        assert set(re.findall(r"podlt_\w+", rule["expr"])) <= names, rule["alert"]
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_no_alert_divides_by_an_increase_that_may_be_nothing() -> None:
    """Nothing by nothing is no number, and no number is more than another: the alert would be over."""
    document = yaml.safe_load((EXAMPLES / "podlt-alerts.yml").read_text())
    text = " ".join(rule["expr"] for group in document["groups"] for rule in group["rules"])
    divided = re.findall(r"/\s*\(?\s*(?:increase|rate)\(\S+\](?:\s*\))", text)
    assert len(divided) == len(re.findall(r"/ \(increase\(\S+\]\) > 0\)\s+or ", text)) >= 1


def test_the_scrape_configuration_names_the_alerts_and_the_units_port() -> None:
    document = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text())
    assert all((EXAMPLES / name).is_file() for name in document["rule_files"])
    (job,) = document["scrape_configs"]
    assert job["job_name"] == "podlt" and job["static_configs"] == [{"targets": ["127.0.0.1:9464"]}]
    assert "--metrics 127.0.0.1:9464" in settings("podlt-manager")["ExecStart"][0]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on this machine")
def test_prometheus_takes_its_files_and_alerts_fire_when_they_should() -> None:
    for command in (
        ("check", "rules", EXAMPLES / "podlt-alerts.yml"),
        ("check", "config", EXAMPLES / "prometheus.yml"),
        ("test", "rules", Path(__file__).with_name("alerts_test.yml")),
    ):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_names_every_metric_and_none_that_there_is_not(names: set[str]) -> None:
    text = (ROOT / "docs" / "OPERATIONS.md").read_text()
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    assert set(re.findall(r"podlt_[a-z_]+", text)) == families
