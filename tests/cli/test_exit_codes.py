"""What an exit code means: 1 is a finding and nothing else, whatever goes wrong in podlt or is missing around it."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from cli_calls import Outcome, Podlt

from podlt import errors, faults
from podlt.cli.app import HELP
from podlt.errors import ExitCode, NotCheckedError, PodltError
from podlt.store.archive import ArchiveWriter
from podlt.store.run_names import ACCESS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files, where reports of crashes go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Makes `podlt ledger` raise an error."""

    def read(path: Path) -> None:
        raise error

    monkeypatch.setattr("podlt.report.history.read_history", read)


def report_of(outcome: Outcome, folder: Path) -> str:
    """What the one report in a folder says, which the outcome has named."""
    (file,) = folder.glob("podlt-crash-*.txt")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in outcome.err
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        AssertionError(),
        MemoryError(),
        RecursionError("too deep"),
        FileNotFoundError(errno.ENOENT, "No such file", "ours"),
        SystemExit(1),
        SystemExit("a message"),
        ModuleNotFoundError("No module named 'their_model'", name="their_model"),
        BrokenPipeError(errno.EPIPE, "a pipe of ours, not standard output"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_crash_ends_with_70_says_that_it_is_no_finding_and_keeps_its_traceback(
    podlt: Podlt, temporary: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    raising(monkeypatch, error)
    outcome = podlt("ledger", "somewhere")
    assert outcome.code == ExitCode.CRASH and outcome.out == ""
    first, second, third = outcome.err.splitlines()
    assert first.endswith("this is a bug of podlt, and not a finding about the run")
    assert second.startswith("traceback: ")
    assert "report it" in third and "podlt 0" in third and '"Reporting a fault"' in third
    report = report_of(outcome, temporary)
    assert "command: podlt ledger somewhere" in report and "Traceback" in report and type(error).__name__ in report
    assert "## Reporting a fault" in (DOCS / "FAQ.md").read_text(encoding="utf-8")


def test_debug_shows_the_traceback_of_a_crash(podlt: Podlt, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyError("x"))
    outcome = podlt("--debug", "ledger", "somewhere")
    assert outcome.code == ExitCode.CRASH
    assert "Traceback" in outcome.err and "bug of podlt" in outcome.err


def test_a_report_holds_no_secret(podlt: Podlt, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, RuntimeError("postgresql://me:S3CR3T@host/runs and podlt1-S3CR3T_S3CR3T"))
    outcome = podlt("ledger", "postgresql://me:S3CR3T@host/runs")
    assert outcome.code == ExitCode.CRASH
    assert "S3CR3T" not in outcome.err + report_of(outcome, temporary)
    assert "postgresql://...@host/runs" in outcome.err


def test_where_no_report_can_be_kept_the_traceback_is_shown(podlt: Podlt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    raising(monkeypatch, KeyError("x"))
    outcome = podlt("ledger", "somewhere")
    assert outcome.code == ExitCode.CRASH and "Traceback" in outcome.err


def test_a_crash_while_a_crash_is_told_is_70_as_well(podlt: Podlt, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyError("x"))
    monkeypatch.setattr(faults, "version_line", lambda: 1 / 0)
    outcome = podlt("ledger", "somewhere")
    assert outcome.code == ExitCode.CRASH and "bug of podlt" in outcome.err


def test_an_installation_that_is_damaged_is_no_finding(tmp_path: Path) -> None:
    code = "import sys; sys.modules['rich'] = None; from podlt.cli import main; main(['verify', 'nowhere'])"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == ExitCode.CRASH and "not a finding" in done.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_the_system_refuses_is_no_bug(podlt: Podlt, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    raising(monkeypatch, OSError(number, os.strerror(number), "a-file"))
    outcome = podlt("ledger", "somewhere")
    assert outcome.code == ExitCode.STOPPED
    assert outcome.err.startswith("error: could not go on") and "a-file" in outcome.err


def test_what_was_not_checked_ends_with_4(podlt: Podlt, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, NotCheckedError("a newer program wrote entry 7"))
    outcome = podlt("ledger", "somewhere")
    assert outcome.code == ExitCode.NOT_CHECKED and outcome.err == "error: a newer program wrote entry 7\n"


def test_an_interruption_ends_with_130(podlt: Podlt, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert podlt("ledger", "somewhere").code == ExitCode.INTERRUPTED


OTHER_READERS = [pytest.param(c, marks=pytest.mark.slow) for c in (["ledger", "--json"], ["simulate", "--runs", "1"])]


@pytest.mark.parametrize("command", [["show"], *OTHER_READERS])
def test_a_reader_that_has_gone_is_neither_success_nor_finding(run: Path, command: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    where = [] if command[0] == "simulate" else [str(run)]
    code = f"from podlt.cli import main; main({[command[0], *where, *command[1:]]!r})"
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.STOPPED, "")


@pytest.mark.parametrize(
    "argv",
    [
        ["ledger", "nowhere"],
        ["show", "nowhere"],
        ["verify", "nowhere"],
        ["verify", "nowhere", "--head", "nothing.txt"],
        ["report", "nowhere"],
        ["receipts", "nowhere"],
        ["backup", "nowhere", "file.tar"],
        ["restore", "nothing.tar", "run"],
        ["store", "upgrade", "nowhere"],
        ["workers", "list", "nowhere"],
        ["worker", "status", "--folder", "nowhere"],
        ["worker", "no-invitation", "--folder", "nowhere"],
        ["key", "show", "--key", "nothing.key"],
        ["data", "describe", "nothing.toml"],
        ["train", "nothing.toml"],
        ["manager", "nothing.toml"],
        ["recipe", "show", "nothing.toml"],
        ["bench", "nothing"],
        ["bench", "verify", "--nonsense"],
        ["conformance", "--device", "nonsense"],
        ["simulate", "--cheat", "nonsense"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_a_wrong_argument_of_any_command_ends_with_2(podlt: Podlt, temporary: Path, argv: list[str]) -> None:
    outcome = podlt(*argv)
    assert outcome.code == ExitCode.USAGE, outcome
    assert not list(temporary.glob("podlt-crash-*"))


def test_files_that_no_entry_binds_are_no_findings(podlt: Podlt, run: Path, tmp_path: Path) -> None:
    (run / ACCESS).write_text("{")
    outcome = podlt("workers", "list", run)
    assert outcome.code == ExitCode.STOPPED and f"{ACCESS}: malformed" in outcome.err
    with (tmp_path / "copy.tar").open("wb") as out:
        writer = ArchiveWriter(out)
        writer.add("log.db", run / "log.db")
        writer.finish(bytes(32), 1, 0)
    whole = (tmp_path / "copy.tar").read_bytes()
    (tmp_path / "copy.tar").write_bytes(whole[: len(whole) // 2])
    outcome = podlt("restore", "copy.tar", "restored")
    assert outcome.code == ExitCode.STOPPED and "truncated" in outcome.err


def test_every_error_of_podlt_has_a_code_of_the_table_and_one_alone_says_that_something_fails() -> None:
    found = {e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, PodltError)}
    assert {e.__name__ for e in found if e.exit_code == ExitCode.FAILS} == {"InvalidProofError"}
    assert all(e.exit_code in set(ExitCode) for e in found)


def test_help_and_reference_have_the_table_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    table = import_module("cli_reference").reference().partition("## Exit codes")[2].partition("##")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)] == sorted(ExitCode)
    promised = " ".join(HELP.split()).partition("Exit codes: ")[2]
    assert [int(code) for code in re.findall(r"(?:^|; )(\d+) ", promised)] == sorted(ExitCode)


def test_version_says_what_a_report_must_name(podlt: Podlt) -> None:
    outcome = podlt("--version")
    assert outcome.code == 0 and re.match(r"podlt \d+\.\d+\.\d+, Python 3\.", outcome.out)
