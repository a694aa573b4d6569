"""What only a server does: it may be gone, it is shared, and it knows who writes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from places import InFile, OnServer
from postgres_server import PASSWORD, Server

from podlt.canonical import to_json
from podlt.errors import StorageError, UsageError
from podlt.log.merkle import leaf_hash
from podlt.protocol.claims import Claim
from podlt.sim import simulate
from podlt.store import address, connection
from podlt.store.log_store import LogStore
from podlt.verify import verify

OTHER = "f" * 32

HOLDER = """
import os, signal, sys
import sqlalchemy as sa
from podlt.store.log_store import LogStore
store = LogStore(sys.argv[1], create=True)
store.append(0, [b"whole"], "one")
@sa.event.listens_for(sa.Engine, "commit")
def _(connection):
    print("inserted", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
store.append(1, [b"half"] * 100, "two")
"""


def test_a_writer_that_is_killed_before_its_commit_leaves_the_last_whole_round_and_no_lock(on_server: OnServer) -> None:
    child = subprocess.run([sys.executable, "-c", HOLDER, on_server.url], capture_output=True, text=True)
    assert child.returncode == -9 and child.stdout == "inserted\n", child.stderr
    store = on_server.open()
    assert [body for _, _, body in store.entries()] == [b"whole"] and store.heads() == [(1, "one")]
    store.append(1, [b"again"], "two")
    store.close()


@pytest.mark.slow
def test_a_connection_that_is_lost_is_an_error_and_no_entry_is_lost(on_server: OnServer) -> None:
    store = on_server.open(create=True)
    store.append(0, [b"a"], "one")
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
    on_server.server.execute(on_server.database, cut)
    with pytest.raises(StorageError, match="connection to the database lost; no entry that was logged is"):
        store.append(1, [b"b"], "two")
    assert [body for _, _, body in store.entries()] == [b"a"]
    store.append(1, [b"b"], "two")  # on a connection that was made again, and holds the lock again
    with pytest.raises(StorageError, match="another manager writes"):
        other = on_server.open()
        try:
            other.claim()
        finally:
            other.close()
    assert [size for size, _ in store.heads()] == [1, 2]
    store.close()


def test_what_was_confirmed_survives_the_server_being_killed(on_server: OnServer) -> None:
    store = on_server.open(create=True)
    for number in range(20):
        store.append(number, [b"%d" % number], f"head {number}")
    on_server.server.stop("immediate")
    try:
        with pytest.raises(StorageError, match="lost"):
            store.append(20, [b"20"], "head 20")
        with pytest.raises(StorageError):
            store.append(20, [b"20"], "head 20")
        with pytest.raises(StorageError):
            on_server.open(readonly=True)
    finally:
        on_server.server.start()
    assert [body for _, _, body in store.entries()] == [b"%d" % number for number in range(20)]
    store.close()


def test_commits_wait_for_the_disk_whatever_the_database_is_set_to(on_server: OnServer) -> None:
    on_server.server.execute("postgres", f"ALTER DATABASE {on_server.database} SET synchronous_commit TO off")
    store = on_server.open(create=True)
    shown = store._connection.exec_driver_sql("SHOW synchronous_commit").scalar()
    assert shown == "on"
    store.close()


def test_a_reader_cannot_write(on_server: OnServer) -> None:
    on_server.open(create=True).close()
    reader = on_server.open(readonly=True)
    with pytest.raises(StorageError, match="read-only"):
        reader.append(0, [b"a"], "one")
    reader.close()


def test_runs_in_one_database_do_not_see_each_other(on_server: OnServer) -> None:
    other = OnServer(on_server.server, on_server.database, OTHER)
    one, two = on_server.open(create=True), other.open(create=True)
    one.append(0, [b"a", b"b"], "one")
    two.append(0, [b"c"], "two")
    one.append(2, [b"d"], "three")
    assert [body for _, _, body in one.entries()] == [b"a", b"b", b"d"]
    assert [body for _, _, body in two.entries()] == [b"c"]
    assert one.heads() == [(2, "one"), (3, "three")] and two.heads() == [(1, "two")]
    one.close()
    two.close()


def test_one_run_is_not_in_a_database_twice(on_server: OnServer) -> None:
    one, two = on_server.open(create=True), OnServer(on_server.server, on_server.database, OTHER).open(create=True)
    one.append(0, [b"the beginning"], "one")
    with pytest.raises(StorageError, match="podlt_one_log_a_run"):
        two.append(0, [b"the beginning"], "one")
    with pytest.raises(StorageError, match="podlt_one_log_a_run"):
        two.fill([(0, leaf_hash(b"the beginning"), b"the beginning")], [(1, "one")])
    assert list(two.entries()) == [] and two.heads() == []
    one.close()
    two.close()


def test_two_managers_may_begin_in_a_new_database_at_once(on_server: OnServer) -> None:
    code = (
        "import sys; from podlt.store.log_store import LogStore\n"
        "store = LogStore(sys.argv[1], create=True); store.append(0, [sys.argv[2].encode()], 'head'); store.close()\n"
    )
    places = [OnServer(on_server.server, on_server.database, digit * 32) for digit in "12"]
    children = [subprocess.Popen([sys.executable, "-c", code, place.url, place.url]) for place in places]
    assert [child.wait() for child in children] == [0, 0]
    for place in places:
        store = place.open(readonly=True)
        assert [body for _, _, body in store.entries()] == [place.url.encode()]
        store.close()


def test_a_run_that_is_not_in_the_database_is_missed(on_server: OnServer) -> None:
    on_server.open(create=True).close()
    with pytest.raises(StorageError, match="no log of this run"):
        OnServer(on_server.server, on_server.database, OTHER).open()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run, its log in a file."""
    run = tmp_path_factory.mktemp("simulated")
    simulate(6, {"always": 1}, rounds=5, seed=1, whole=True, directory=run)
    return run


@pytest.mark.parametrize(
    ("statement", "claim"),
    [
        ("UPDATE entries SET body = (SELECT body FROM entries e WHERE e.number = 6) WHERE number = 5", Claim.TREE),
        ("UPDATE entries SET leaf = (SELECT leaf FROM entries e WHERE e.number = 6) WHERE number = 5", Claim.TREE),
        ("DELETE FROM entries WHERE number = 5", Claim.FORM),
        ("UPDATE entries SET number = 1000000 WHERE number = 5", Claim.FORM),
        ("UPDATE heads SET note = replace(note, 'podlt.run', 'podlt.ran')", Claim.HEADS),
        ("DELETE FROM heads WHERE size = (SELECT max(size) FROM heads h)", Claim.HEADS),
        ("DELETE FROM heads", Claim.HEADS),
    ],
)
def test_a_tampered_row_is_found_where_it_would_be_found_in_a_file(
    simulated: Path, on_server: OnServer, tmp_path: Path, statement: str, claim: Claim
) -> None:
    shutil.copytree(simulated, tmp_path / "file")
    in_file = InFile(tmp_path / "file" / "log.db")
    run = tmp_path / "server"
    shutil.copytree(simulated, run, ignore=shutil.ignore_patterns("log.db*"))
    source, target = in_file.open(readonly=True), on_server.open(create=True)
    target.fill(source.entries(), source.heads())
    source.close()
    target.close()
    (run / "run.json").write_bytes(to_json({"settings": {"store": on_server.url}}))
    assert verify(run, jobs=1).ok
    failures = []
    for place, directory in ((in_file, tmp_path / "file"), (on_server, run)):
        place.execute(statement)
        failure = verify(directory, jobs=1).failure
        assert failure is not None and failure.step == claim
        failures.append((failure.entry, str(failure)))
    assert failures[0] == failures[1]


def guarded(server: Server, database: str) -> str:
    """The address of a database for a user with a password."""
    server.execute(
        database,
        f"DROP ROLE IF EXISTS guarded; CREATE ROLE guarded LOGIN SUPERUSER PASSWORD '{PASSWORD}'",
    )
    return server.url(database, "guarded")


def test_a_password_reaches_the_server_and_nothing_else(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = guarded(server, server.new_database())
    quoted = PASSWORD.replace("/", "%2F").replace(":", "%3A")
    kept = address.for_new_run(plain.replace("guarded@", f"guarded:{quoted}@"))
    assert PASSWORD not in kept and quoted not in kept and kept.startswith("postgresql://guarded@/")
    store = LogStore(kept, create=True)  # this process was given it
    store.append(0, [b"a"], "one")
    with pytest.raises(StorageError) as caught:
        store.append(0, [b"a"], "one")
    store.close()
    monkeypatch.setattr(address, "_passwords", {})
    with pytest.raises(StorageError) as refused:
        LogStore(kept)
    with pytest.raises(StorageError) as mistaken:
        LogStore(kept.replace("guarded@", "guarded:wr0ng@"))
    said = f"{caught.value} {refused.value} {mistaken.value} {store.name}"
    assert PASSWORD not in said and quoted not in said and "wr0ng" not in said
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    LogStore(kept, readonly=True).close()
    monkeypatch.delenv("PGPASSWORD")
    passfile = tmp_path / "pass"
    passfile.write_text(f"*:*:*:guarded:{PASSWORD.replace(':', chr(92) + ':')}\n")
    passfile.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    LogStore(kept, readonly=True).close()


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"connection .* failed"):
        LogStore(f"postgresql://me@/runs?host={tmp_path}&podlt_run={OTHER}", create=True)


def test_a_server_that_does_not_answer_is_waited_for_some_seconds() -> None:
    """Without the timeout that every connection is given this never ends."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(StorageError, match="timeout"):
        port = silent.getsockname()[1]
        LogStore(f"postgresql://me@127.0.0.1:{port}/runs?podlt_run={OTHER}&connect_timeout=2", create=True)
    assert 2 <= int(connection._ALIVE["connect_timeout"]) <= 30


def test_without_its_driver_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[postgres\]'"):
        LogStore(f"postgresql://me@localhost/runs?podlt_run={OTHER}")
