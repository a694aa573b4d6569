"""Receipts: what proves itself, what was missed, and what a kept receipt shows of a log that is published later."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hub import CrewLink, Hub
from hypothesis import given
from hypothesis import strategies as st
from small_runs import Trained, seeded, small_recipe, tiny_recipe, train
from test_engine import crews, keys

from podlt.access.registry import Registry
from podlt.canonical import encode
from podlt.crypto import SigningKey, digest
from podlt.engine.interface import Job
from podlt.errors import InvalidProofError, StorageError
from podlt.log.merkle import Tree, inclusion_proof, is_included, leaf_hash
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.manager import events as ev
from podlt.protocol import entries as e
from podlt.protocol.ledger import Account
from podlt.receipts import credits
from podlt.receipts.history import ReceiptHistory
from podlt.recipe import ProtocolSpec
from podlt.remote.session.outbox import Outbox
from podlt.remote.session.receipts import SHARE, ReceiptSender
from podlt.remote.workplace import RemoteMachines
from podlt.report.fold import open_log
from podlt.report.history import read_history
from podlt.sim import simulate
from podlt.wire import messages as m
from podlt.worker.books import Earned, Status, WorkerBooks
from podlt.worker.catching_up import CatchingUp
from podlt.worker.folder import BookFiles, open_books, read_status
from podlt.worker.identity import WorkerExit

# -- proofs of what was just written ---------------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(1, 20), st.data())
def test_the_path_of_a_new_leaf_is_that_over_all_leaves(before: int, new: int, data: st.DataObject) -> None:
    leaves = [digest("leaf", bytes([i])) for i in range(before + new)]
    tree = Tree()
    for leaf in leaves[:before]:
        tree.append(leaf)
    index = before + data.draw(st.integers(0, new - 1))
    proof = tree.proof(leaves[before:], index)
    assert proof == inclusion_proof(leaves, index) and tree.size == before
    for leaf in leaves[before:]:
        tree.append(leaf)
    assert is_included(leaves[index], index, len(leaves), proof, tree.root())


# -- a run, and what its workers were told ---------------------------------------------------------------------------


SEED = 9


class Simulated:
    """A run with deposits and a cheater, and the messages that its manager would have sent."""

    def __init__(self, path: Path) -> None:
        rules = ProtocolSpec(preset="classic")
        simulate(6, {"always": 1}, 14, seed=SEED, whole=True, deposit=25, protocol=rules, directory=path)
        self.path, self.history = path, read_history(path)
        self.run, self.begin = self.history.state.run, self.history.begin
        store = open_log(path)
        self.rows, heads = list(store.entries()), store.heads()
        self.heads = dict(heads)
        store.close()
        self.told, tree = [], Tree()
        for size, note in heads:
            batch = self.rows[tree.size : size]
            leaves = [leaf for _, leaf, _ in batch]
            moved = [
                m.Receipt(n, body, tree.proof(leaves, n)) for n, _, body in batch if e.moves_credits(e.decode(body))
            ]
            self.told.append(m.Receipts(first=tree.size, head=note, receipts=moved))
            for leaf in leaves:
                tree.append(leaf)

    def books(self, folder: Path, *numbers: int) -> WorkerBooks:
        folder.mkdir(parents=True, exist_ok=True)
        keys = [self.history.state.workers[n].key for n in numbers]
        books = open_books(folder, keys, self.begin.manager)
        books.begin(self.run)
        for number, key in zip(numbers, keys, strict=True):
            books.admitted(key, number)
        return books

    def account(self, number: int) -> Account:
        return self.history.state.ledger.accounts[number]

    def key(self, number: int) -> bytes:
        return self.history.state.workers[number].key


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return Simulated(tmp_path_factory.mktemp("simulated") / "run")


def sums_of(earned: Account) -> list[int]:
    return [earned.pending, earned.vested, earned.forfeited, earned.deposit, earned.returned, earned.seized]


def test_who_heard_all_knows_what_the_ledger_says_deposits_and_evictions_too(sim: Simulated, tmp_path: Path) -> None:
    everybody = list(sim.history.state.workers)
    books = sim.books(tmp_path, *everybody)
    for paid in sim.told:
        books.paid(paid)
        books.paid(paid)  # twice is as once
    for number in everybody:
        assert sums_of(books.status.workers[sim.key(number).hex()]) == sums_of(sim.account(number))
    assert not books.behind() and {sim.account(n).returned for n in everybody} == {0, 25}


def test_who_missed_the_managers_last_word_ends_by_the_receipt_for_the_runs_end(sim: Simulated, tmp_path: Path) -> None:
    books = sim.books(tmp_path, 0)
    catching_up = CatchingUp(lambda effect: None, books, heartbeat=2.0)
    ends = [any(b"release/" in one.entry[:16] for one in paid.receipts) for paid in sim.told]
    last = ends.index(True)
    for at, paid in enumerate(sim.told[:last]):
        books.paid(paid)
        assert catching_up.ask({}, 2.0 * at) is None
    for paid in sim.told[last:]:
        books.paid(paid)
    assert catching_up.ask({}, 2.0 * last) == WorkerExit("complete", "")


@given(st.data())
def test_what_was_missed_is_asked_for_and_then_all_is_as_the_ledger_says(
    sim: Simulated, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any messages are lost, come twice, or late; the process is killed and started again with the files it has."""
    folder = tmp_path_factory.mktemp("folder")
    number = data.draw(st.sampled_from(sorted(sim.history.state.workers)))
    key = sim.key(number)
    books, past = sim.books(folder, number), ReceiptHistory.of_run(sim.path)
    for at, paid in enumerate(sim.told):
        if data.draw(st.booleans()):
            books.paid(paid)
        elif data.draw(st.integers(0, 3)) == 0:
            books.paid(sim.told[max(0, at - 2)])
        if data.draw(st.integers(0, 3)) == 0:
            books = sim.books(folder, number)
        if data.draw(st.booleans()) and (first := books.behind().get(key)) is not None:
            missed = past.missed(number, first)
            assert missed is not None
            books.missed(key, missed)
    books.expect(len(sim.rows))
    while (first := books.behind().get(key)) is not None:
        missed = past.missed(number, first)
        assert missed is not None and missed.upto > first
        books.missed(key, missed)
        assert books.missed(key, missed) == {}  # again: nothing moves
    past.close()
    assert sums_of(books.status.workers[key.hex()]) == sums_of(sim.account(number))
    kept = credits.read(folder, sim.run)
    found = credits.compare(kept, sim.rows, sim.heads[len(sim.rows)], sim.begin.manager, sim.run)
    assert found.receipts >= 2 and not found.contradictions and not found.beyond


def test_what_was_missed_comes_in_pages_that_fit_into_a_message(
    sim: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlt.receipts.history.PAGE_BYTES", 1500)
    monkeypatch.setattr("podlt.receipts.history.MARK", 8)
    books, past, pages = sim.books(tmp_path, 2), ReceiptHistory.of_run(sim.path), 0
    books.expect(len(sim.rows))
    while (first := books.behind().get(sim.key(2))) is not None:
        missed = past.missed(2, first)
        assert missed is not None and len(m.record(missed)) < 1500 + 1000
        books.missed(sim.key(2), missed)
        pages += 1
    past.close()
    assert pages > 5 and sums_of(books.status.workers[sim.key(2).hex()]) == sums_of(sim.account(2))


def test_where_there_is_nothing_more_or_no_log_nothing_is_told(sim: Simulated, tmp_path: Path) -> None:
    past = ReceiptHistory.of_run(sim.path)
    for first in (len(sim.rows), len(sim.rows) + 1, 2**63 - 1):
        assert past.missed(0, first) is None
    past.close()
    assert ReceiptHistory.of_run(tmp_path).missed(0, 0) is None


# -- what proves nothing ---------------------------------------------------------------------------------------------


def spoiled(paid: m.Receipts, what: str) -> m.Receipts:
    first = paid.receipts[0]
    other = msgspec.structs.replace(e.decode(first.entry), at=0)
    changes: dict[str, Any] = {
        "another entry": {"entry": encode(other)},
        "another place": {"index": first.index - 1},
        "a place outside": {"index": 10**6},
        "a step less": {"proof": first.proof[:-1]},
        "a step more": {"proof": [*first.proof, bytes(32)]},
        "another step": {"proof": [bytes(32), *first.proof[1:]]},
        "no entry": {"entry": b"\x80"},
    }
    if what == "twice":
        return msgspec.structs.replace(paid, receipts=[first, first])
    if what == "another's head":
        size = int(paid.head.split("\n")[1])
        run = paid.head.split("\n")[0]
        thief = sign_head(Head(run, size, bytes(32)), SigningKey(bytes(32)))
        return msgspec.structs.replace(paid, head=thief)
    if what == "beyond":
        return msgspec.structs.replace(paid, first=10**6, receipts=[])
    return msgspec.structs.replace(paid, receipts=[msgspec.structs.replace(first, **changes[what])])


@pytest.mark.parametrize(
    "what",
    [
        "another entry", "another place", "a place outside", "a step less", "a step more", "another step", "no entry",
        "twice", "another's head", "beyond",
    ],
)  # fmt: skip
def test_a_receipt_that_does_not_prove_itself_moves_nothing(sim: Simulated, tmp_path: Path, what: str) -> None:
    books = sim.books(tmp_path, 0, 1)
    for paid in sim.told[:3]:
        books.paid(paid)
    before = msgspec.to_builtins(books.status.workers)
    with pytest.raises(InvalidProofError):
        books.paid(spoiled(sim.told[3], what))
    with pytest.raises(InvalidProofError):
        first = sim.told[3].first
        bad = m.MissedReceipts(worker=0, first=first, upto=first + 99, paid=[spoiled(sim.told[3], what)])
        books.missed(sim.key(0), bad)
    assert msgspec.to_builtins(books.status.workers) == before
    assert books.paid(sim.told[3])


def test_missed_receipts_out_of_order_or_from_elsewhere_move_nothing(sim: Simulated, tmp_path: Path) -> None:
    books = sim.books(tmp_path, 0)
    pages = sim.told[:4]
    end = sim.told[4].first
    for wrong in (list(reversed(pages)), [pages[0], pages[0]], [*pages, sim.told[6]]):
        with pytest.raises(InvalidProofError):
            books.missed(sim.key(0), m.MissedReceipts(worker=0, first=0, upto=end, paid=wrong))
    assert books.missed(sim.key(0), m.MissedReceipts(worker=0, first=5, upto=end, paid=[])) == {}
    assert books.missed(sim.key(0), m.MissedReceipts(worker=1, first=0, upto=end, paid=pages)) == {}
    assert books.missed(sim.key(0), m.MissedReceipts(worker=0, first=0, upto=0, paid=[])) == {}
    assert sums_of(books.status.workers[sim.key(0).hex()]) == [0] * 6
    books.missed(sim.key(0), m.MissedReceipts(worker=0, first=0, upto=end, paid=pages))
    assert books.status.workers[sim.key(0).hex()].upto == end


# -- a manager that tells two stories --------------------------------------------------------------------------------


class Forked:
    """A log of the simulated manager that is another from some entry on, as it would sign it."""

    def __init__(self, sim: Simulated, number: int) -> None:
        key = SigningKey(digest("sim-manager/1", self._seed(sim)))
        assert key.public == sim.begin.manager
        self.rows, tree = [], Tree()
        for n, _, body in sim.rows:
            if n == number:
                entry = e.decode(body)
                body = encode(msgspec.structs.replace(entry, at=entry.at + 1))
            self.rows.append((n, leaf_hash(body), body))
            tree.append(leaf_hash(body))
        self.head = sign_head(Head(origin_of(sim.run), tree.size, tree.root()), key)

    @staticmethod
    def _seed(sim: Simulated) -> bytes:
        return digest("simulation/1", (SEED).to_bytes(16, "big", signed=True), (0).to_bytes(8, "big"))


def test_kept_receipts_convict_a_manager_that_publishes_another_log(sim: Simulated, tmp_path: Path) -> None:
    books = sim.books(tmp_path, 0, 1, 2)
    for paid in sim.told:
        books.paid(paid)
    kept = credits.read(tmp_path, sim.run)
    last_join = 6
    fork = Forked(sim, last_join + 1)
    found = credits.compare(kept, fork.rows, fork.head, sim.begin.manager, sim.run)
    assert found.contradictions and not found.beyond
    one = found.contradictions[0]
    assert one.note in {paid.head for paid in kept} and one.expected != one.published
    size = sim.told[5].first
    cut = credits.compare(kept, sim.rows[:size], sim.heads[size], sim.begin.manager, sim.run)
    assert cut.beyond and cut.receipts and not cut.contradictions
    with pytest.raises(InvalidProofError, match="its last tree head"):  # somebody else changed it: nobody is convicted
        credits.compare(kept, fork.rows, sim.heads[len(sim.rows)], sim.begin.manager, sim.run)


def test_two_heads_over_as_many_entries_are_kept_as_evidence_at_once(sim: Simulated, tmp_path: Path) -> None:
    books = sim.books(tmp_path, 0)
    for paid in sim.told:
        books.paid(paid)
    fork = Forked(sim, len(sim.rows) - 1)
    with pytest.raises(InvalidProofError, match="two different logs"):
        books.paid(m.Receipts(first=sim.told[-1].first, head=fork.head, receipts=[]))
    (evidence,) = tmp_path.glob("evidence-*.json")
    document = msgspec.json.decode(evidence.read_bytes())
    assert document["heads"] == [sim.told[-1].head, fork.head] and document["run"] == sim.run.hex()


def test_receipts_of_which_a_kill_left_a_part_are_read_and_spoiled_ones_are_named(
    sim: Simulated, tmp_path: Path
) -> None:
    books = sim.books(tmp_path, 0)
    for paid in sim.told[:4]:
        books.paid(paid)
    path = credits.path_of(tmp_path, sim.run)
    whole = credits.read(tmp_path, sim.run)
    path.write_bytes(path.read_bytes() + b'{"first":7,"head')
    assert credits.read(tmp_path, sim.run) == whole
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(StorageError, match="line 1"):
        credits.read(tmp_path, sim.run)
    with pytest.raises(StorageError, match="no receipts"):
        credits.read(tmp_path, bytes(32))


def test_what_a_crash_left_of_a_receipt_does_not_spoil_those_that_come_after_it(sim: Simulated, tmp_path: Path) -> None:
    books = sim.books(tmp_path, 0)
    for paid in sim.told[:4]:
        books.paid(paid)
    path = credits.path_of(tmp_path, sim.run)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"first":7,"head' * 10_000)
    for paid in sim.told[4:]:
        books.paid(paid)
    kept = path.read_bytes()
    assert kept.startswith(whole) and len(kept) > len(whole)
    assert len(credits.read(tmp_path, sim.run)) == kept.count(b"\n")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process takes more than a byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_full_disk_does_not_take_is_not_booked_and_counts_as_missed(sim: Simulated, tmp_path: Path) -> None:
    books, past = sim.books(tmp_path, 0), ReceiptHistory.of_run(sim.path)
    key = sim.key(0)
    first = next(i for i, paid in enumerate(sim.told) if paid.receipts)
    for paid in sim.told[:first]:
        books.paid(paid)

    with full_disk():
        for paid in sim.told[first:]:
            with suppress(StorageError):
                books.paid(paid)
        assert books.status.workers[key.hex()].upto == sim.told[first].first
        assert sums_of(books.status.workers[key.hex()]) == [0] * 6
    while key in (behind := books.behind()):
        missed = past.missed(0, behind[key])
        assert missed is not None
        books.missed(key, missed)
    past.close()
    assert sums_of(books.status.workers[key.hex()]) == sums_of(sim.account(0))
    assert {r.index for paid in credits.read(tmp_path, sim.run) for r in paid.receipts} != set()


def test_what_is_not_on_the_disk_is_asked_for_again_after_a_power_cut(
    sim: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books, key = sim.books(tmp_path, 0), sim.key(0).hex()
    first = next(i for i, paid in enumerate(sim.told) if paid.receipts)
    for paid in sim.told[:first]:
        books.paid(paid)
    books.save("working", connected=True, at=0.0)

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        books.paid(sim.told[first])
        books.save("working", connected=True, at=1.0)
    assert sim.books(tmp_path, 0).status.workers[key].upto == sim.told[first].first
    books.save("working", connected=True, at=2.0)
    assert sim.books(tmp_path, 0).status.workers[key].upto > sim.told[first].first


def test_a_worker_that_starts_with_fewer_identities_forgets_nothing_of_the_others(
    sim: Simulated, tmp_path: Path
) -> None:
    books = sim.books(tmp_path, 0, 1)
    for paid in sim.told:
        books.paid(paid)
    books.save("ended", False, time.time())
    books = sim.books(tmp_path, 0)
    books.save("ended", False, time.time())
    books = sim.books(tmp_path, 0, 1)
    for number in (0, 1):
        assert sums_of(books.status.workers[sim.key(number).hex()]) == sums_of(sim.account(number))


def test_until_it_is_known_what_there_is_to_do_the_status_says_what_was_earned_last(
    sim: Simulated, tmp_path: Path
) -> None:
    books = sim.books(tmp_path, 0)
    for paid in sim.told:
        books.paid(paid)
    books.save("ended", False, time.time())
    again = open_books(tmp_path, [sim.key(0)], sim.begin.manager)
    again.save("connecting", False, time.time())
    status, _ = read_status(tmp_path)
    assert (status.doing, status.run) == ("connecting", sim.run.hex())
    assert sums_of(status.workers[sim.key(0).hex()]) == sums_of(sim.account(0))
    assert not again.behind()


# -- over links ------------------------------------------------------------------------------------------------------


def settled(trained: Trained, made: list[CrewLink]) -> None:
    """Every worker's own books must be those of the ledger; who came too late for the run has none."""
    numbers = {worker.key.hex(): number for number, worker in trained.state.workers.items()}
    assert len(numbers) >= 3
    for crew in made:
        crew.join()
        assert crew.books is not None
        for key, earned in crew.books.status.workers.items():
            assert isinstance(earned, Earned) and earned.number == numbers.get(key, -1)
            if earned.number < 0:
                assert not earned.tasks
                continue
            assert sums_of(earned) == sums_of(trained.result.ledger[earned.number]), crew.told


@pytest.mark.parametrize("to_the_end", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_workers_that_lose_messages_end_with_what_the_ledger_says(tmp_path: Path, to_the_end: bool) -> None:
    hub = Hub(loss=0.04, twice=0.05, shuffle=0.1, seed=7)
    made = crews(hub, tmp_path, 2, 2)

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round + 1 == event.rounds and not to_the_end:
            hub.loss = 0.0  # a goodbye that is lost is waited for, for seconds

    import podlt.api

    place = RemoteMachines(hub.connect, heartbeat_seconds=hub.beat)
    settled(Trained(podlt.api.train(tiny_recipe(), run=tmp_path / "run", listener=listen, place=place), []), made)


def test_a_worker_that_was_cut_off_gets_the_receipts_that_it_missed(tmp_path: Path) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 3, 1)

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == 1:
            made[1].cut = True
        if isinstance(event, ev.RoundDone) and event.round == 4:
            made[1].cut = False

    import podlt.api

    place = RemoteMachines(hub.connect, silence_timeout=0.8, heartbeat_seconds=hub.beat)
    recipe = small_recipe(workers=4, epochs=4)
    result = podlt.api.train(recipe, run=tmp_path / "run", listener=listen, place=place, entropy=seeded(1))
    settled(Trained(result, []), made)
    assert any(isinstance(entry, e.Withdraw) for entry in map(lambda v: e.decode(v[2]), open_log(result.run).entries()))


def test_deposits_go_through_the_log_to_the_workers_own_books(tmp_path: Path) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 2, 1, 1, cheats={2: "sign-flip"})

    def connect(job: Job) -> Hub:
        for number in range(4):
            key = keys(1, number)[0].public.hex()
            Registry(job.directory).change(lambda state, k=key: state.pay(k, 500, 0, "cash"))  # type: ignore[misc]
        return hub.connect(job)  # type: ignore[return-value]

    recipe = msgspec.structs.replace(small_recipe(workers=4, epochs=2), protocol=ProtocolSpec(checked=1.0))
    trained = train(
        tmp_path / "run", recipe, place=RemoteMachines(connect, heartbeat_seconds=hub.beat), entropy=seeded(1)
    )
    settled(trained, made)
    accounts, convicted = trained.result.ledger, trained.result.convicted
    assert len(convicted) == 1
    for number, account in accounts.items():
        assert (account.deposit, account.returned) == (0, 0 if number in convicted else 500)
        assert (account.seized == 500) == (number in convicted)


def test_who_left_is_paid_back_in_the_log_once_its_pay_has_vested(tmp_path: Path) -> None:
    hub, path, escrow = Hub(), tmp_path / "run", 3
    made = crews(hub, tmp_path, 4, 1)
    leaver = keys(1, 4)[0].public.hex()

    def connect(job: Job) -> Hub:
        Registry(job.directory).change(lambda state: state.pay(leaver, 70, 0, ""))
        return hub.connect(job)  # type: ignore[return-value]

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == 2:
            made[1].gone = "its time is over"
        if isinstance(event, ev.Withdrawn):
            Registry(path).change(lambda state: state.pay_back(leaver, 1, ""))

    import podlt.api

    place = RemoteMachines(connect, heartbeat_seconds=hub.beat)
    recipe = msgspec.structs.replace(small_recipe(workers=5, epochs=8), protocol=ProtocolSpec(escrow=escrow))
    result = podlt.api.train(recipe, run=path, listener=listen, place=place)
    number = next(n for n, worker in read_history(path).state.workers.items() if worker.key.hex() == leaver)
    store = open_log(path)
    log = [e.decode(body) for _, _, body in store.entries()]
    store.close()
    releases = [(i, entry) for i, entry in enumerate(log) if isinstance(entry, e.Release)]
    (at,) = [i for i, entry in releases if any(t.kind == "return" for t in entry.transfers)]
    (left,) = [i for i, entry in enumerate(log) if isinstance(entry, e.Withdraw)]
    assert sum(isinstance(entry, e.Open) for entry in log[left:at]) in (escrow, escrow + 1)  # it left within a round?
    assert any(isinstance(entry, e.Open) for entry in log[at:])
    assert (result.ledger[number].returned, result.ledger[number].deposit) == (70, 0)


def test_who_is_given_another_number_books_nothing_of_the_first(sim: Simulated, tmp_path: Path) -> None:
    """A manager that was killed had not written its joining, and gave the number to another. Seed 1023 found it."""
    books = sim.books(tmp_path, 3)
    for paid in sim.told:
        books.paid(paid)
    key, past = sim.key(3), ReceiptHistory.of_run(sim.path)
    books.admitted(key, 1)
    while (first := books.behind().get(key)) is not None:
        missed = past.missed(1, first)
        assert missed is not None
        books.missed(key, missed)
    past.close()
    assert sums_of(books.status.workers[key.hex()]) == sums_of(sim.account(1)) != sums_of(sim.account(3))


def test_who_asks_for_the_past_and_was_never_admitted_is_told_nothing(tmp_path: Path) -> None:
    hub = Hub()
    crews(hub, tmp_path, 3)
    stranger = keys(1, 9)[0]
    box = CrewLink(hub, [stranger], tmp_path / "stranger")
    hub.crews.remove(box)

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone):
            hub.up.put(stranger.public, m.record(m.GetReceipts(first=0)))
            hub.up.put(keys(1)[0].public, m.record(m.GetReceipts(first=2**63 - 1)))

    sent: list[bytes] = []
    carry = hub.carry

    def watched(to: Any, key: bytes | None, message: bytes) -> None:
        if key == stranger.public:
            sent.append(message)
        carry(to, key, message)

    hub.carry = watched  # type: ignore[method-assign]
    import podlt.api

    podlt.api.train(
        tiny_recipe(),
        run=tmp_path / "run",
        listener=listen,
        place=RemoteMachines(hub.connect, heartbeat_seconds=hub.beat),
    )
    assert not sent


def test_workers_that_ask_without_end_take_a_share_of_the_managers_time_and_no_more(sim: Simulated) -> None:
    now, answers = [0.0], list[float]()

    class Slow:
        def missed(self, worker: int, first: int) -> None:
            answers.append(now[0])
            now[0] += 0.03

        def close(self) -> None:
            pass

    slips = ReceiptSender(Slow(), Outbox(Hub()), 0.1, lambda: now[0])
    for number in range(6):
        slips.admitted(sim.key(number), number)
    for asked in range(6000):
        slips.ask(sim.key(asked % 6), m.GetReceipts(first=0))
        slips.step(now[0])
        now[0] += 0.001
    assert 0.9 / SHARE < 0.03 * len(answers) / now[0] <= 1 / SHARE


def test_workers_of_one_process_that_ask_at_once_are_answered_one_after_another() -> None:
    """Only the first of them was: the others asked at a time when none was answered, again and again."""
    now, answered = [0.0], list[int]()

    class Slow:
        def missed(self, worker: int, first: int) -> None:
            answered.append(worker)
            now[0] += 0.01

        def close(self) -> None:
            pass

    slips = ReceiptSender(Slow(), Outbox(Hub()), 0.1, lambda: now[0])
    for number in range(6):
        slips.admitted(bytes([number]) * 32, number)
        slips.ask(bytes([number]) * 32, m.GetReceipts(first=0))
    for _ in range(100):
        slips.step(now[0])
        now[0] += 0.01
    assert answered == list(range(6))


def test_one_worker_is_not_answered_more_often_than_it_can_read(sim: Simulated) -> None:
    now, outbox = [0.0], Outbox(Hub())
    slips = ReceiptSender(ReceiptHistory.of_run(sim.path), outbox, 0.1, lambda: now[0])
    slips.admitted(sim.key(1), 1)
    for _ in range(1000):
        slips.ask(sim.key(1), m.GetReceipts(first=0))
        slips.step(now[0])
        now[0] += 0.001
    slips.close()
    assert 9 <= len(outbox.take()) <= 10


def test_what_waits_for_the_disk_is_done_when_somebody_has_the_time(tmp_path: Path) -> None:
    waiting: list[Callable[[], object]] = []
    files = BookFiles(tmp_path, soon=waiting.append)
    status = Status(1, 0.0, "working")
    files.save_status(status)
    files.save_head(bytes(32), "a head")
    status.doing = "something else, which is not what was saved"
    assert not list(tmp_path.iterdir()) and len(waiting) == 2
    for write in waiting:
        write()
    assert read_status(tmp_path)[0].doing == "working" and files.head(bytes(32)) == "a head"
