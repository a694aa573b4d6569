"""`verify` on a run: what it says of sound ones, of damaged ones, of what is missing, and of what somebody kept."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from podlt import signature_pool
from podlt.canonical import encode
from podlt.crypto import SigningKey, digest
from podlt.errors import StorageError, UsageError
from podlt.log.merkle import Tree, leaf_hash
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Finding, Outcome, exit_code
from podlt.signature_pool import check_signatures
from podlt.sim import simulate
from podlt.sim.world import MemoryLog
from podlt.store.log_store import LogStore
from podlt.verify import Verification, verify, verify_log
from podlt.verify.documents import Documents

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
    """Entry and claim of the failure; nothing may hold beside it that the whole log must show."""
    assert not result.ok and result.exit_code == 1 and result.failure is not None
    assert [f.claim for f in result.findings if f.outcome is Outcome.FAILS] == [result.failure.step]
    early = {Claim.DOCUMENTS, Claim.TERMS} if result.failure.step not in (Claim.DOCUMENTS, Claim.TERMS) else set(Claim)
    assert {f.claim for f in result.findings if f.outcome is Outcome.HOLDS} <= early
    return result.failure.entry, result.failure.step


def outcomes(result: Verification, *claims: Claim) -> list[str]:
    return [result.finding(claim).outcome.value for claim in claims]


UNASKED = {Claim.MANAGER, Claim.CONTINUITY, Claim.MODEL, Claim.WITNESSES, *(c for c in Claim if c.command == "audit")}


def test_of_a_sound_run_every_claim_holds_that_its_log_can_show(run: Path) -> None:
    result = verify(run, jobs=1)
    entries = entries_of(run)
    assert result.ok and result.exit_code == 0 and result.failure is None
    assert [finding.claim for finding in result.findings] == list(Claim)
    for finding in result.findings:
        assert finding.outcome is (Outcome.NOT_CHECKED if finding.claim in UNASKED else Outcome.HOLDS)
        assert finding.asked == (finding.claim not in UNASKED)
        assert finding.figure if finding.outcome is Outcome.HOLDS else finding.why
    figures = {finding.claim: finding.figure for finding in result.findings}
    commitments = sum(len(x.commitments) for x in entries if isinstance(x, e.Commit))
    joins = sum(isinstance(x, e.Join) for x in entries)
    assert figures[Claim.FORM] == f"{len(entries)} entries"
    assert figures[Claim.SIGNATURES] == f"{commitments + 2 * joins} signatures"
    assert figures[Claim.OUTCOME] == "complete"
    assert result.head == heads_of(run)[-1][1] and heads_of(run)[-1][0] == len(entries)


def test_one_process_and_many_come_to_the_same(
    copy: Path, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signature_pool, "CHUNK", 20)
    assert verify(copy, jobs=2).ok
    bad = forged(copy, {2, 9})
    for jobs in (1, 2):
        failure = verify_log(bad, documents, jobs=jobs).failure
        assert failure is not None and failure.step == Claim.SIGNATURES
        assert failure.entry == commits(bad)[2]


def commits(log: MemoryLog) -> list[int]:
    return [number for number, _, body in log.entries() if isinstance(e.decode(body), e.Commit)]


def forged(run: Path, spoil: set[int]) -> MemoryLog:
    """A run whose manager invents a signature in some of its commit entries, and signs the log."""
    log, entries = MemoryLog(), entries_of(run)
    log.rows = [(i, leaf_hash(body), body) for i, body in enumerate(map(encode, entries))]
    seen = -1
    for i, entry in enumerate(entries):
        if isinstance(entry, e.Commit):
            seen += 1
            if seen in spoil:
                c = entry.commitments[0]
                wrong = e.Commitment(c.seat, c.holder, c.commitment, bytes(64))
                body = encode(e.Commit(at=entry.at, round=entry.round, commitments=[wrong, *entry.commitments[1:]]))
                log.rows[i] = i, leaf_hash(body), body
    return resigned(log, run)


def resigned(log: MemoryLog, run: Path) -> MemoryLog:
    """Heads by the simulated manager, whose key follows from the seed, where the run had them."""
    sizes = {size for size, _ in heads_of(run)}
    seed = digest("simulation/1", (1).to_bytes(16, "big", signed=True), bytes(8))
    key = SigningKey(digest("sim-manager/1", seed))
    begin = e.decode(log.rows[0][2])
    assert isinstance(begin, e.Begin) and begin.manager == key.public
    tree, log.notes = Tree(), []
    for number, leaf, _ in log.rows:
        tree.append(leaf)
        if number + 1 in sizes:
            log.notes.append((tree.size, sign_head(Head(origin_of(e.identity(begin)), tree.size, tree.root()), key)))
    return log


@pytest.fixture(scope="module")
def documents(run: Path) -> Documents:
    return Documents((run / "recipe.json").read_bytes(), (run / "program.json").read_bytes())


def test_a_run_that_goes_on_is_sound_so_far(copy: Path) -> None:
    def cut(database: sqlite3.Connection) -> None:
        size = database.execute("SELECT size FROM heads ORDER BY size LIMIT 1 OFFSET 6").fetchone()[0]
        database.execute("DELETE FROM entries WHERE number >= ?", (size,))
        database.execute("DELETE FROM heads WHERE size > ?", (size,))

    result = edited(copy, cut)
    assert result.ok and result.state.closed is None
    assert result.finding(Claim.OUTCOME).figure == "the run goes on"


def test_progress_is_told_up_to_the_end(run: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = verify(run, jobs=1, progress=lambda done, all: seen.append((done, all)))
    assert seen[-1] == (result.state.index, result.state.index)
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
        ("UPDATE heads SET note = x'05' WHERE size = (SELECT max(size) FROM heads)", (None, Claim.FORM)),
        ("UPDATE heads SET size = 'x' WHERE size = (SELECT max(size) FROM heads)", (None, Claim.FORM)),
        ("UPDATE heads SET note = hex(zeroblob(5000)) WHERE size = (SELECT max(size) FROM heads)", (None, Claim.FORM)),
        ("INSERT INTO entries SELECT max(number) + 1, 5, 5 FROM entries", (None, Claim.FORM)),
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
def test_another_document_fails_and_a_missing_one_was_not_checked(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).unlink()
    result = verify(copy, jobs=1)
    assert result.exit_code == 4 and result.failure is None
    assert outcomes(result, Claim.DOCUMENTS, Claim.TERMS, Claim.PAYMENTS) == ["not checked", "not checked", "holds"]
    assert name in result.finding(Claim.DOCUMENTS).why and result.finding(Claim.DOCUMENTS).remedy
    (copy / name).write_bytes(whole + b" ")
    result = verify(copy, jobs=1)
    assert result.exit_code == 1 and result.failure is not None
    assert (result.failure.entry, result.failure.step) == (0, Claim.DOCUMENTS)
    assert outcomes(result, Claim.DOCUMENTS, Claim.TERMS, Claim.PAYMENTS) == ["fails", "not checked", "holds"]


def test_the_recipe_of_another_run_fails(copy: Path, tmp_path: Path) -> None:
    simulate(7, rounds=12, seed=1, whole=True, directory=tmp_path / "other")
    shutil.copy(tmp_path / "other" / "recipe.json", copy)
    result = verify(copy, jobs=1)
    assert result.exit_code == 1
    assert outcomes(result, Claim.DOCUMENTS, Claim.TERMS) == ["fails", "not checked"]
    (copy / "recipe.json").unlink()
    shutil.copy(tmp_path / "other" / "program.json", copy)
    assert verify(copy, jobs=1).exit_code == 4  # all simulated runs have this program


def test_of_a_bare_log_what_needs_documents_was_not_checked(copy: Path) -> None:
    result = verify(copy / "log.db", jobs=1)
    assert result.exit_code == 4 and result.failure is None
    unchecked = {f.claim for f in result.findings if f.asked and f.outcome is Outcome.NOT_CHECKED}
    assert unchecked == {Claim.DOCUMENTS, Claim.TERMS, Claim.MODEL}


def test_another_manager_than_the_expected_one_fails(run: Path) -> None:
    begin = entries_of(run)[0]
    assert isinstance(begin, e.Begin)
    right = verify(run, jobs=1, manager_key=begin.manager)
    assert right.ok and outcomes(right, Claim.MANAGER) == ["holds"] and right.finding(Claim.MANAGER).asked
    assert failure_of(verify(run, jobs=1, manager_key=bytes(32))) == (0, Claim.MANAGER)


def test_what_fails_early_leaves_the_manager_unchecked(copy: Path) -> None:
    begin = entries_of(copy)[0]
    assert isinstance(begin, e.Begin)
    with sqlite3.connect(copy / "log.db") as database:
        database.execute("UPDATE entries SET body = x'00', leaf = zeroblob(32) WHERE number = 0")
    database.close()
    result = verify(copy, jobs=1, manager_key=begin.manager, trusted_head=heads_of(copy)[0][1])
    assert failure_of(result) == (0, Claim.TREE)
    assert outcomes(result, Claim.MANAGER, Claim.CONTINUITY) == ["not checked", "not checked"]


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
    assert failure_of(verify(copy, jobs=1, trusted_head=heads[-1][1])) == (None, Claim.CONTINUITY)


def test_a_damaged_head_is_an_error_of_whoever_gives_it(run: Path) -> None:
    note = heads_of(run)[3][1]
    begin, key = entries_of(run)[0], SigningKey(digest("somebody else"))
    assert isinstance(begin, e.Begin)
    forged = sign_head(Head(origin_of(e.identity(begin)), 5, bytes(32)), key)
    spoilt = [note[:place] + chr(ord(note[place]) ^ 1) + note[place + 1 :] for place in range(0, len(note), 9)]
    for damaged in (
        *spoilt,
        "",
        "nothing",
        note[:-9],
        note.replace("\n", "\r\n"),
        note[:-3] + "A=\n",
        note + "x",
        forged,
    ):
        with pytest.raises(UsageError, match="not a signed tree head of this run") as caught:
            verify(run, jobs=1, trusted_head=damaged)
        assert caught.value.exit_code == 2


def test_the_head_of_another_run_fails(run: Path, tmp_path: Path) -> None:
    simulate(8, rounds=5, seed=2, whole=True, directory=tmp_path)
    other = heads_of(tmp_path)[-1][1]
    result = verify(run, jobs=1, trusted_head=other)
    assert failure_of(result) == (None, Claim.CONTINUITY)
    assert "another run's" in result.finding(Claim.CONTINUITY).why
    assert result.finding(Claim.CONTINUITY).figure == "", "a figure beside FAILS said that it holds"


def test_a_forked_log_does_not_contain_the_head_that_somebody_kept(run: Path, documents: Documents) -> None:
    log = MemoryLog()
    log.rows = [(i, leaf_hash(body), body) for i, body in enumerate(map(encode, entries_of(run)))]
    last = log.rows[-1][0]
    body = encode(e.Close(at=entries_of(run)[-1].at, outcome="complete", reason="another end"))
    log.rows[last] = last, leaf_hash(body), body
    forked = resigned(log, run)
    alone = verify_log(forked, documents, jobs=1)
    assert alone.failure is None and outcomes(alone, Claim.CONTINUITY, Claim.OUTCOME) == ["not checked", "holds"]
    assert not alone.finding(Claim.CONTINUITY).asked
    failure = verify_log(forked, documents, jobs=1, trusted_head=heads_of(run)[-1][1]).failure
    assert failure is not None and failure.step == Claim.CONTINUITY


def test_no_run_is_an_error_and_a_file_that_is_none_fails(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        verify(tmp_path / "nowhere")
    with pytest.raises(UsageError):
        verify(tmp_path)
    (tmp_path / "recipe.json").write_bytes(b"{}")
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


def test_what_the_manager_writes_meanwhile_is_verified_too(run: Path, documents: Documents) -> None:
    class Growing(MemoryLog):
        calls = 0

        def heads(self, above: int = 0) -> list[tuple[int, str]]:
            self.calls += 1
            return [head for head in heads_of(run)[: 3 * self.calls] if head[0] > above]

    log = Growing()
    log.rows = [(i, leaf_hash(body), body) for i, body in enumerate(map(encode, entries_of(run)))]
    result = verify_log(log, documents, jobs=1)
    assert result.failure is None and log.calls > 3 and result.state.index == len(log.rows)


def test_a_log_that_begins_with_something_else_is_no_run(run: Path, documents: Documents) -> None:
    log = MemoryLog()
    log.rows = [(0, leaf_hash(body), body) for body in map(encode, entries_of(run)[1:2])]
    log.notes = heads_of(run)[:1]
    failure = verify_log(log, documents, jobs=1).failure
    assert failure is not None and (failure.entry, failure.step) == (0, Claim.PROGRESS)


# -- three outcomes, and the model -------------------------------------------------------------------------------------


def test_nothing_but_a_failure_ends_with_1_and_nothing_unchecked_with_0() -> None:
    def code(*found: tuple[Outcome, bool]) -> int:
        return exit_code([Finding(Claim.FORM, outcome, asked=asked) for outcome, asked in found])

    holds, fails, unchecked = Outcome.HOLDS, Outcome.FAILS, Outcome.NOT_CHECKED
    assert code((holds, True), (unchecked, False)) == 0
    assert code((holds, True), (unchecked, True)) == 4
    assert code((unchecked, True), (fails, True), (holds, True)) == 1
    assert code((holds, True), (fails, False)) == 1  # what fails is said, asked for or not
    assert code() == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real run: only such a one has a model."""
    from near_hosts import train_near
    from small_runs import seeded, tiny_recipe

    path = tmp_path_factory.mktemp("trained") / "run"
    train_near(path, tiny_recipe(), entropy=seeded(3))
    return path


def test_the_model_of_a_trained_run_holds_fails_or_was_not_checked(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    model = run / "model.safetensors"
    assert verify(run, jobs=1).exit_code == 0
    assert outcomes(verify(run, jobs=1), Claim.MODEL, Claim.TERMS) == ["holds", "holds"]
    whole = model.read_bytes()
    for spoilt in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1], whole + b"\0", b"", b"\xff" * 100):
        model.write_bytes(spoilt)
        result = verify(run, jobs=1)
        assert result.exit_code == 1 and result.failure is not None and result.failure.step == Claim.MODEL
        assert outcomes(result, Claim.MODEL, Claim.OUTCOME) == ["fails", "holds"]
    model.unlink()
    result = verify(run, jobs=1)
    assert result.exit_code == 4 and outcomes(result, Claim.MODEL) == ["not checked"]
    assert "not here" in result.finding(Claim.MODEL).why


def test_a_model_whose_layout_is_unknown_or_whose_log_fails_was_not_checked(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    program = (run / "program.json").read_bytes()
    (run / "program.json").unlink()
    assert outcomes(verify(run, jobs=1), Claim.MODEL, Claim.DOCUMENTS) == ["not checked", "not checked"]
    (run / "program.json").write_bytes(program + b" ")
    result = verify(run, jobs=1)
    assert outcomes(result, Claim.MODEL, Claim.DOCUMENTS) == ["not checked", "fails"] and result.exit_code == 1
    (run / "program.json").write_bytes(program)
    result = edited(run, lambda database: database.execute("UPDATE entries SET body = x'00' WHERE number = 9"))
    assert outcomes(result, Claim.MODEL, Claim.TREE) == ["not checked", "fails"]


def test_a_run_that_is_not_finished_is_not_asked_for_its_model(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    size = heads_of(run)[2][0]
    (run / "model.safetensors").unlink()

    def cut(database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM entries WHERE number >= ?", (size,))
        database.execute("DELETE FROM heads WHERE size > ?", (size,))

    result = edited(run, cut)
    assert result.exit_code == 0 and outcomes(result, Claim.MODEL) == ["not checked"]
    assert "not finished" in result.finding(Claim.MODEL).why


def test_a_log_that_is_empty_has_nothing_to_verify_unless_somebody_has_seen_more(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    seen = heads_of(run)[-1][1]
    with sqlite3.connect(run / "log.db") as database:
        database.execute("DELETE FROM entries")
        database.execute("DELETE FROM heads")
    database.close()
    with pytest.raises(UsageError, match="the log is empty: nothing was trained yet"):
        verify(run, jobs=1)
    result = verify(run, jobs=1, trusted_head=seen)
    assert result.exit_code == 1 and outcomes(result, Claim.HEADS) == ["fails"]
