"""`verify` on a run's directory: what it reports of sound runs, of damaged ones, and against what somebody kept."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from podlt import signature_pool
from podlt.canonical import encode
from podlt.crypto import SigningKey, digest
from podlt.errors import StorageError
from podlt.log.checkpoint import Head, origin_of, sign_head
from podlt.log.merkle import Tree, leaf_hash
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.signature_pool import check_signatures
from podlt.sim import simulate
from podlt.sim.world import MemoryLog
from podlt.store.log_store import LogStore
from podlt.verify import Verification, verify, verify_log

Edit = Callable[[sqlite3.Connection], object]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    simulate(8, {"always": 1, "crashing:0.2": 1}, rounds=12, seed=1, whole=True, directory=directory)
    return directory


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def entries_of(directory: Path) -> list[e.AnyEntry]:
    log = LogStore.at(directory / "log.db", readonly=True)
    found = [e.decode(body) for _, _, body in log.entries()]
    log.close()
    return found


def edited(directory: Path, edit: Edit) -> Verification:
    with sqlite3.connect(directory / "log.db") as database:
        edit(database)
    database.close()
    return verify(directory, jobs=1)


def failure_of(result: Verification) -> tuple[int | None, int]:
    assert not result.ok and result.failure is not None
    assert [r.step for r in result.steps if r.passed is False] == [result.failure.step]
    assert not any(report.passed for report in result.steps)
    return result.failure.entry, result.failure.step


def test_a_sound_run_passes_every_step_and_says_what_was_seen(run: Path) -> None:
    result = verify(run, jobs=1)
    entries = entries_of(run)
    assert result.ok and result.finished and result.failure is None
    assert [(report.step, report.passed) for report in result.steps] == [(step, True) for step in Step]
    figures = {report.step: report.figure for report in result.steps}
    commitments = sum(len(x.commitments) for x in entries if isinstance(x, e.Commit))
    joins = sum(isinstance(x, e.Join) for x in entries)
    assert figures[Claim.FORM] == f"{len(entries)} entries"
    assert figures[Claim.SIGNATURES] == f"{commitments + joins} signatures"
    assert figures[Claim.OUTCOME] == "complete"
    assert result.head is not None and result.head.size == len(entries)


def test_one_process_and_many_come_to_the_same(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature_pool, "CHUNK", 20)
    assert verify(copy, jobs=2).ok
    bad = forged(entries_of(copy), {2, 9})
    for jobs in (1, 2):
        failure = verify_log(*bad, jobs=jobs).failure
        assert failure is not None and failure.step == Claim.SIGNATURES
        assert failure.entry == commits(bad[0])[2]


def commits(log: MemoryLog) -> list[int]:
    return [number for number, _, body in log.entries() if isinstance(e.decode(body), e.Commit)]


def forged(entries: list[e.AnyEntry], spoil: set[int]) -> tuple[MemoryLog, bytes, bytes]:
    """A run whose manager invents a signature in some of its commit entries, and signs the log."""
    log = MemoryLog()
    log.rows = [(i, leaf_hash(body), body) for i, body in enumerate(map(encode, entries))]
    seen = -1
    for i, entry in enumerate(entries):
        if isinstance(entry, e.Commit):
            seen += 1
            if seen in spoil:
                c = entry.commitments[0]
                wrong = e.Commitment(c.origin, c.holder, c.commitment, bytes(64))
                body = encode(e.Commit(at=entry.at, round=entry.round, commitments=[wrong, *entry.commitments[1:]]))
                log.rows[i] = i, leaf_hash(body), body
    return resigned(log)


def resigned(log: MemoryLog) -> tuple[MemoryLog, bytes, bytes]:
    """Heads by the simulated manager, whose key follows from the seed."""
    seed = digest("simulation/1", (1).to_bytes(16, "big", signed=True), bytes(8))
    key = SigningKey(digest("sim-manager/1", seed))
    begin = e.decode(log.rows[0][2])
    assert isinstance(begin, e.Begin) and begin.manager == key.public
    tree = Tree()
    for _, leaf, _ in log.rows:
        tree.append(leaf)
    log.notes = [(tree.size, sign_head(Head(origin_of(e.identity(begin)), tree.size, tree.root()), key))]
    return log, RECIPE[0], RECIPE[1]


RECIPE: list[bytes] = []


@pytest.fixture(autouse=True, scope="module")
def documents(run: Path) -> None:
    RECIPE[:] = [(run / "recipe.json").read_bytes(), (run / "program.json").read_bytes()]


def test_a_run_that_goes_on_is_sound_so_far(copy: Path) -> None:
    def cut(database: sqlite3.Connection) -> None:
        size = database.execute("SELECT size FROM heads ORDER BY size LIMIT 1 OFFSET 6").fetchone()[0]
        database.execute("DELETE FROM entries WHERE number >= ?", (size,))
        database.execute("DELETE FROM heads WHERE size > ?", (size,))

    result = edited(copy, cut)
    assert result.ok and not result.finished
    assert result.steps[-1].figure == "the run goes on"


def test_progress_is_told_up_to_the_end(run: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = verify(run, jobs=1, progress=lambda done, all: seen.append((done, all)))
    assert result.head is not None and seen[-1] == (result.head.size, result.head.size)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        ("DELETE FROM entries WHERE number = 11", (11, Claim.FORM)),
        ("DELETE FROM entries WHERE number = 0", (0, Claim.FORM)),
        ("UPDATE entries SET leaf = zeroblob(32) WHERE number = 11", (11, Claim.TREE)),
        ("UPDATE entries SET body = x'00' WHERE number = 11", (11, Claim.TREE)),
        ("UPDATE entries SET body = 5 WHERE number = 11", (None, Claim.FORM)),
        ("DELETE FROM heads", (None, Claim.HEADS)),
        ("DELETE FROM heads WHERE size = (SELECT max(size) FROM heads)", (None, Claim.HEADS)),
        ("UPDATE heads SET note = replace(note, 'podlt', 'other')", (None, Claim.HEADS)),
        ("UPDATE heads SET size = size + 1 WHERE size = (SELECT max(size) FROM heads)", (None, Claim.FORM)),
        ("INSERT INTO heads SELECT size + 10000, note FROM heads LIMIT 1", (None, Claim.FORM)),
    ],
)
def test_a_change_in_the_database_is_reported_at_its_step(copy: Path, sql: str, place: tuple[int | None, int]) -> None:
    result = edited(copy, lambda database: database.execute(sql))
    entry, step = failure_of(result)
    assert step == place[1]
    if place[0] is not None:
        assert entry == place[0]


def test_an_entry_added_after_the_last_head_is_reported(copy: Path) -> None:
    entries = entries_of(copy)
    body = encode(e.Withdraw(at=entries[-1].at, worker=1, reason=""))
    row = (len(entries), leaf_hash(body), body)
    result = edited(copy, lambda database: database.execute("INSERT INTO entries VALUES (?, ?, ?)", row))
    assert failure_of(result) == (len(entries), Claim.HEADS)


@pytest.mark.parametrize("name", ["recipe.json", "program.json"])
def test_another_or_a_missing_document_is_reported(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    assert failure_of(verify(copy, jobs=1)) == (0, Claim.DOCUMENTS)
    (copy / name).unlink()
    assert failure_of(verify(copy, jobs=1)) == (0, Claim.DOCUMENTS)


def test_another_manager_than_the_expected_one_is_reported(run: Path) -> None:
    begin = entries_of(run)[0]
    assert isinstance(begin, e.Begin)
    assert verify(run, jobs=1, manager_key=begin.manager).ok
    assert failure_of(verify(run, jobs=1, manager_key=bytes(32))) == (0, Claim.HEADS)


def heads_of(directory: Path) -> list[tuple[int, str]]:
    log = LogStore.at(directory / "log.db", readonly=True)
    found = log.heads()
    log.close()
    return found


def test_a_log_must_contain_the_head_that_somebody_kept(copy: Path) -> None:
    heads = heads_of(copy)
    for _, note in heads:
        assert verify(copy, jobs=1, trusted_head=note).ok

    def cut(database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM entries WHERE number >= ?", (heads[-2][0],))
        database.execute("DELETE FROM heads WHERE size > ?", (heads[-2][0],))

    assert edited(copy, cut).ok
    assert failure_of(verify(copy, jobs=1, trusted_head=heads[-1][1])) == (None, Claim.TREE)
    assert failure_of(verify(copy, jobs=1, trusted_head=heads[0][1].replace("podlt", "other"))) == (None, Claim.HEADS)


def test_a_forked_log_does_not_contain_the_head_that_somebody_kept(run: Path) -> None:
    log = MemoryLog()
    log.rows = [(i, leaf_hash(body), body) for i, body in enumerate(map(encode, entries_of(run)))]
    last = log.rows[-1][0]
    body = encode(e.Close(at=entries_of(run)[-1].at, outcome="complete", reason="another end"))
    log.rows[last] = last, leaf_hash(body), body
    forked = resigned(log)
    assert verify_log(*forked, jobs=1).ok
    failure = verify_log(*forked, jobs=1, trusted_head=heads_of(run)[-1][1]).failure
    assert failure is not None and failure.step == Claim.TREE


def test_no_log_is_an_error_and_a_file_that_is_none_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        verify(tmp_path)
    (tmp_path / "log.db").write_bytes(b"nothing of the kind" * 300)
    assert failure_of(verify(tmp_path, jobs=1)) == (None, Claim.FORM)


def test_verifying_changes_nothing_in_the_run(copy: Path) -> None:
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    assert verify(copy, jobs=1).ok
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_the_first_signature_that_does_not_hold_is_named() -> None:
    key = SigningKey(digest("signs/1"))
    good = [(key.public, "d/1", bytes([i]), key.sign("d/1", bytes([i]))) for i in range(4)]
    assert check_signatures(good) == -1
    assert check_signatures([*good, (key.public, "e/1", b"\x00", good[0][3]), good[0]]) == 4


def test_what_the_manager_writes_meanwhile_is_verified_too(run: Path) -> None:
    class Growing(MemoryLog):
        calls = 0

        def heads(self) -> list[tuple[int, str]]:
            self.calls += 1
            return heads_of(run)[: 3 * self.calls]

    log = Growing()
    log.rows = [(i, leaf_hash(body), body) for i, body in enumerate(map(encode, entries_of(run)))]
    result = verify_log(log, *RECIPE, jobs=1)
    assert result.ok and log.calls > 3 and result.head is not None and result.head.size == len(log.rows)


def test_a_log_that_begins_with_something_else_is_no_run(run: Path) -> None:
    log = MemoryLog()
    log.rows = [(0, leaf_hash(body), body) for body in map(encode, entries_of(run)[1:2])]
    log.notes = heads_of(run)[:1]
    failure = verify_log(log, *RECIPE, jobs=1).failure
    assert failure is not None and (failure.entry, failure.step) == (0, Claim.PROGRESS)
