"""The files of a run look the same from its directory, a bundle or a bare log; what is missing is None."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.sim import simulate
from podlt.store import run_files
from podlt.store.bundle import write_bundle
from podlt.store.run_files import RunFiles, open_run_files


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run: a log, and documents."""
    path = tmp_path_factory.mktemp("run-files") / "run"
    simulate(6, {}, 3, seed=1, whole=True, directory=path)
    return path


@pytest.fixture
def each(run: Path, tmp_path: Path) -> dict[str, Path]:
    """The run in each form."""
    write_bundle(run, tmp_path / "bundle")
    return {"directory": run, "bundle": tmp_path / "bundle", "log": run / "log.db"}


def test_each_form_is_recognised_and_has_the_same_log(each: dict[str, Path]) -> None:
    logs = []
    for kind, path in each.items():
        with open_run_files(path) as files:
            assert (files.kind, files.path) == (kind, path)
            with closing(files.log()) as log:
                logs.append((list(log.entries()), log.heads()))
    assert logs[0] == logs[1] == logs[2] and logs[0][0]


def nothing(files: RunFiles) -> list[object]:
    """What a run that was only simulated has not."""
    return [files.model(), files.checkpoint(0), files.checkpoint(7), files.update(0, 100), files.unproven()]


def test_what_is_missing_is_none(each: dict[str, Path]) -> None:
    for path in each.values():
        with open_run_files(path) as files:
            assert nothing(files) == [None] * 5
            assert files.cheats() == {} and files.updates() == []
    with open_run_files(each["log"]) as files:
        assert files.document("recipe.json") is None


def test_documents_are_the_same_from_directory_and_bundle(each: dict[str, Path]) -> None:
    with open_run_files(each["directory"]) as one, open_run_files(each["bundle"]) as other:
        for name in ("recipe.json", "program.json"):
            assert one.document(name) == other.document(name) is not None


def test_a_document_that_is_too_long_is_not_read(each: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "MAX_DOCUMENT", 1)
    for kind in ("directory", "bundle"):
        with open_run_files(each[kind]) as files, pytest.raises(StorageError, match="more than the limit of 1"):
            files.document("recipe.json")


def test_an_update_that_is_too_long_is_not_read(run: Path, tmp_path: Path) -> None:
    (tmp_path / "updates").mkdir()
    (tmp_path / "recipe.json").touch()
    (tmp_path / "updates" / "00000004.bin").write_bytes(bytes(10))
    (tmp_path / "updates" / "4.bin").write_bytes(bytes(10))
    with open_run_files(tmp_path) as files:
        assert files.updates() == [4]
        assert files.update(4, 10) == bytes(10)
        with pytest.raises(StorageError, match="round 4: 10 bytes, more than the limit of 9"):
            files.update(4, 9)


def test_a_path_that_is_no_run_is_the_operators_mistake(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "nothing").touch()
    (tmp_path / "folder").mkdir()
    for name in ("text", "nothing", "folder", "missing"):
        with pytest.raises(UsageError, match=r"no run here \(expected a directory"):
            open_run_files(tmp_path / name)


def test_a_bundle_whose_name_was_changed_is_still_a_bundle_that_was_changed(each: dict[str, Path]) -> None:
    raw = each["bundle"].read_bytes()
    for position in (0, 5, 512, 520):
        changed = bytearray(raw)
        changed[position] ^= 1
        each["bundle"].write_bytes(changed)
        with pytest.raises(InvalidProofError):
            open_run_files(each["bundle"])


def test_a_directory_without_its_log_says_so(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").touch()
    with open_run_files(tmp_path) as files, pytest.raises(StorageError, match="no such log"):
        files.log()


def test_settings_that_are_malformed_are_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").touch()
    (tmp_path / "run.json").write_text('{"settings":{"cheats":{"x":1}}}')
    with open_run_files(tmp_path) as files, pytest.raises(StorageError, match=r"run\.json"):
        files.cheats()


@pytest.mark.slow
def test_a_run_is_read_without_pytorch_or_numpy(each: dict[str, Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from podlt.store.bundle import open_run_files; "
        "list(open_run_files(Path(sys.argv[1])).log().entries()); "
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    for path in each.values():
        assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0
