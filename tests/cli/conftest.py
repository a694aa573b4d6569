"""Simulated runs to look at, and the command line called as a function."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_calls import Outcome, Podlt

from podlt.canonical import to_json
from podlt.cli import main
from podlt.recipe import ProtocolSpec
from podlt.report.history import read_history
from podlt.sim import simulate

CHEATERS = (0, 1)


@pytest.fixture
def podlt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Podlt:
    """Calls the command line in an empty folder, and returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in argv])
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Outcome(end.value.code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guarded run: 12 workers, two who always cheat, one who crashes; figures as a real run leaves them."""
    return simulated(tmp_path_factory.mktemp("simulated") / "run", ProtocolSpec(checked=0.1, own=0.1, escrow=20))


@pytest.fixture(scope="session")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by the seed's rules."""
    return simulated(tmp_path_factory.mktemp("simulated") / "run", ProtocolSpec(preset="classic"))


def simulated(path: Path, rules: ProtocolSpec) -> Path:
    """A whole run of 12 workers."""
    simulate(12, {"always": 2, "crashing:0.1": 1}, 40, seed=3, whole=True, tested=True, protocol=rules, directory=path)
    history = read_history(path)
    gone = {worker: row.number for worker, row in history.convictions().items()}
    with (path / "rounds.jsonl").open("w") as file:
        for row in history.rounds:
            faked = [worker for worker in CHEATERS if row.number <= gone[worker]]
            applied = [worker for worker in faked if row.number < gone[worker]]
            figures = {"round": row.number, "seconds": 0.5, "compute": 0.3, "proof": 0.1}
            file.write(json.dumps({**figures, "faked": faked, "applied": applied}) + "\n")
    cheats = dict.fromkeys(map(str, CHEATERS), "random")
    (path / "run.json").write_bytes(to_json({"settings": {"cheats": cheats}}))
    return path


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of the simulated run, to spoil."""
    return Path(shutil.copytree(original, tmp_path / "run"))
