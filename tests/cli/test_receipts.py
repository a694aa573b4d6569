"""`podlt receipts` and `podlt worker status`: what a worker's owner can hold against a manager."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from urllib.error import URLError

import msgspec
import pytest
from cli_calls import Podlt

from podlt.canonical import encode
from podlt.crypto import SigningKey, digest
from podlt.errors import UsageError
from podlt.log.merkle import Tree, leaf_hash
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.network import download
from podlt.protocol import entries as e
from podlt.protocol.receipt import Bound, sign_receipts
from podlt.receipts.commitments import keep
from podlt.receipts.history import ReceiptHistory
from podlt.recipe import ProtocolSpec
from podlt.report.fold import open_log
from podlt.report.history import read_history
from podlt.sim import simulate
from podlt.store.bundle import write_bundle
from podlt.store.log_store import LogStore
from podlt.worker.folder import open_books


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    rules, path = ProtocolSpec(checked=0.9, first_fault="evict"), tmp_path / "theirs"
    simulate(5, {"always": 1}, 8, seed=2, whole=True, deposit=25, protocol=rules, directory=path)
    return path


@pytest.fixture
def folder(theirs: Path, tmp_path: Path) -> Path:
    """The folder of worker 1, which was told of everything."""
    history = read_history(theirs)
    key = history.state.workers[1].key
    (tmp_path / "folder").mkdir()
    books, past = open_books(tmp_path / "folder", [key], history.begin.manager), ReceiptHistory.of_run(theirs)
    books.begin(history.state.run)
    books.admitted(key, 1)
    missed = past.missed(1, 0)
    assert missed is not None and missed.upto == history.entries
    books.missed(key, missed)
    books.save("waiting", True, 1.0)
    past.close()
    return tmp_path / "folder"


def manager_key() -> SigningKey:
    with_seed = digest("simulation/1", (2).to_bytes(16, "big", signed=True), (0).to_bytes(8, "big"))
    return SigningKey(digest("sim-manager/1", with_seed))


def rewritten(theirs: Path, target: Path, upto: int | None = None) -> Path:
    """The same run as its manager might publish it: with a time changed, or (`upto`) cut at a head."""
    shutil.copytree(theirs, target)
    (target / "log.db").unlink()
    key, tree = manager_key(), Tree()
    log = open_log(theirs)
    bodies, heads = [body for _, _, body in log.entries()], log.heads()
    log.close()
    run = e.identity(e.decode(bodies[0]))  # type: ignore[arg-type]
    new = LogStore.at(target / "log.db", create=True)
    for size, note in heads[:upto]:
        batch = bodies[tree.size : size]
        if upto is None and tree.size == 0:
            last = e.decode(batch[-1])
            batch[-1] = encode(msgspec.structs.replace(last, at=last.at + 1))
        first = tree.size
        for body in batch:
            tree.append(leaf_hash(body))
        head = sign_head(Head(origin_of(run), tree.size, tree.root()), key) if upto is None else note
        new.append(first, batch, head)
    new.close()
    return target


def test_the_log_that_a_worker_was_told_of_has_all_of_its_receipts(podlt: Podlt, theirs: Path, folder: Path) -> None:
    outcome = podlt("receipts", theirs, "--folder", folder)
    assert outcome.code == 0 and "are in this log" in outcome.out
    document = json.loads(podlt("receipts", theirs, "--folder", folder, "--json").out)
    assert document["receipts"] >= 3 and document["contradictions"] == [] and document["beyond"] == 0


def test_it_says_what_the_log_has_for_its_worker(podlt: Podlt, theirs: Path, folder: Path, tmp_path: Path) -> None:
    account = read_history(theirs).state.ledger.accounts[1]
    outcome = podlt("receipts", theirs, "--folder", folder, "--evidence", tmp_path / "evidence.json")
    assert "worker 1 (" in outcome.out and f"by this log: {account.vested:,} vested, 0 pending" in outcome.out
    assert "not written" in outcome.out and not (tmp_path / "evidence.json").exists()
    (found,) = json.loads(podlt("receipts", theirs, "--folder", folder, "--json").out)["accounts"]
    assert (found["worker"], found["vested"]) == (1, account.vested)


def test_another_log_convicts_its_manager_and_the_evidence_can_be_kept(
    podlt: Podlt, theirs: Path, folder: Path, tmp_path: Path
) -> None:
    forked = rewritten(theirs, tmp_path / "forked")
    outcome = podlt("receipts", forked, "--folder", folder, "--evidence", tmp_path / "evidence.json")
    assert outcome.code == 1 and "signed another log" in outcome.err
    document = json.loads((tmp_path / "evidence.json").read_text())
    kept = document["contradictions"][0]
    assert kept["note"] != document["published_head"] and kept["expected"] != kept["published"]
    assert podlt("verify", forked, "--jobs", 1).code == 0  # each log alone is sound: only the receipts tell


def test_an_older_copy_decides_nothing(podlt: Podlt, theirs: Path, folder: Path, tmp_path: Path) -> None:
    outcome = podlt("receipts", rewritten(theirs, tmp_path / "older", 4), "--folder", folder)
    assert outcome.code == 4 and "older copy" in outcome.err


def test_without_receipts_or_a_log_there_is_nothing_to_compare(podlt: Podlt, theirs: Path, tmp_path: Path) -> None:
    assert podlt("receipts", theirs, "--folder", tmp_path).code == 3
    assert podlt("receipts", tmp_path / "nowhere", "--folder", tmp_path).code == 2


def test_the_status_is_what_the_ledger_says_the_deposit_too(podlt: Podlt, theirs: Path, folder: Path) -> None:
    account = read_history(theirs).state.ledger.accounts[1]
    out = podlt("worker", "status", "--folder", folder).out
    assert f"{account.vested:,} credits vested" in out and "deposit 0 held, 25 returned, 0 seized" in out
    (worker,) = json.loads(podlt("worker", "status", "--folder", folder, "--json").out)["workers"].values()
    rows = json.loads(podlt("ledger", theirs, "--json").out)["workers"]
    for name in ("pending", "vested", "forfeited", "deposit", "returned", "seized"):
        assert worker[name] == rows[1][name]


def test_whoever_looks_at_a_run_sees_its_deposits(podlt: Podlt, theirs: Path, tmp_path: Path) -> None:
    state = read_history(theirs).state
    evicted = next(number for number, worker in state.workers.items() if worker.status == "evicted")
    out = podlt("ledger", theirs).out
    assert all(name in out for name in ("deposit", "returned", "seized")) and "sum 0" in out
    honest = podlt("show", theirs, "worker", 1).out
    assert "joined with a deposit of 25 credits" in honest and "25 credits of its deposit given back" in honest
    assert "0 held, 25 returned, 0 seized" in honest
    assert "25 credits of its deposit lost" in podlt("show", theirs, "worker", evicted).out
    assert f"{25 * 5} in deposits" in podlt("verify", theirs, "--jobs", 1).out
    assert podlt("report", theirs, "--out", tmp_path / "page.html").code == 0
    inside = (tmp_path / "page.html").read_text().partition('id="data">')[2].partition("</script>")[0]
    assert any("seize" in message for message in json.loads(inside)["messages"])


def test_a_log_of_a_newer_podlt_is_neither_sound_nor_unsound(podlt: Podlt, theirs: Path, tmp_path: Path) -> None:
    target = tmp_path / "newer"
    shutil.copytree(theirs, target)
    (target / "log.db").unlink()
    log = open_log(theirs)
    bodies, heads = [body for _, _, body in log.entries()], log.heads()
    log.close()
    size, _ = heads[0]
    newer = f"begin/{e.FORMAT + 1}"
    bodies[0] = msgspec.msgpack.encode({**msgspec.msgpack.decode(bodies[0]), "kind": newer})
    new = LogStore.at(target / "log.db", create=True)
    new.append(0, bodies[:size], heads[0][1])
    new.close()
    for command in (("verify", target, "--jobs", 1), ("ledger", target), ("show", target)):
        outcome = podlt(*command)
        said = outcome.out + outcome.err
        assert outcome.code == 4 and f"written by a newer podlt ({newer}; this one reads format {e.FORMAT})" in said


def test_a_commitment_with_a_receipt_that_the_log_lacks_convicts_its_manager(
    podlt: Podlt, theirs: Path, folder: Path, tmp_path: Path
) -> None:
    run, key = read_history(theirs).state.run, manager_key()
    log = open_log(theirs)
    made = next(entry for _, _, body in log.entries() if isinstance(entry := e.decode(body), e.Commit))
    log.close()
    keep(folder, run, sign_receipts(run, Bound(made.round, 0, made.commitments), key))
    document = json.loads(podlt("receipts", theirs, "--folder", folder, "--json").out)
    assert document["commitments"] == {"logged": len(made.commitments), "anew": 0, "beyond": 0, "dropped": 0}
    keep(folder, run, sign_receipts(run, Bound(10**6, 0, made.commitments[:1]), key))
    beyond = podlt("receipts", theirs, "--folder", folder)
    assert beyond.code == 4 and "in progress when its manager stopped" in beyond.err and "older copy" not in beyond.err
    other = msgspec.structs.replace(made.commitments[0], commitment=bytes(32))
    keep(folder, run, sign_receipts(run, Bound(made.round, 0, [other]), key))
    evidence = tmp_path / "evidence.json"
    outcome = podlt("receipts", theirs, "--folder", folder, "--evidence", evidence)
    assert outcome.code == 1 and f"(round {made.round})" in outcome.err
    shutil.rmtree(folder)
    shutil.rmtree(theirs)
    assert "the evidence holds" in podlt("receipts", "--check", evidence).out
    found = json.loads(podlt("receipts", "--check", evidence, "--json").out)
    assert (found["run"], found["worker"], found["manager"]) == (run.hex(), other.holder, key.public.hex())
    evidence.write_bytes(evidence.read_bytes().replace(b'"index":', b'"indez":', 1))
    assert podlt("receipts", "--check", evidence).code == 1
    for wrong in ((), (theirs, "--check", evidence), ("--check", tmp_path / "nowhere")):
        assert podlt("receipts", *wrong).code == 2


class Answer(io.BytesIO):
    """What is at a URL."""

    def __init__(self, data: bytes, url: str) -> None:
        super().__init__(data)
        self.url = url

    def geturl(self) -> str:
        return self.url


def test_a_log_is_fetched_from_where_it_is_published(
    podlt: Podlt, theirs: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(theirs, tmp_path / "theirs.podlt")
    data = (tmp_path / "theirs.podlt").read_bytes()
    leads = "https://example.org/theirs.podlt"
    monkeypatch.setattr(download, "urlopen", lambda request, timeout: Answer(data, leads))
    outcome = podlt("receipts", "https://example.org/theirs.podlt", "--folder", folder)
    assert outcome.code == 0 and "are in this log" in outcome.out
    leads = "http://example.org/theirs.podlt"
    outcome = podlt("receipts", "https://example.org/theirs.podlt", "--folder", folder)
    assert outcome.code == 2 and "expected https://" in outcome.err
    with pytest.raises(UsageError, match="too long"):
        monkeypatch.setattr(download, "urlopen", lambda request, timeout: Answer(data, "https://x"))
        download.download("https://x", tmp_path / "short", 100)

    def nowhere(request: object, timeout: float) -> Answer:
        raise URLError("no such host")

    monkeypatch.setattr(download, "urlopen", nowhere)
    outcome = podlt("receipts", "https://example.org/theirs.podlt", "--folder", folder)
    assert outcome.code == 2 and "no such host" in outcome.err
