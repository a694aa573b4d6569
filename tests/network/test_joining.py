"""What a worker looks at before it signs that it joins, what it signs, and what nobody can do with the signature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hub import CrewLink, Hub
from small_runs import Trained, entries, seeded, small_recipe, tiny_recipe, train
from test_engine import crews, keys, run, whole

import podlt.api
from podlt.canonical import encode
from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError
from podlt.log.merkle import EMPTY_ROOT
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.manager import events as ev
from podlt.protocol import entries as e
from podlt.protocol.messages import JoinSignatures, JoinTerms
from podlt.protocol.signatures import join_checks
from podlt.remote.workplace import RemoteMachines
from podlt.wire import messages as m
from podlt.wire.run_setup import RunSetup, open_setup, sign_setup
from podlt.worker import events
from podlt.worker.effects import Effect, SendMessage
from podlt.worker.folder import open_books
from podlt.worker.identity import Identity
from podlt.worker.joining import Joining

MANAGER, STRANGER, WORKER = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))
BEGIN = e.Begin(
    at=17,
    preset="classic",
    manager=MANAGER.public,
    nonce=bytes(32),
    recipe=bytes(32),
    program=bytes(32),
    arithmetic=bytes(32),
    data=bytes(32),
    test=e.NO_TEST,
    parameters=bytes(32),
    seed=bytes(32),
    examples=100,
    epochs=2,
    batch_size=200,
    shard_size=0,
    local_steps=1,
    local_lr=None,
    spares=2,
    checked=0,
    own=0,
    own_most=0,
    clip=0,
    escrow=50,
    first_fault="evict",
    reward=3,
    chain_end=bytes(32),
    chain_length=4,
)
RUN = e.identity(BEGIN)


def setup_of(begin: bytes = encode(BEGIN), key: SigningKey = MANAGER, **changes: Any) -> m.Setup:
    bare = m.Setup(
        version=m.VERSION, begin=begin, head="", program_blob=bytes(32), program_size=0, program=b"", fields=[]
    )
    return sign_setup(msgspec.structs.replace(bare, **changes), key)


def note(size: int, root: bytes = bytes(32), key: SigningKey = MANAGER, run: bytes = RUN) -> str:
    return sign_head(Head(origin_of(run), size, root), key) if size else ""


# -- what there is to do ---------------------------------------------------------------------------------------------


def test_a_setup_says_of_the_run_what_its_first_entry_says() -> None:
    opened = open_setup(setup_of(), MANAGER.public)
    assert (opened.run, opened.begin, opened.most_examples) == (RUN, BEGIN, 100)
    later = msgspec.structs.replace(BEGIN, at=99)
    assert open_setup(setup_of(encode(later)), MANAGER.public).run == RUN


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        (setup_of(key=STRANGER), "not signed by the manager of the invitation"),
        (msgspec.structs.replace(setup_of(), head=note(3)), "not signed by the manager of the invitation"),
        (setup_of(version=m.VERSION + 1), "not signed by the manager of the invitation"),
        (setup_of(encode(msgspec.structs.replace(BEGIN, manager=STRANGER.public))), "run of another manager"),
        (setup_of(encode(e.Resume(at=1))), "without the first entry of a run"),
        (setup_of(encode(BEGIN) + b"\0"), "malformed"),
        (setup_of(b""), "malformed"),
    ],
)
def test_a_setup_that_is_not_the_managers_or_of_no_run_is_refused(setup: m.Setup, said: str) -> None:
    with pytest.raises(InvalidProofError, match=said):
        open_setup(setup, MANAGER.public)


def test_the_longest_first_entry_fits_into_a_setup() -> None:
    most = 2**63 - 1
    numbers = ("examples", "epochs", "batch_size", "shard_size", "local_steps", "spares", "reward", "chain_length")
    large = msgspec.structs.replace(BEGIN, at=most, local_lr=0.1, **dict.fromkeys(numbers, most))
    setup = m.record(setup_of(encode(large), head=note(most)))
    assert m.from_manager(setup) == setup_of(encode(large), head=note(most))


# -- one offer -------------------------------------------------------------------------------------------------------


class Desk:
    """A worker that is offered terms."""

    def __init__(self, folder: Path, least_reward: int = 0) -> None:
        self.sent: list[m.Up] = []
        self.events: list[events.WorkerEvent] = []
        self.books = open_books(folder, [WORKER.public], MANAGER.public)
        self.books.begin(RUN)
        self.identity = Identity(WORKER)
        self.joining = Joining(self.perform, self.books, self.events.append, least_reward, bytes(8), lambda: 1)

    def perform(self, effect: Effect) -> None:
        assert isinstance(effect, SendMessage)
        self.sent.append(m.from_worker(effect.message))

    def offered(
        self,
        size: int,
        root: bytes | None = None,
        *,
        head: str | None = None,
        run: bytes = RUN,
        operator: str = "",
    ) -> None:
        root = (bytes(32) if size else EMPTY_ROOT) if root is None else root
        terms = JoinTerms(5, 40, size, root, operator)
        said = m.Offer(run=run, terms=terms, head=note(size, root) if head is None else head)
        self.joining.offered(self.identity, open_setup(setup_of(), MANAGER.public), said)


@pytest.mark.parametrize("size", [0, 7])
def test_terms_over_the_managers_last_head_are_signed_and_shown(tmp_path: Path, size: int) -> None:
    desk = Desk(tmp_path)
    desk.offered(size)
    desk.offered(size)  # its answer was lost: it is given again, and told once
    first, again = desk.sent
    assert isinstance(first, m.SignedJoin) and first == again
    assert all(check.holds() for check in join_checks(RUN, WORKER.public, first.terms, first.signatures))
    (event,) = desk.events
    assert isinstance(event, events.Signed) and (event.worker, event.deposit, event.entries) == (5, 40, size)
    assert "worker 5" in str(event) and "deposit of 40 credits" in str(event)


@pytest.mark.parametrize(
    "bad",
    [
        lambda desk: desk.offered(7, head=note(7, key=STRANGER)),
        lambda desk: desk.offered(7, head=note(7, run=bytes(32))),
        lambda desk: desk.offered(7, head=note(8)),
        lambda desk: desk.offered(7, head=note(7, bytes([9]) * 32)),
        lambda desk: desk.offered(7, head=""),
        lambda desk: desk.offered(7, head="podlt.run"),
        lambda desk: desk.offered(0, bytes(32)),
    ],
)
def test_terms_over_another_head_than_one_that_the_manager_signed_are_not_signed(
    tmp_path: Path, bad: Callable[[Desk], None]
) -> None:
    desk = Desk(tmp_path)
    with pytest.raises(InvalidProofError):
        bad(desk)
    assert not desk.sent and not desk.events
    desk.offered(8)
    assert len(desk.sent) == 1


def test_a_worker_has_one_operator_whatever_it_is_offered(tmp_path: Path) -> None:
    """The manager knows what a draw comes to with each operator that it could name."""
    desk = Desk(tmp_path)
    desk.offered(7, operator="anna")
    for other in ("bea", ""):
        with pytest.raises(InvalidProofError, match="another operator"):
            desk.offered(8, operator=other)
    desk.offered(8, operator="anna")
    assert [said.terms.operator for said in desk.sent if isinstance(said, m.SignedJoin)] == ["anna"] * 2
    assert "of anna" in str(desk.events[0])


def test_terms_of_another_run_are_not_signed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.offered(7, run=bytes(32))
    assert not desk.sent


@pytest.mark.parametrize("how", ["offered", "paid", "set up", "before it was started again"])
def test_a_log_that_is_shorter_than_it_was_is_not_signed(tmp_path: Path, how: str) -> None:
    desk = Desk(tmp_path)
    if how == "paid":
        desk.books.paid(m.Receipts(first=0, head=note(9), receipts=[]))
    elif how == "set up":
        desk.joining.begin(open_setup(setup_of(head=note(9)), MANAGER.public), [desk.identity])
    else:
        desk.offered(9)
    if how == "before it was started again":
        desk = Desk(tmp_path)
    desk.sent.clear()
    for size in (8, 0):
        with pytest.raises(InvalidProofError, match="shorter than it was"):
            desk.offered(size)
    assert not desk.sent
    desk.offered(9)
    desk.offered(12)
    assert len(desk.sent) == 2


def test_two_logs_that_are_as_long_are_evidence_and_nothing_is_signed(tmp_path: Path) -> None:
    Desk(tmp_path).offered(9)
    desk = Desk(tmp_path)  # started again: it remembers what it signed
    with pytest.raises(InvalidProofError, match="two different logs of 9 entries"):
        desk.offered(9, bytes([1]) * 32)
    (evidence,) = tmp_path.glob("evidence-*.json")
    assert msgspec.json.decode(evidence.read_bytes())["heads"] == [note(9), note(9, bytes([1]) * 32)]
    assert not desk.sent


def test_the_last_head_is_kept_as_verify_reads_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.offered(9)
    desk.books.paid(m.Receipts(first=9, head=note(11), receipts=[]))
    desk.books.save("waiting", True, 1.0)
    (kept,) = tmp_path.glob("head-*.txt")
    assert kept.read_text() == note(11)


# -- the run's terms -------------------------------------------------------------------------------------------------


def test_terms_are_shown_in_words_and_too_little_pay_is_declined(tmp_path: Path) -> None:
    setup: RunSetup = open_setup(setup_of(head=note(9)), MANAGER.public)
    for least, declined in ((0, False), (3, False), (4, True)):
        desk = Desk(tmp_path / str(least), least) if (tmp_path / str(least)).mkdir() is None else None
        assert desk is not None
        why = desk.joining.begin(setup, [desk.identity])
        assert bool(why) == declined and not desk.sent
    assert why == "it pays 3 credits an example, and --least-reward is 4"
    (event,) = desk.events
    for part in (
        "3 credits an example", "2 epochs of 100 examples", "4 rounds at most", "classic", "9 entries", "pending",
        "deposit", "public key", "address",
    ):  # fmt: skip
        assert part in str(event), part
    assert all("\n" not in line for line in event.lines_for_people) and len(event.lines_for_people) == 3


def test_who_wants_more_than_a_run_pays_signs_nothing_and_ends(tmp_path: Path) -> None:
    hub = Hub()
    crews(hub, tmp_path, 3)
    said: list[m.Up] = []

    class Watched(CrewLink):
        def send(self, key: bytes, message: bytes) -> None:
            said.append(m.from_worker(message))
            super().send(key, message)

    proud = Watched(hub, keys(1, 7), tmp_path / "proud", least_reward=2)
    trained = run(hub, tmp_path / "run", tiny_recipe())
    whole(trained)
    outcome = proud.join()
    assert outcome is not None and (outcome.how, "--least-reward is 2" in outcome.reason) == ("declined", True)
    assert {type(one) for one in said} <= {m.Hello, m.Leave}
    assert [type(event) for event in proud.told].count(events.RunTerms) == 1
    assert keys(1, 7)[0].public not in {worker.key for worker in trained.state.workers.values()}


# -- over links ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_who_was_let_go_and_comes_back_signs_anew(tmp_path: Path) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 3, 1)
    back: list[int] = []

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == 2:
            made[1].cut = True
        if isinstance(event, ev.Withdrawn):
            made[1].cut = False
        if isinstance(event, ev.Joined) and event.again:
            back.append(event.worker)

    place = RemoteMachines(hub.connect, silence_timeout=1.0, heartbeat_seconds=hub.beat)
    recipe = small_recipe(workers=4, epochs=6)
    result = podlt.api.train(recipe, run=tmp_path / "run", listener=listen, place=place, entropy=seeded(1))
    whole(Trained(result, []))
    log = entries(tmp_path / "run")
    (number,) = back
    joins = [(index, entry) for index, entry in enumerate(log) if isinstance(entry, e.Join) and entry.worker == number]
    (first, old), (_, new) = joins
    assert old.seen <= first < new.seen and old.signature != new.signature
    signed = [event for event in made[1].told if isinstance(event, events.Signed)]
    assert [event.entries for event in signed] == [old.seen, new.seen]


def test_offers_and_signatures_that_are_lost_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    made, lost = crews(hub, tmp_path, 2, 2), {m.Offer: 0, m.SignedJoin: 0}
    carry = Hub.carry

    def carried(self: Hub, box: Any, key: bytes | None, message: bytes) -> None:
        kind = type((m.from_worker if box is self.up else m.from_manager)(message))
        if kind in lost and lost[kind] < 4:
            lost[kind] += 1
            return
        carry(self, box, key, message)

    monkeypatch.setattr(Hub, "carry", carried)
    trained = run(hub, tmp_path / "run", tiny_recipe(workers=4))
    whole(trained)
    assert lost == {m.Offer: 4, m.SignedJoin: 4} and not trained.of(ev.Withdrawn)
    assert all(crew.join() is not None for crew in made)


@pytest.mark.parametrize("changes", [{"worker": 9}, {"deposit": 500}, {"seen": 1, "root": bytes(32)}])
def test_nobody_joins_on_other_terms_than_those_it_was_offered(tmp_path: Path, changes: dict[str, Any]) -> None:
    key = keys(1, 7)[0]

    class Liar(CrewLink):
        def send(self, public: bytes, message: bytes) -> None:
            said = m.from_worker(message)
            if isinstance(said, m.SignedJoin):
                terms = msgspec.structs.replace(said.terms, **changes)
                signature = key.sign("join/3", terms.message(said.run))
                signatures = JoinSignatures(signature, said.signatures.share)
                message = m.record(m.SignedJoin(run=said.run, terms=terms, signatures=signatures))
                lies.append(terms)
            super().send(public, message)

    hub, lies = Hub(), list[JoinTerms]()
    crews(hub, tmp_path, 3)
    Liar(hub, [key], tmp_path / "liar")
    trained = train(
        tmp_path / "run",
        tiny_recipe(),
        place=RemoteMachines(hub.connect, heartbeat_seconds=hub.beat),
        entropy=seeded(1),
    )
    whole(trained)
    assert lies and len(trained.state.workers) == 3
    assert key.public not in {worker.key for worker in trained.state.workers.values()}


def test_who_leaves_before_it_is_admitted_is_not_admitted_any_more(tmp_path: Path) -> None:
    hub = Hub()
    crews(hub, tmp_path, 3)
    key = keys(1, 7)[0]

    class Fickle(CrewLink):
        def send(self, public: bytes, message: bytes) -> None:
            if isinstance(m.from_worker(message), m.SignedJoin):
                hub.up.put(public, message, m.record(m.Leave(reason="thought better of it")))
                self.cut = True
            super().send(public, message)

    Fickle(hub, [key], tmp_path / "fickle")
    trained = run(hub, tmp_path / "run", tiny_recipe())
    whole(trained)
    assert len(trained.state.workers) == 3 and not trained.of(ev.Withdrawn)
