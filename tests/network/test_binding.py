"""Receipts for commitments: before anything is shown, and telling nobody who is compared."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import second_receipts
from hypothesis import given
from hypothesis import strategies as st

from podlt.canonical import encode
from podlt.crypto import SigningKey, digest
from podlt.errors import InvalidProofError, StorageError
from podlt.log.merkle import EMPTY_ROOT, inclusion_proof, inclusion_proofs, leaf_hash, root_of
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.protocol import entries as e
from podlt.protocol.messages import Task
from podlt.protocol.receipt import Bound, CommitmentReceipt, check_receipt, sign_receipts
from podlt.protocol.worker import Worker
from podlt.receipts import commitments
from podlt.remote.session.binding import BoundAnswers
from podlt.sim.faults import NetworkFaults
from podlt.sim.networked import NetworkedWorld
from podlt.wire import messages as m
from podlt.worker.effects import SendMessage
from podlt.worker.identity import Identity
from podlt.worker.opening import ReceivedReceipts

MANAGER = SigningKey(b"m" * 32)
RUN = digest("a run")


@given(st.integers(0, 70))
def test_all_paths_at_once_are_those_of_each_alone(size: int) -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(size)]
    root, proofs = inclusion_proofs(leaves)
    assert root == root_of(leaves) and (size or root == EMPTY_ROOT)
    assert proofs == [inclusion_proof(leaves, index) for index in range(size)]


# -- what a receipt proves -------------------------------------------------------------------------------------------


def commitment(seat: int, salt: bytes = b"") -> e.Commitment:
    return e.Commitment(seat, seat, digest("a commitment", bytes([seat]), salt), bytes([seat]) * 64)


def receipts(count: int = 7, attempt: int = 2) -> list[CommitmentReceipt]:
    return sign_receipts(RUN, Bound(5, attempt, [commitment(seat) for seat in range(count)]), MANAGER)


def test_a_receipt_holds_for_its_commitment_run_and_manager_alone() -> None:
    for receipt in receipts():
        check_receipt(receipt, RUN, MANAGER.public)
        assert msgspec.msgpack.decode(encode(receipt), type=CommitmentReceipt) == receipt
    one, other = receipts()[3], receipts()[4]
    changes: list[dict[str, Any]] = [
        {"round": 6}, {"attempt": 3}, {"size": 8}, {"root": bytes(32)}, {"index": 4}, {"proof": other.proof},
        {"commitment": other.commitment}, {"signature": bytes(64)}, {"proof": one.proof[:-1]},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(InvalidProofError):
            check_receipt(msgspec.structs.replace(one, **change), RUN, MANAGER.public)
    for run, manager in ((bytes(32), MANAGER.public), (RUN, SigningKey(bytes(32)).public)):
        with pytest.raises(InvalidProofError):
            check_receipt(one, run, manager)


# -- a worker opens what has a receipt -------------------------------------------------------------------------------


class Owner:
    """A worker that has done two tasks of a round, and what the manager asks it."""

    def __init__(self, *, full: bool = False) -> None:
        self.identity, self.full = Identity(SigningKey(b"w" * 32)), full
        self.identity.worker = Worker(4, self.identity.key, RUN)
        tasks = {seat: Task(RUN, 5, bytes(32), bytes(32), bytes([seat]) * 32, bytes(32)) for seat in (4, 9)}
        self.made = {seat: self.identity.worker.commit(seat, task, digest("u")) for seat, task in tasks.items()}
        known = {seat: (made.commitment, made.signature) for seat, made in self.made.items()}
        replies = SimpleNamespace(commitments=lambda key, deal_id: known if deal_id == bytes(8) else {})
        self.run: Any = SimpleNamespace(replies=replies, setup=SimpleNamespace(run=RUN))
        self.sent: list[Any] = []
        self.kept: list[CommitmentReceipt] = []
        self.warned: list[str] = []
        books: Any = SimpleNamespace(bound=self.keep)
        self.opening = ReceivedReceipts(MANAGER.public, self.sent.append, books, self.warned.append)

    def keep(self, run: bytes, receipts: Sequence[CommitmentReceipt]) -> None:
        assert not self.sent, "nothing is shown before its receipt is kept"
        if self.full:
            raise StorageError("no space left")
        self.kept += receipts

    def logged(self, seat: int) -> e.Commitment:
        made = self.made[seat]
        return e.Commitment(made.seat, made.holder, made.commitment, made.signature)

    def asked(self, receipts: list[CommitmentReceipt], deal_id: bytes = bytes(8)) -> list[int]:
        """Is asked to open; the seats that it opens."""
        self.sent.clear()
        self.opening.open(self.identity, self.run, m.OpenCommitments(deal_id=deal_id, round=5, receipts=receipts))
        self.opening.flush()
        (sent,) = self.sent
        assert isinstance(sent, SendMessage)
        said = m.from_worker(sent.message)
        assert isinstance(said, m.Openings)
        return [one.seat for one in said.opened]


def test_a_worker_opens_what_has_a_receipt_and_keeps_the_receipt_first() -> None:
    owner = Owner()
    both = sign_receipts(RUN, Bound(5, 0, [owner.logged(4), commitment(5), owner.logged(9)]), MANAGER)
    mine = [both[0], both[2]]
    assert owner.asked([]) == [] and owner.asked(mine[1:]) == [9]
    assert owner.asked(mine) == [4, 9] and owner.kept == [mine[1], mine[0]]
    assert owner.asked(mine) == [4, 9] and len(owner.kept) == 2, "the same once"
    assert owner.asked(mine, b"another!") == []


def test_a_worker_opens_nothing_for_a_receipt_that_does_not_hold() -> None:
    owner = Owner()
    other = msgspec.structs.replace(owner.logged(4), signature=bytes(64))
    for bound, key in (
        (Bound(5, 0, [other]), MANAGER),
        (Bound(6, 0, [owner.logged(4)]), MANAGER),
        (Bound(5, 0, [owner.logged(4)]), SigningKey(bytes(32))),
        (Bound(5, 0, [msgspec.structs.replace(owner.logged(4), holder=3)]), MANAGER),
    ):
        with pytest.raises(InvalidProofError):
            owner.asked(sign_receipts(RUN, bound, key))
        assert not owner.sent and not owner.kept
    stranger = sign_receipts(RUN, Bound(5, 0, [commitment(77)]), MANAGER)
    assert owner.asked(stranger) == [], "what it does not know any more comes again"


def test_a_full_disk_costs_the_evidence_and_not_the_pay() -> None:
    owner = Owner(full=True)
    assert owner.asked(sign_receipts(RUN, Bound(5, 0, [owner.logged(4)]), MANAGER)) == [4]
    assert "no space left" in owner.warned[0]


def test_a_worker_is_asked_with_all_its_receipts_of_the_deal() -> None:
    answers = BoundAnswers(MANAGER)
    answers.begin(b"a deal 1")
    answers.bind(RUN, Bound(5, 0, [commitment(seat) for seat in range(3)]))
    answers.bind(RUN, Bound(5, 0, [e.Commitment(7, 1, bytes(32), bytes(64))]))
    answers.bind(RUN, Bound(5, 0, []))
    assert answers.holders == [0, 1, 2]
    asked = m.from_manager(answers.request(1))
    assert isinstance(asked, m.OpenCommitments) and (asked.deal_id, asked.round) == (b"a deal 1", 5)
    assert [receipt.commitment.seat for receipt in asked.receipts] == [1, 7]
    answers.begin(b"a deal 2")
    assert answers.holders == []


# -- nobody learns who is compared -----------------------------------------------------------------------------------


def test_no_message_before_the_reveal_tells_who_is_compared() -> None:
    """Whoever has a task of as many lines gets the same messages, in the order of the seats, whatever its role is."""
    world = NetworkedWorld([1] * 12, 40, 3, NetworkFaults())
    sent: list[tuple[bytes, bytes]] = []
    send = world.packets.send

    def record(key: bytes, message: bytes) -> None:
        sent.append((key, message))
        send(key, message)

    world.packets.send = record  # type: ignore[method-assign]
    rounds, compared = 0, 0
    collect = world._collect

    def collected(waiting: Any) -> None:
        nonlocal rounds, compared
        sent.clear()
        roles = world.manager.roles
        seat_of = {world.state.workers[seat].key: seat for seat in roles.seats}
        collect(waiting)
        said: dict[int, list[tuple[str, int]]] = defaultdict(list)
        lines: dict[int, int] = {}
        orders: dict[str, list[int]] = defaultdict(list)
        for key, raw in sent:
            message = m.from_manager(raw)
            size, kind = len(raw), type(message).__name__
            if isinstance(message, m.MissedReceipts):
                continue  # answers what a worker asked for of its own accord
            if isinstance(message, m.OpenCommitments):
                (receipt,) = message.receipts
                size -= len(encode(receipt.proof)) + len(encode(receipt.index)) + 2 * len(encode(seat_of[key]))
            elif isinstance(message, m.DealTask):
                size -= len(encode(seat_of[key]))
                lines[seat_of[key]] = message.count
            said[seat_of[key]].append((kind, size))
            orders[kind].append(seat_of[key])
        assert set(said) == set(roles.seats)
        assert len({(lines[seat], *messages) for seat, messages in said.items()}) == len(set(lines.values())), said
        assert {kind: sorted(seats) for kind, seats in orders.items()} == orders, "in the order of the seats"
        rounds += 1
        compared += sum(shard in roles.checked for shard in roles.seats.values())

    world._collect = collected  # type: ignore[method-assign]
    world.run()
    assert rounds >= 40 and compared >= 2 * rounds


# -- what a log that is published shows ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played() -> NetworkedWorld:
    world = NetworkedWorld([2, 2, 1], 6, 11, NetworkFaults())
    world.run()
    return world


def compared(world: NetworkedWorld, receipts: Sequence[CommitmentReceipt]) -> commitments.BoundComparison:
    return commitments.compare(receipts, world.memory_log.rows, world.head, world.key.public, world.state.run)


def test_every_receipt_of_an_honest_run_is_in_its_log(played: NetworkedWorld) -> None:
    found = compared(played, played.bound.receipts)
    commitments = sum(
        len(entry.commitments)
        for entry in (e.decode(body) for _, _, body in played.memory_log.rows)
        if isinstance(entry, e.Commit)
    )
    assert (found.logged, found.anew, found.beyond, found.dropped) == (commitments, 0, 0, [])


def test_a_dropped_commitment_convicts_its_manager_by_itself(played: NetworkedWorld) -> None:
    run, key = played.state.run, played.key
    (dropped,) = sign_receipts(run, Bound(2, 0, [commitment(1)]), key)
    (later,) = sign_receipts(run, Bound(3, 1, [commitment(1)]), key)
    found = compared(played, [*played.bound.receipts[:3], dropped, later])
    assert (found.logged, [one.reason for one in found.dropped]) == (3, [commitments.DROPPED, commitments.TURNED_BACK])
    for one in found.dropped:
        assert commitments.check_evidence(msgspec.json.encode(one)) == one


def test_an_attempt_that_was_begun_anew_and_a_round_that_is_not_there_yet_decide_nothing() -> None:
    for seed in range(40, 60):
        world = NetworkedWorld([2, 2, 1], 8, seed, NetworkFaults(manager_crash=0.5, delay=0.3))
        world.run()
        found = compared(world, world.bound.receipts)
        assert not found.dropped and not found.beyond
        if found.anew:
            break
    else:
        raise AssertionError("no manager died between a receipt and the round's end")
    (beyond,) = sign_receipts(world.state.run, Bound(world.state.round, 9, [commitment(0)]), world.key)
    assert compared(world, [beyond]).beyond == 1


def test_evidence_that_shows_nothing_is_refused(played: NetworkedWorld) -> None:
    run, key = played.state.run, played.key
    (dropped,) = sign_receipts(run, Bound(2, 0, [commitment(1)]), key)
    (good,) = compared(played, [dropped]).dropped
    logged = next(receipt for receipt in played.bound.receipts if receipt.round == 2)
    (anew,) = sign_receipts(run, Bound(4, 0, [commitment(1)]), key)
    (other,) = compared(played, [anew]).dropped
    another = SigningKey(bytes(32))
    bodies = [body for _, _, body in played.memory_log.rows]
    forged = sign_head(Head(origin_of(run), len(bodies), root_of(map(leaf_hash, bodies))), another)
    moved = msgspec.structs.replace(good.round[1], index=good.round[1].index + 1)
    for change in (
        {"receipt": logged},
        {"receipt": anew},
        {"round": other.round},
        {"round": good.round[:-1]},
        {"round": good.round[1:]},
        {"round": [good.round[0], good.round[-1]]},  # the entry with the commitments was left out
        {"round": [good.round[0], moved, *good.round[2:]]},
        {"round": []},
        {"head": forged},
        {"begin": good.round[0]},
        {"reason": commitments.TURNED_BACK},
        {"reason": "logged"},
    ):
        with pytest.raises(InvalidProofError):
            commitments.check_evidence(msgspec.json.encode(msgspec.structs.replace(good, **change)))
    for raw in (b"", b"{}", json.dumps({"kind": commitments.KIND}).encode()):
        with pytest.raises(InvalidProofError):
            commitments.check_evidence(raw)


def test_a_folder_keeps_the_last_receipts_and_no_more_than_it_may(tmp_path: Path) -> None:
    given = [receipt for attempt in range(40) for receipt in receipts(5, attempt)]
    size = len(msgspec.json.encode(given[0]))
    for receipt in given:
        commitments.keep(tmp_path, RUN, [receipt], 40 * size)
    kept = commitments.read(tmp_path, RUN)
    assert kept == given[-len(kept) :] and 20 <= len(kept) <= 45
    (_, growing) = commitments.paths_of(tmp_path, RUN)
    with growing.open("ab") as file:
        file.write(b"[half")
    assert commitments.read(tmp_path, RUN) == kept
    with growing.open("ab") as file:
        file.write(b" a line]\n")
    with pytest.raises(StorageError):
        commitments.read(tmp_path, RUN)


def test_a_second_verifier_says_the_same_of_each_receipt(played: NetworkedWorld) -> None:
    run, key = played.state.run, played.key
    entries = [msgspec.msgpack.decode(body) for _, _, body in played.memory_log.rows]
    forged = [
        *sign_receipts(run, Bound(2, 0, [commitment(seat) for seat in range(5)]), key),
        *sign_receipts(run, Bound(3, 1, [commitment(1)]), key),
        *sign_receipts(run, Bound(10**6, 0, [commitment(1), commitment(2)]), key),
        *sign_receipts(run, Bound(1, 0, [commitment(1)]), SigningKey(bytes(32))),
    ]
    said = []
    for receipt in [*played.bound.receipts, *forged]:
        plain = msgspec.msgpack.decode(encode(receipt))
        said.append(second_receipts.outcome(plain, entries, run, key.public))
        try:
            found = compared(played, [receipt])
        except InvalidProofError:
            assert said[-1] == "nothing"
            continue
        counts = {"logged": found.logged, "anew": found.anew, "beyond": found.beyond, "convicts": len(found.dropped)}
        assert [name for name, count in counts.items() if count] == [said[-1]]
    assert said[-9:] == ["convicts"] * 6 + ["beyond"] * 2 + ["nothing"] and set(said[:-9]) == {"logged"}
