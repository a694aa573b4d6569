"""An installation without extras: what it can do, how large it is, and what it says of all that it cannot do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from cli_calls import Outcome

from podlt.errors import ExitCode, UsageError
from podlt.extras import PACKAGES, MissingPackageError, missing_package, needed_by

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LIMIT_MB = 100
HEAVY = sorted({*PACKAGES, "scipy", "pandas", "llvmlite"})

BLOCK = f"""import sys
for name in {HEAVY}:
    sys.modules[name] = None
"""
"""Importing any of these raises ModuleNotFoundError, in every process that reads this as sitecustomize.py."""

PROGRAM = """import contextlib, io, json, sys
from podlt.cli.app import run
found = []
for argv in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(argv)
    found.append([int(code), out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""
"""Many commands in one process: starting one takes half a second."""


@pytest.fixture(scope="session")
def blocked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of processes that have none of the packages of the extras."""
    folder = tmp_path_factory.mktemp("blocked")
    (folder / "sitecustomize.py").write_text(BLOCK)
    temporary, home = folder / "temporary", folder / "home"
    temporary.mkdir()
    home.mkdir()
    path = os.pathsep.join([str(folder), str(ROOT / "src")])
    return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary), "HOME": str(home)}


def at(run: Path, commands: Iterable[Sequence[str]]) -> list[list[str]]:
    """Commands with the run's path where they say RUN."""
    return [[str(run) if word == "RUN" else word for word in argv] for argv in commands]


def light(environment: dict[str, str], folder: Path, commands: Iterable[Sequence[object]]) -> list[Outcome]:
    """Calls podlt without the packages of the extras."""
    given = json.dumps([[str(word) for word in argv] for argv in commands])
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, env=environment, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return [Outcome(*one) for one in json.loads(done.stdout)]


LIGHT = [
    ["verify", "RUN", "--jobs", "2"],
    ["show", "RUN"],
    ["show", "RUN", "round", "3"],
    ["show", "RUN", "worker", "1"],
    ["show", "RUN", "entry", "3"],
    ["ledger", "RUN", "--json"],
    ["bundle", "RUN", "--out", "run.podlt"],
    ["verify", "run.podlt"],
    ["head", "RUN"],
    ["simulate", "--runs", "1", "--rounds", "5", "--keep", "simulated"],
    ["workers", "list", "RUN"],
    ["recipe", "list"],
    ["recipe", "show", "digits"],
    ["bench", "verify", "--rounds", "2"],
    ["--version"],
]


def test_reading_and_verifying_needs_no_extra(run: Path, tmp_path: Path, blocked: dict[str, str]) -> None:
    outcomes = light(blocked, tmp_path, at(run, LIGHT))
    for argv, outcome in zip(LIGHT, outcomes, strict=True):
        assert outcome.code == 0, (argv, outcome.err)


@pytest.mark.slow
def test_receipts_are_compared_without_an_extra(run: Path, tmp_path: Path, blocked: dict[str, str]) -> None:
    (outcome,) = light(blocked, tmp_path, [["receipts", run, "--folder", tmp_path]])
    assert outcome.code == ExitCode.STOPPED and "no receipts of this run are here" in outcome.err


HEAVIER = {
    ("train", "digits"): ("podlt train", "train"),
    ("demo", "--recipe", "digits"): ("podlt demo", "train"),
    ("audit", "RUN"): ("podlt audit", "train"),
    ("conformance",): ("podlt conformance", "train"),
    ("data", "describe", "digits"): ("podlt data describe", "train"),
    ("bench", "overhead"): ("podlt bench overhead", "train"),
    ("manager", "digits"): ("podlt manager", "network"),
    ("worker", "podlt1-abc"): ("podlt worker", "network"),
    ("bench", "engines"): ("podlt bench engines", "network"),
    ("train", "digits", "--metrics", "0"): ("--metrics", "operations"),
    ("train", "digits", "--log-format", "json"): ("a log (--log-format, --log-file)", "operations"),
    ("store", "upgrade", "RUN"): ("podlt store upgrade", "postgres"),
}


def test_a_command_that_needs_more_ends_with_2_and_names_the_extra(
    run: Path, tmp_path: Path, blocked: dict[str, str]
) -> None:
    outcomes = light(blocked, tmp_path, at(run, HEAVIER))
    for (argv, (what, extra)), outcome in zip(HEAVIER.items(), outcomes, strict=True):
        assert outcome.code == ExitCode.USAGE, (argv, outcome)
        error, hint = outcome.err.splitlines()
        assert error.startswith(f"error: {what} needs ") and error.endswith("which is not installed"), argv
        assert hint == f"hint: in podlt's folder: pip install '.[{extra}]'", argv


def test_python_says_the_same_as_the_command_line(tmp_path: Path, blocked: dict[str, str]) -> None:
    code = (
        "import podlt\n"
        "podlt.verify, podlt.simulate, podlt.Recipe, podlt.DataSpec, podlt.LossSpec\n"
        "try:\n"
        "    podlt.train\n"
        "except ImportError as error:\n"
        "    print(isinstance(error, podlt.UsageError), error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=blocked, cwd=tmp_path
    )
    assert done.stdout == (
        "True podlt.train needs PyTorch (torch), which is not installed; in podlt's folder: pip install '.[train]'\n"
    )


def test_what_a_users_own_code_imports_is_not_claimed_as_ours(tmp_path: Path) -> None:
    (tmp_path / "their_code.py").write_text("import torch_of_theirs\n")
    (tmp_path / "their_model.py").write_text("import sys\nsys.modules['rdata'] = None\nimport rdata\n")
    code = (
        "from podlt.extras import missing_package\n"
        "for name in ('their_code', 'their_model'):\n"
        "    try:\n"
        "        __import__(name)\n"
        "    except ImportError as error:\n"
        "        print(missing_package(error, 'podlt train'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert done.stdout == "None\nNone\n"


def test_a_package_that_is_there_and_broken_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ImportError("cannot import name 'x' from 'torch'", name="torch")
    found = needed_by("podlt train", broken)
    assert isinstance(found, MissingPackageError) and isinstance(found, UsageError)
    assert found.need == (
        "podlt train needs PyTorch (torch), which cannot be imported here: cannot import name 'x' from 'torch'"
    )
    unknown = ModuleNotFoundError("No module named 'theirs'", name="theirs")
    assert needed_by("podlt train", unknown) is unknown and missing_package(unknown, "podlt train") is None


def test_the_table_of_packages_is_that_of_pyproject() -> None:
    """Each package of the table is in the extra that it names, or in what that extra brings."""
    named = {"PIL": "pillow", "mlflow": "mlflow-skinny"}
    named["sklearn"] = "scikit-learn"
    found = {extra: {re.split(r"[\[=<>]", line)[0] for line in lines} for extra, lines in EXTRAS.items()}
    for module, package in PACKAGES.items():
        assert named.get(module, module.replace("_", "-")) in found[package.extra], module
    light_names = {re.split(r"[\[=<>]", line)[0] for line in PROJECT["dependencies"]}
    assert not light_names & {named.get(module, module) for module in PACKAGES}
    assert "podlt[train]" in EXTRAS["network"] and "podlt[train]" in EXTRAS["ray"]


EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def test_every_hint_names_what_exists() -> None:
    """`pip install` is said of podlt's own folder alone, with extras that there are."""
    files = [*ROOT.glob("src/podlt/**/*.py"), *ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
    files += [file for file in ROOT.glob("examples/**/*") if file.is_file() and file.suffix in {"", ".service", ".md"}]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"podlt\[\w", text), file
        for what in re.findall(r"pip install (?:--[\w-]+ )*['\"]?([^\s'\"`]+)", text):
            extras = re.fullmatch(r"\.(?:\[([\w,{}]+)\])?", what)
            assert extras is not None, (file, what)
            assert set((extras[1] or "train").split(",")) <= {*EXTRAS, "{extra}"}, (file, what)


@pytest.mark.slow
def test_an_installation_without_extras_is_small_and_works(run: Path, tmp_path: Path) -> None:
    """The real thing: built, installed with its dependencies from the configured index, measured, and used."""
    venv = tmp_path / "light"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", str(ROOT)]
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(pip, capture_output=True, text=True, check=False, env=clean, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (packages,) = venv.glob("lib/python*/site-packages")
    there = {path.name for path in packages.iterdir()}
    assert not there & set(HEAVY)

    def call(*argv: object) -> Outcome:
        command = [str(venv / "bin" / "podlt"), *map(str, argv)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean, cwd=tmp_path)
        return Outcome(done.returncode, done.stdout, done.stderr)

    for argv in at(run, LIGHT):
        outcome = call(*argv)
        assert outcome.code == 0, (argv, outcome.err)
    assert json.loads(call("ledger", run, "--json").out)["sum"] == 0
    outcome = call("train", "digits")
    assert outcome.code == ExitCode.USAGE and "needs PyTorch (torch), which is not installed" in outcome.err
    measured = subprocess.run(["du", "-sm", str(packages)], capture_output=True, text=True, check=True).stdout
    assert int(measured.split()[0]) < LIMIT_MB, measured
