"""The store under kill -9, a full disk, a second writer, and rows that somebody else made: SQLite, PostgreSQL."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TypeVar

import pytest
from places import InFile, OnServer, Place

from podlt.canonical import MAX_RECORD
from podlt.errors import InvalidProofError, StorageError
from podlt.log.merkle import leaf_hash
from podlt.store.files import read_whole, write_whole
from podlt.store.log_store import PAGE, LogStore

WRITER = """
import sys
from podlt.store.log_store import LogStore
store = LogStore(sys.argv[1], create=True)
first = len(list(store.entries()))
for batch in range(10**6):
    bodies = [b"%d" % (first + i) + bytes(200) for i in range(3)]
    store.append(first, bodies, "head over %d" % (first + 3))
    first += 3
    print(first, flush=True)
"""


def written(place: Place) -> tuple[list[tuple[int, bytes, bytes]], list[tuple[int, str]]]:
    store = LogStore.at(place.path, readonly=True) if isinstance(place, InFile) else place.open(readonly=True)
    try:
        return list(store.entries()), store.heads()
    finally:
        store.close()


def check_whole(place: Place) -> int:
    """Entries without a gap, and the last head over all of them; returns how many."""
    entries, heads = written(place)
    assert [number for number, _, _ in entries] == list(range(len(entries)))
    assert all(leaf_hash(body) == leaf for _, leaf, body in entries)
    assert [size for size, _ in heads] == list(range(3, len(entries) + 1, 3))
    return len(entries)


def test_what_was_appended_is_read_back_in_pages(place: Place) -> None:
    store = place.open(create=True)
    bodies = [bytes([i % 256]) * (i % 7 + 1) for i in range(2 * PAGE + 5)]
    store.append(0, bodies[:10], "first")
    store.append(10, bodies[10:], "second")
    assert [body for _, _, body in store.entries()] == bodies
    assert [number for number, _, _ in store.entries(PAGE)] == list(range(PAGE, len(bodies)))
    assert store.heads() == [(10, "first"), (len(bodies), "second")]
    store.close()


def test_the_size_is_that_of_the_last_tree_head(place: Place) -> None:
    store = place.open(create=True)
    assert store.size() == 0
    store.append(0, [b"a", b"b"], "first")
    store.append(2, [b"c"], "second")
    assert store.size() == 3
    store.close()


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_killed_writer_leaves_whole_batches_and_all_that_it_reported(place: Place, kills: int) -> None:
    dice, last = random.Random(7), 0
    for _ in range(kills):
        child = subprocess.Popen([sys.executable, "-c", WRITER, place.url], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        last = int(child.stdout.readline())
        time.sleep(dice.random() * 0.05)
        os.kill(child.pid, signal.SIGKILL)
        reported = [int(line) for line in child.stdout.read().split("\n")[:-1]]
        child.wait()
        last = reported[-1] if reported else last
        assert check_whole(place) >= last


def test_a_full_disk_is_an_error_that_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    place = InFile(tmp_path / "log.db")
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
    guard = WRITER.replace("    store.append(", "    try_append(").replace(
        "store = ",
        "from podlt.errors import StorageError\n"
        "def try_append(*batch):\n"
        "    try:\n"
        "        store.append(*batch)\n"
        "    except StorageError as error:\n"
        "        print('full', error)\n"
        "        sys.exit(3)\n"
        "store = ",
    )
    done = subprocess.run([sys.executable, "-c", limited + guard, place.url], capture_output=True, text=True)
    *reported, complaint = done.stdout.strip().split("\n")
    assert done.returncode == 3 and complaint.startswith("full"), done.stderr
    assert check_whole(place) == int(reported[-1])
    store = place.open()
    store.append(int(reported[-1]), [b"room again"], "head")
    store.close()


def test_a_second_writer_cannot_overwrite_or_fork(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podlt.store.log_store.LOCK_SECONDS", 0.3)
    one, two = place.open(create=True), place.open()
    one.append(0, [b"a", b"b"], "one")
    with pytest.raises(StorageError, match="another manager"):
        two.append(1, [b"B", b"c"], "two")
    assert [body for _, _, body in two.entries()] == [b"a", b"b"]
    one.close()
    with pytest.raises(StorageError, match="expected entry 1 to be the next, got 2"):
        two.append(1, [b"B", b"c"], "two")
    two.append(2, [b"c"], "two")
    assert [size for size, _ in two.heads()] == [2, 3]
    two.close()


def test_no_number_is_left_out(place: Place) -> None:
    store = place.open(create=True)
    for first in (1, 2**40):
        with pytest.raises(StorageError, match="next, got 0"):
            store.append(first, [b"b"], "head")
    store.append(0, [b"a"], "one")
    with pytest.raises(StorageError, match="next, got 1"):
        store.append(2, [b"c"], "three")
    assert [number for number, _, _ in store.entries()] == [0]
    assert store.heads() == [(1, "one")]
    store.close()


def test_a_snapshot_is_the_log_of_one_moment_in_a_file_of_its_own(place: Place, tmp_path: Path) -> None:
    store = place.open(create=True)
    bodies = [bytes([i % 251]) * 40 for i in range(PAGE + 10)]
    store.append(0, bodies, "first")
    reader = place.open(readonly=True)
    reader.snapshot(tmp_path / "copy.db")
    store.append(len(bodies), [b"later"], "second")
    copy = InFile(tmp_path / "copy.db")
    entries, heads = written(copy)
    assert [body for _, _, body in entries] == bodies and heads == [(len(bodies), "first")]
    assert sorted(p.name for p in tmp_path.glob("copy*")) == ["copy.db"]
    reader.close()
    store.close()


def test_a_log_is_copied_as_it_is_into_an_empty_one_only(place: Place, tmp_path: Path) -> None:
    source = hostile(InFile(tmp_path / "source.db"), "UPDATE entries SET body = x'62ff' WHERE number = 1").open()
    target = place.open(create=True)
    target.fill(source.entries(), source.heads())
    assert list(target.entries()) == list(source.entries()) and target.heads() == source.heads()
    with pytest.raises(StorageError, match="next, got 2"):
        target.fill(source.entries(), source.heads())
    assert len(list(target.entries())) == 2
    source.close()
    target.close()


def test_a_batch_that_fails_leaves_nothing(place: Place) -> None:
    store = hostile(place, "INSERT INTO heads VALUES (4, 'in the way')").open()
    with pytest.raises(StorageError):
        store.append(2, [b"c", b"d"], "two")
    with pytest.raises(StorageError):
        store.append(1, [b"c", b"d", b"e"], "two")
    assert [body for _, _, body in store.entries()] == [b"a", b"b"]
    assert store.heads() == [(2, "one"), (4, "in the way")]
    store.close()


def test_reading_changes_no_byte_even_where_nothing_may_be_written(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = LogStore.at(path, create=True)
    store.append(0, [b"a"], "one")
    store.close()
    before = path.read_bytes()
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        assert len(written(InFile(path))[0]) == 1
    finally:
        tmp_path.chmod(0o755)
    assert path.read_bytes() == before


def test_a_log_is_readable_while_it_is_written(place: Place) -> None:
    store = place.open(create=True)
    store.append(0, [b"a"], "one")
    reader = place.open(readonly=True)
    store.append(1, [b"b"], "two")
    assert [body for _, _, body in reader.entries()] == [b"a", b"b"]
    assert len(reader.heads()) == 2
    reader.close()
    store.close()


def test_a_missing_log_is_an_error_and_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such log"):
        LogStore.at(tmp_path / "log.db")
    assert list(tmp_path.iterdir()) == []


P = TypeVar("P", bound=Place)


def hostile(place: P, *statements: str) -> P:
    store = place.open(create=True)
    store.append(0, [b"a", b"b"], "one")
    store.close()
    place.execute(*statements)
    return place


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = 2000000000000 WHERE number = 1",
        "UPDATE entries SET leaf = 2000000000000 WHERE number = 1",
        "UPDATE entries SET body = 'text' WHERE number = 1",
        "UPDATE entries SET number = 'one' WHERE number = 1",
        "UPDATE entries SET number = 1.5 WHERE number = 1",
        f"UPDATE entries SET body = zeroblob({MAX_RECORD + 1}) WHERE number = 1",
        "UPDATE heads SET note = x'00ff'",
        "UPDATE heads SET note = printf('%.*c', 5000, 'x')",
        "UPDATE heads SET size = 'two'",
        "UPDATE meta SET format = 2",
        "UPDATE podlt_version SET version_num = 1",
        "UPDATE podlt_version SET version_num = zeroblob(10000000)",
        "DELETE FROM podlt_version",
        "DELETE FROM meta",
        "DROP TABLE heads",
        "DROP TABLE meta",
    ],
)
def test_rows_that_no_manager_writes_are_refused_before_they_take_memory(tmp_path: Path, statement: str) -> None:
    place = hostile(InFile(tmp_path / "log.db"), statement)
    with pytest.raises(InvalidProofError):
        written(place)


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE entries SET body = decode(repeat('00', {MAX_RECORD + 1}), 'hex') WHERE number = 1",
        "UPDATE heads SET note = repeat('x', 5000)",
        "UPDATE meta SET format = 2",
        "DELETE FROM podlt_version",
        "DROP TABLE heads",
        "DROP TABLE meta CASCADE",
    ],
)
def test_rows_on_a_server_that_no_manager_writes_are_refused_as_well(on_server: OnServer, statement: str) -> None:
    place = hostile(on_server, statement)
    with pytest.raises(InvalidProofError):
        written(place)


def test_a_file_that_is_no_database_or_a_damaged_one_is_reported(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"not a database at all" * 100)
    with pytest.raises(InvalidProofError):
        written(InFile(other))
    damaged = hostile(InFile(tmp_path / "log.db"))
    data = bytearray(damaged.path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    damaged.path.write_bytes(data)
    with pytest.raises(InvalidProofError):
        written(damaged)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_whole(path, b"old")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from pathlib import Path; from podlt.store.files import write_whole\n"
        "from podlt.errors import StorageError\n"
        "try: write_whole(Path(sys.argv[1]), bytes(5000))\n"
        "except StorageError: sys.exit(3)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 3
    assert read_whole(path, 10) == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]
    with pytest.raises(StorageError, match="limit"):
        read_whole(path, 2)
