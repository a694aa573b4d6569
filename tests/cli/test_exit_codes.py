"""How commands end: 1 is a finding about a run; a crash, a missing package and a wrong argument never are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import podlt.cli.app as app
from podlt.errors import ExitCode
from podlt.extras import missing, needs
from podlt.sim import simulate

HEAVY = "torch numpy numba pyarrow rdata sklearn matplotlib safetensors aiohttp nats cryptography structlog alembic"

WITHOUT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY.split()!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from podlt.cli.app import run
sys.exit(run(sys.argv[1:]))
"""
"""The command line where only what `pip install .` brings is installed."""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("light") / "run"
    simulate(6, {"always": 1}, 8, whole=True, directory=path)
    return path


def light(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [["verify"], ["show"], ["show", "round", "2"], ["ledger"], ["head"]])
def test_what_reads_a_run_needs_no_package_beyond_the_plain_install(command: list[str], simulated: Path) -> None:
    name, *rest = command
    found = light(name, simulated, *rest)
    assert found.returncode == 0 and found.stdout and "Traceback" not in found.stderr


def test_bundles_are_made_and_verified_and_runs_simulated_with_the_plain_install(
    simulated: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "run.podlt"
    assert light("bundle", simulated, "--out", bundle).returncode == 0
    assert light("verify", bundle).returncode == 0
    assert light("simulate", "--runs", 1, "--rounds", 5).returncode == 0


@pytest.mark.parametrize("command", [["train", "digits"], ["audit", "RUN"], ["report", "RUN"], ["conformance"]])
def test_a_package_that_is_missing_is_usage_and_names_what_to_install(command: list[str], simulated: Path) -> None:
    found = light(*(simulated if word == "RUN" else word for word in command))
    assert found.returncode == ExitCode.USAGE
    assert "is not installed; pip install '.[train]', in podlt's folder" in found.stderr


def test_from_python_too_a_missing_package_says_what_brings_it() -> None:
    code = WITHOUT.replace(
        "from podlt.cli.app import run\nsys.exit(run(sys.argv[1:]))",
        "import podlt\ntry:\n    podlt.train\nexcept ImportError as error:\n    print(error)",
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs PyTorch" in found.stdout and "'.[train]'" in found.stdout


def test_every_extra_that_a_message_names_exists() -> None:
    import tomllib

    document = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    for extra in ("train", "network", "operations", "postgres", "ray"):
        assert extra in document["project"]["optional-dependencies"]
        assert f"pip install '.[{extra}]'" in str(needs(extra))
    assert missing("my_own_model") is None and missing(None) is None


@pytest.mark.parametrize("error", [RuntimeError("a slip"), KeyError("x"), MemoryError(), RecursionError(), OSError(5)])
def test_a_crash_is_never_a_finding_and_keeps_its_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def build() -> None:
        raise error

    monkeypatch.setattr(app, "build", build)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert app.run(["verify", "x"]) == ExitCode.CRASHED == 70
    said = capsys.readouterr().err
    (kept,) = tmp_path.glob("podlt-crash-*.txt")
    assert "a bug of podlt, and says nothing about any run" in said and str(kept) in said
    assert type(error).__name__ in kept.read_text(encoding="utf-8") and kept.stat().st_mode & 0o777 == 0o600


def test_arguments_and_files_that_are_none_are_usage(simulated: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "kept.head"
    damaged.write_text("no head\n", encoding="utf-8")
    for arguments in (
        ["verify", str(tmp_path / "nowhere")],
        ["verify", str(simulated), "--head", str(damaged)],
        ["verify", str(simulated), "--head", str(tmp_path / "nothing")],
        ["verify", str(simulated), "--manager-key", "abc"],
        ["verify", str(simulated), "--nonsense"],
        ["show", str(simulated), "round"],
        ["audit", str(simulated), "--fraction", "2"],
    ):
        assert app.run(arguments) == ExitCode.USAGE, arguments


@pytest.mark.slow
def test_what_a_plain_install_brings_takes_less_than_100_megabytes(tmp_path: Path, simulated: Path) -> None:
    source = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source], check=True)
    size = sum(path.stat().st_size for path in (tmp_path / "env" / "lib").rglob("*") if path.is_file())
    assert size < 100 * 10**6, f"{size / 10**6:.0f} MB"
    assert subprocess.run([tmp_path / "env" / "bin" / "podlt", "verify", simulated], check=False).returncode == 0
