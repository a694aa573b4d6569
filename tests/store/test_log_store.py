"""The store under kill -9, a full disk, a second writer, and a file that somebody else has made."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from podlt.canonical import MAX_RECORD
from podlt.errors import InvalidProofError, StorageError
from podlt.log.merkle import leaf_hash
from podlt.store.files import read_whole, write_whole
from podlt.store.log_store import PAGE, LogStore

WRITER = """
import sys
from pathlib import Path
from podlt.store.log_store import LogStore
store = LogStore.at(Path(sys.argv[1]), create=True)
first = len(list(store.entries()))
for batch in range(10**6):
    bodies = [b"%d" % (first + i) + bytes(200) for i in range(3)]
    store.append(first, bodies, "head over %d" % (first + 3))
    first += 3
    print(first, flush=True)
"""


def written(path: Path) -> tuple[list[tuple[int, bytes, bytes]], list[tuple[int, str]]]:
    store = LogStore.at(path, readonly=True)
    try:
        return list(store.entries()), store.heads()
    finally:
        store.close()


def check_whole(path: Path) -> int:
    """Entries without a gap, and the last head over all of them; returns how many."""
    entries, heads = written(path)
    assert [number for number, _, _ in entries] == list(range(len(entries)))
    assert all(leaf_hash(body) == leaf for _, leaf, body in entries)
    assert [size for size, _ in heads] == list(range(3, len(entries) + 1, 3))
    return len(entries)


def test_what_was_appended_is_read_back_in_pages(tmp_path: Path) -> None:
    store = LogStore.at(tmp_path / "log.db", create=True)
    bodies = [bytes([i % 256]) * (i % 7 + 1) for i in range(2 * PAGE + 5)]
    store.append(0, bodies[:10], "first")
    store.append(10, bodies[10:], "second")
    assert [body for _, _, body in store.entries()] == bodies
    assert [number for number, _, _ in store.entries(PAGE)] == list(range(PAGE, len(bodies)))
    assert store.heads() == [(10, "first"), (len(bodies), "second")]
    store.close()


def test_a_killed_writer_leaves_whole_batches_and_all_that_it_reported(tmp_path: Path) -> None:
    path, dice, last = tmp_path / "log.db", random.Random(7), 0
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        last = int(child.stdout.readline())
        time.sleep(dice.random() * 0.05)
        os.kill(child.pid, signal.SIGKILL)
        reported = [int(line) for line in child.stdout.read().split("\n")[:-1]]
        child.wait()
        last = reported[-1] if reported else last
        assert check_whole(path) >= last


def test_a_full_disk_is_an_error_that_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
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
    done = subprocess.run([sys.executable, "-c", limited + guard, str(path)], capture_output=True, text=True)
    *reported, complaint = done.stdout.strip().split("\n")
    assert done.returncode == 3 and complaint.startswith("full"), done.stderr
    assert check_whole(path) == int(reported[-1])
    store = LogStore.at(path)
    store.append(int(reported[-1]), [b"room again"], "head")
    store.close()


def test_a_second_writer_cannot_overwrite_or_fork(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    one, two = LogStore.at(path, create=True), LogStore.at(path)
    one.append(0, [b"a", b"b"], "one")
    with pytest.raises(StorageError):
        two.append(1, [b"B", b"c"], "two")
    assert [body for _, _, body in two.entries()] == [b"a", b"b"]
    two.append(2, [b"c"], "two")
    assert [size for size, _ in one.heads()] == [2, 3]
    one.close()
    two.close()


def test_a_batch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = hostile(tmp_path / "log.db", "INSERT INTO heads VALUES (4, 'in the way')")
    store = LogStore.at(path)
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
        assert len(written(path)[0]) == 1
    finally:
        tmp_path.chmod(0o755)
    assert path.read_bytes() == before


def test_a_log_is_readable_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = LogStore.at(path, create=True)
    store.append(0, [b"a"], "one")
    reader = LogStore.at(path, readonly=True)
    store.append(1, [b"b"], "two")
    assert [body for _, _, body in reader.entries()] == [b"a", b"b"]
    assert len(reader.heads()) == 2
    reader.close()
    store.close()


def test_a_missing_log_is_an_error_and_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no log here"):
        LogStore.at(tmp_path / "log.db")
    assert list(tmp_path.iterdir()) == []


def hostile(path: Path, *statements: str) -> Path:
    store = LogStore.at(path, create=True)
    store.append(0, [b"a", b"b"], "one")
    store.close()
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()
    return path


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
        "DELETE FROM meta",
        "DROP TABLE heads",
        "DROP TABLE meta",
    ],
)
def test_rows_that_no_manager_writes_are_refused_before_they_take_memory(tmp_path: Path, statement: str) -> None:
    path = hostile(tmp_path / "log.db", statement)
    with pytest.raises(InvalidProofError):
        written(path)


def test_a_file_that_is_no_database_or_a_damaged_one_is_reported(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"not a database at all" * 100)
    with pytest.raises(InvalidProofError):
        written(other)
    damaged = hostile(tmp_path / "log.db")
    data = bytearray(damaged.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    damaged.write_bytes(data)
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
