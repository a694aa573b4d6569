"""A copy of a run that goes on: restored, it goes on to the same bits."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from near_hosts import hosts_in_threads
from places import OnServer
from runs import perform

from podlt.api import Result
from podlt.canonical import from_json
from podlt.cli.app import run as podlt
from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.store import backup as b
from podlt.store.backup import backup, restore
from podlt.store.bundle_reader import aggregate_name
from podlt.store.run_files import open_run_files
from podlt.store.run_log import open_run_log, store_of
from podlt.store.run_names import AGGREGATES
from podlt.verify import verify

CHILD = Path(__file__).parent / "runs.py"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What the run comes to if nothing happens to it."""
    with hosts_in_threads():
        return perform(tmp_path_factory.mktemp("undisturbed") / "run")


class Hanging:
    """A run in a process of its own that hangs after a round, and is killed at the end."""

    def __init__(self, run: Path, stop: int, store: str = "") -> None:
        self.run = run
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), str(run), str(stop), store], stdout=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdout is not None and self.process.stdout.readline() == b"hangs\n"

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a run that was going on."""
    folder = tmp_path_factory.mktemp("unfinished")

    def copy() -> None:
        backup(folder / "run", folder / "a.tar")
        raise KeyboardInterrupt

    with hosts_in_threads(), pytest.raises(KeyboardInterrupt):
        perform(folder / "run", 7, then=copy)
    return folder / "a.tar"


def goes_on(run: Path, undisturbed: Result) -> None:
    """The run ends with the bits, the accounts and the rounds of one that nothing happened to."""
    result = perform(run)
    assert result.parameters == undisturbed.parameters
    assert result.ledger == undisturbed.ledger and result.rounds == undisturbed.rounds
    verification = verify(run, jobs=1)
    assert verification.ok and verification.state.closed is not None, verification.failure


def bodies(run: Path) -> list[bytes]:
    with closing(open_run_log(run, readonly=True)) as store:
        return [body for _, _, body in store.entries()]


def test_a_copy_of_a_running_run_goes_on_to_the_same_bits(archive: Path, tmp_path: Path, undisturbed: Result) -> None:
    manifest = restore(archive, tmp_path / "again")
    assert 1 <= manifest.rounds <= 9 and archive.stat().st_mode & 0o777 == 0o600
    names = {member.path for member in manifest.files}
    assert "updates/00000001.bin" not in names  # a checkpoint has taken its place
    assert {member.path for member in manifest.files if member.secret} == {"manager.key", "workers.key"}
    before = bodies(tmp_path / "again")
    with hosts_in_threads():
        goes_on(tmp_path / "again", undisturbed)
    assert bodies(tmp_path / "again")[: len(before)] == before


@pytest.mark.slow
def test_a_run_of_another_process_is_copied_while_it_goes_on(tmp_path: Path, undisturbed: Result) -> None:
    hanging = Hanging(tmp_path / "run", 7)
    try:
        backup(hanging.run, tmp_path / "a.tar")
    finally:
        hanging.kill()
    restore(tmp_path / "a.tar", tmp_path / "again")
    goes_on(tmp_path / "again", undisturbed)
    goes_on(tmp_path / "run", undisturbed)  # which was killed


@pytest.mark.slow
def test_a_run_on_a_server_is_copied_while_it_goes_on_and_restored_to_either_place(
    on_server: OnServer, tmp_path: Path, undisturbed: Result
) -> None:
    where = on_server.server.url(on_server.database)
    hanging = Hanging(tmp_path / "run", 7, where)
    try:
        assert not (tmp_path / "run" / "log.db").exists()
        backup(tmp_path / "run", tmp_path / "a.tar")
        assert verify(tmp_path / "run", jobs=1).ok
        with pytest.raises(StorageError, match="podlt_one_log_a_run"):
            restore(tmp_path / "a.tar", tmp_path / "twin", store=where)
        assert not (tmp_path / "twin").exists()
    finally:
        hanging.kill()
    restore(tmp_path / "a.tar", tmp_path / "in_file")
    assert store_of(tmp_path / "in_file") == ""
    other = on_server.server.url(on_server.server.new_database())
    restore(tmp_path / "a.tar", tmp_path / "elsewhere", store=other)
    assert not (tmp_path / "elsewhere" / "log.db").exists()
    goes_on(tmp_path / "in_file", undisturbed)
    goes_on(tmp_path / "elsewhere", undisturbed)
    goes_on(tmp_path / "run", undisturbed)  # which was killed


@pytest.mark.slow
def test_a_run_on_a_server_is_trained_looked_at_and_its_tampered_rows_are_found(
    on_server: OnServer, tmp_path: Path, undisturbed: Result, capfd: pytest.CaptureFixture[str]
) -> None:
    where = on_server.server.url(on_server.database).replace("@", ":S3CR3T@")
    run = tmp_path / "run"
    result = perform(run, store=where, history="all")
    assert result.parameters == undisturbed.parameters
    with pytest.raises(UsageError, match="there is a run already"):
        perform_new(run)
    for command in (
        ["verify", str(run)],
        ["show", str(run)],
        ["ledger", str(run)],
        ["audit", str(run), "--fraction", "0.1"],
    ):
        assert podlt(command) == 0, capfd.readouterr()
    assert podlt(["store", "upgrade", str(run)]) == podlt(["store", "upgrade", where]) == 0
    everything = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    said = capfd.readouterr()
    backup(run, tmp_path / "history.tar", history=True)
    restore(tmp_path / "history.tar", tmp_path / "again")
    assert podlt(["audit", str(tmp_path / "again"), "--fraction", "0.1"]) == 0
    assert b"S3CR3T" not in everything and "S3CR3T" not in said.out + said.err
    on_server.server.execute(on_server.database, "UPDATE podlt_entries SET body = body || '\\x00' WHERE number = 5")
    verification = verify(run, jobs=1)
    assert verification.failure is not None and verification.failure.entry == 5
    assert podlt(["verify", str(run)]) == 1
    with pytest.raises(InvalidProofError):
        backup(run, tmp_path / "a.tar")


def perform_new(run: Path) -> None:
    from runs import recipe

    import podlt.api

    podlt.api.train(recipe(), run=run, processes=1)


def test_a_finished_run_is_copied_with_its_history_on_demand(undisturbed: Result, tmp_path: Path) -> None:
    small = backup(undisturbed.run, tmp_path / "small.tar")
    large = backup(undisturbed.run, tmp_path / "large.tar", history=True)
    assert large.size > small.size and small.left_out == []
    for name, made in (("small", small), ("large", large)):
        restore(tmp_path / f"{name}.tar", tmp_path / name)
        assert verify(tmp_path / name, jobs=1).state.closed is not None
        assert perform(tmp_path / name).parameters == undisturbed.parameters
        assert (tmp_path / name / "model.safetensors").read_bytes() == (
            undisturbed.run / "model.safetensors"
        ).read_bytes(), made


def test_aggregates_are_copied_with_the_history_only_and_none_of_a_round_to_come(
    undisturbed: Result, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed.run, run)
    (run / AGGREGATES).mkdir()
    for number in (0, 1, 99_999):
        (run / aggregate_name(number)).write_bytes(b"sums")
    backup(run, tmp_path / "small.tar")
    backup(run, tmp_path / "large.tar", history=True)
    for name, expected in (("small", []), ("large", [0, 1])):
        restore(tmp_path / f"{name}.tar", tmp_path / name)
        with open_run_files(tmp_path / name) as files:
            assert files.aggregates() == expected


@pytest.mark.slow
def test_the_command_line_copies_and_restores(archive: Path, tmp_path: Path, undisturbed: Result) -> None:
    assert podlt(["restore", str(archive), str(tmp_path / "run"), "--base", str(tmp_path)]) == 0
    assert from_json((tmp_path / "run" / "run.json").read_bytes())["settings"]["base"] == str(tmp_path)
    assert podlt(["backup", str(tmp_path / "run"), str(tmp_path / "b.tar")]) == 0
    assert podlt(["backup", str(tmp_path / "run"), str(tmp_path / "b.tar")]) == 2
    assert podlt(["restore", str(tmp_path / "b.tar"), str(tmp_path / "run")]) == 2
    assert podlt(["restore", str(tmp_path / "missing.tar"), str(tmp_path / "new")]) == 2
    assert podlt(["backup", str(tmp_path / "nothing"), str(tmp_path / "c.tar")]) == 2
    assert podlt(["store", "upgrade", str(tmp_path / "run")]) == 0
    assert podlt(["train", "--resume", str(tmp_path / "run"), "--quiet", "--processes", "1"]) == 0
    closed = verify(tmp_path / "run", jobs=1).state.closed
    assert closed is not None and closed.outcome == "complete"


def test_a_changed_archive_makes_no_directory(archive: Path, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    with tarfile.open(archive) as tar:
        offset = tar.getmember("manager.key").offset_data
    data[offset + 20] ^= 1
    changed = tmp_path / "changed.tar"
    changed.write_bytes(data)
    with pytest.raises(StorageError, match=r"manager\.key was changed"):
        restore(changed, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["changed.tar"]


def test_nothing_is_overwritten(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").touch()
    with pytest.raises(UsageError, match="not empty"):
        restore(archive, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["precious"]
    (tmp_path / "run" / "precious").unlink()
    restore(archive, tmp_path / "run")


def test_files_that_are_deleted_while_they_are_copied_make_the_copy_begin_anew(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    restore(archive, run)
    hidden = sorted(run.glob("checkpoints/*"))[-1]
    aside = tmp_path / "aside"
    shutil.move(hidden, aside)
    listed = b._numbered
    seen: list[Path] = []

    def vanishing(folder: Path) -> list[Path]:
        seen.append(folder)
        if len(seen) == 4:  # the second attempt finds it again
            shutil.move(aside, hidden)
        return sorted({*listed(folder), *([hidden] if folder == hidden.parent else [])})

    monkeypatch.setattr(b, "_numbered", vanishing)
    done = backup(run, tmp_path / "b.tar")
    assert len(seen) == 4
    assert f"checkpoints/{hidden.name}" in {member.path for member in done.manifest.files}


def test_a_run_without_its_files_is_not_copied(archive: Path, tmp_path: Path) -> None:
    for missing in ("manager.key", "checkpoints/*.safetensors", "run.json"):
        run = tmp_path / missing.replace("/", "-").replace("*", "x")
        restore(archive, run)
        for path in run.glob(missing):
            path.unlink()
        with pytest.raises(StorageError, match="missing"):
            backup(run, tmp_path / "b.tar")
        assert not (tmp_path / "b.tar").exists()


def test_names_that_are_not_plain_are_left_out_and_said(archive: Path, tmp_path: Path) -> None:
    restore(archive, tmp_path / "run")
    (tmp_path / "run" / "my notes.txt").touch()
    (tmp_path / "run" / "link").symlink_to("/etc/passwd")
    done = backup(tmp_path / "run", tmp_path / "b.tar")
    assert done.left_out == ["link", "my notes.txt"]
    assert not {"link", "my notes.txt"} & {member.path for member in done.manifest.files}


# -- full disks ------------------------------------------------------------------------------------------------------

SWEEP = """
import os, subprocess, sys
from pathlib import Path
from podlt.errors import StorageError
from podlt.store.backup import backup, restore
run, disk = Path(sys.argv[1]), Path(sys.argv[2])
mount = ["mount", "-t", "tmpfs", "none", str(disk), "-o"]
subprocess.run([*mount, "size=32k"], check=True)
whole, said = 0, []
for kilobytes in range(32, 400, 4):
    subprocess.run([*mount[:-1], "-o", f"remount,size={kilobytes}k"], check=True)
    try:
        backup(run, disk / "b.tar")
        whole += 1
        (disk / "b.tar").unlink()
    except StorageError as error:
        said.append(str(error))
        assert not whole, "more room was less"
    assert not os.listdir(disk), os.listdir(disk)
for text in said:
    print(text)
print("whole", whole)
"""


def in_a_namespace(script: str, *arguments: Path) -> str:
    """What a script prints that may mount file systems which nobody else sees."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace (unshare -rm) for a small disk")
    command = ["unshare", "-rm", sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_target_that_is_full_is_named_at_every_size_and_nothing_of_it_is_left(
    undisturbed: Result, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    *said, whole = in_a_namespace(SWEEP, undisturbed.run, tmp_path / "disk").splitlines()
    assert len(said) > 10 and int(whole.removeprefix("whole ")) > 10
    target = tmp_path / "disk" / "b.tar"
    assert {text.partition(" on the disk of ")[0] for text in said} == {f"{target}: no room"}
    assert all(f"no room on the disk of {target.parent}: " in text and "log.db" not in text for text in said)


FULL_SOURCE = """
import os, shutil, subprocess, sys
from pathlib import Path
from podlt.errors import StorageError
from podlt.store.backup import backup
run, disk, target = map(Path, sys.argv[1:])
subprocess.run(["mount", "-t", "tmpfs", "none", str(disk), "-o", "size=2m"], check=True)
shutil.copytree(run, disk / "run")
with (disk / "rest").open("wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError:
        pass
try:
    backup(disk / "run", target)
    print("whole")
except StorageError as error:
    print(error)
"""


def test_a_run_on_a_full_disk_is_copied_to_another_or_its_own_disk_is_named(
    undisturbed: Result, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    said = in_a_namespace(FULL_SOURCE, undisturbed.run, tmp_path / "disk", tmp_path / "b.tar").strip()
    if said == "whole":
        restore(tmp_path / "b.tar", tmp_path / "again")
    else:
        assert said.startswith(f"{tmp_path / 'disk' / 'run' / 'log.db'}: no room on the disk of {tmp_path / 'disk'}")
        assert not (tmp_path / "b.tar").exists()


def test_a_quota_that_ends_within_a_file_is_the_targets(
    undisturbed: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free room says nothing of a quota."""
    add = b.ArchiveWriter.add

    def full(self: b.ArchiveWriter, name: str, path: Path) -> None:
        if name != "log.db":
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        add(self, name, path)

    monkeypatch.setattr(b.ArchiveWriter, "add", full)
    with pytest.raises(StorageError, match=rf"^{tmp_path}/b\.tar: no room on the disk of {tmp_path}: "):
        backup(undisturbed.run, tmp_path / "b.tar")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_is_named_and_not_the_target(
    undisturbed: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = undisturbed.run / "run.json"

    class Failing(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def opened(self: Path, *arguments: Any, **named: Any) -> Any:
        return Failing(self) if self == broken else io.open(self, *arguments, **named)  # noqa: UP020

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(StorageError, match=rf"^{broken}: cannot be read: "):
        backup(undisturbed.run, tmp_path / "b.tar")
    assert not list(tmp_path.iterdir())


RESTORE = """
import os, subprocess, sys
from pathlib import Path
from podlt.errors import StorageError
from podlt.store import archive as a, backup as b
archive, disk = Path(sys.argv[1]), Path(sys.argv[2])
subprocess.run(["mount", "-t", "tmpfs", "none", str(disk), "-o", "size=64k"], check=True)
for sees in (True, False):  # and where the file system does not say how much is free
    try:
        b.restore(archive, disk / "run")
    except StorageError as error:
        print(error)
    assert not os.listdir(disk)
    a.free_bytes = b.require_room.__globals__["free_bytes"] = lambda folder: None
"""


def test_restoring_to_a_full_disk_names_the_directory_and_not_the_archive(undisturbed: Result, tmp_path: Path) -> None:
    backup(undisturbed.run, tmp_path / "b.tar")
    (tmp_path / "disk").mkdir()
    said = in_a_namespace(RESTORE, tmp_path / "b.tar", tmp_path / "disk").splitlines()
    assert len(said) == 2 and all(
        text.startswith(f"{tmp_path / 'disk' / 'run'}: no room on the disk of {tmp_path / 'disk'}") for text in said
    )
