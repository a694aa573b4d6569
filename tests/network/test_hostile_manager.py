"""A manager that wishes its workers ill: no memory, disk, time or terminal of theirs is its to take.

The session is driven here as a driver does, in simulated time, and nothing is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from podlt.canonical import encode
from podlt.crypto import SigningKey, blob_digest
from podlt.data.field import Field
from podlt.engine.isolated.interface import ExecuteTask, FreeUpdate, ProgramLoaded, TaskExecuted, TaskNotExecuted
from podlt.engine.isolated.records import LoadProgram
from podlt.errors import EngineError, StorageError
from podlt.log.merkle import Tree, leaf_hash
from podlt.log.tree_head import Head, origin_of, sign_head
from podlt.progress.text import write_text
from podlt.protocol import entries as e
from podlt.protocol.messages import Task
from podlt.receipts.credits import path_of
from podlt.wire import messages as m
from podlt.wire.run_setup import sign_setup
from podlt.worker import events
from podlt.worker.books import NoStore, WorkerBooks
from podlt.worker.effects import Effect, SendMessage
from podlt.worker.folder import BookFiles
from podlt.worker.leaving import LEAVE_SECONDS
from podlt.worker.replies import MOST_IN_HAND
from podlt.worker.run import LEAST_AHEAD
from podlt.worker.session import LONGEST_SUSPENSION, MAX_RUNS, WorkerSession

MANAGER, WORKER = SigningKey(bytes([1]) * 32), SigningKey(bytes([2]) * 32)
ESCAPES = "\x1b]0;pwned\x07\x1b[2J\x1b[31mroot# \u202e\r\nroot@host:~# \x9b31m"
STATE = np.zeros(64, np.uint8)
LINE = bytes(8)


def begin(nonce: bytes = bytes(32)) -> e.Begin:
    return e.Begin(
        at=17, preset="classic", manager=MANAGER.public, nonce=nonce, recipe=bytes(32), program=bytes(32),
        arithmetic=bytes(32), data=bytes(32), test=e.NO_TEST, parameters=bytes(32), seed=bytes(32), examples=100,
        epochs=2, batch_size=200, shard_size=0, local_steps=1, local_lr=None, spares=2, checked=0,
        own=0, own_most=0, clip=0, escrow=50, first_fault="evict", reward=3,
        chain_end=bytes(32), chain_length=4,
    )  # fmt: skip


RUN = e.identity(begin())


class Victim:
    """A worker's session, whose effects are noted, and whose manager may say what it likes."""

    def __init__(self, books: WorkerBooks | None = None) -> None:
        self.told: list[events.WorkerEvent] = []
        self.effects: list[Effect] = []
        self.now, self.reason = 100.0, ""
        self.session = WorkerSession(
            [WORKER],
            MANAGER.public,
            books or WorkerBooks(NoStore(), [WORKER.public], MANAGER.public),
            process=bytes(8),
            wall=lambda: 1,
            listener=self.told.append,
            leaving=lambda: self.reason,
        )

    def hear(self, message: m.Message, *, for_all: bool = False) -> None:
        self.session.receive(None if for_all else WORKER.public, m.record(message), self.now)
        self._drain()

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.session.tick(self.now)
        self._drain()

    def _drain(self) -> None:
        new = self.session.effects()
        self.effects += new
        if any(isinstance(effect, LoadProgram) for effect in new):
            self.session.loaded(ProgramLoaded(STATE, 64, 8, "stock", "", ""), self.now)
            self._drain()

    def sent(self, kind: type) -> list[m.Up]:
        said = [m.from_worker(effect.message) for effect in self.effects if isinstance(effect, SendMessage)]
        return [one for one in said if isinstance(one, kind)]

    def executing(self) -> list[ExecuteTask]:
        return [effect for effect in self.effects if isinstance(effect, ExecuteTask)]


def setup(first: e.Begin) -> m.Setup:
    bare = m.Setup(
        version=m.VERSION, begin=encode(first), head="", program_blob=bytes(32), program_size=1, program=b"p",
        fields=[Field("x", "u8", (8,), "input", 1.0)],
    )  # fmt: skip
    return sign_setup(bare, MANAGER)


def task(seat: int, round: int = 0) -> m.DealTask:
    parameters = blob_digest(STATE.data)
    named = Task(RUN, round, bytes(32), parameters, bytes(32), bytes(32))
    return m.DealTask(deal_id=bytes(8), seat=seat, task=named, count=1, blob=bytes(32), size=8, examples=LINE)


@pytest.fixture
def victim() -> Iterator[Victim]:
    made = Victim()
    made.hear(setup(begin()))
    made.hear(m.Welcome(number=0, at=2**63 - 1))
    assert made.sent(m.JoinRequest)
    digest = blob_digest(STATE.data)
    made.hear(m.Parameters(digest=digest, size=64, data=STATE.data), for_all=True)
    yield made


def test_a_flood_of_tasks_is_given_back_beyond_some(victim: Victim) -> None:
    for seat in range(2000):
        victim.hear(task(seat))
    assert len(victim.executing()) == LEAST_AHEAD, "no more is begun than can be kept busy"
    failed = victim.sent(m.TaskFailed)
    assert len(failed) == 2000 - MOST_IN_HAND and "too many tasks" in str(failed[0])
    victim.tick(2.0)
    (beat,) = [one for one in victim.sent(m.Heartbeat) if isinstance(one, m.Heartbeat)][-1:]
    assert len(beat.in_hand) == MOST_IN_HAND


def test_tasks_that_fail_do_not_fill_the_terminal(victim: Victim) -> None:
    for seat in range(500):
        victim.hear(task(seat))
        victim.session.executed(TaskNotExecuted(victim.executing()[-1].number, ESCAPES), victim.now)
        victim._drain()
    shown = [event for event in victim.told if isinstance(event, events.Failed)]
    assert 0 < len(shown) < 50 and len(victim.sent(m.TaskFailed)) == 500


def test_updates_are_given_back_when_their_round_is_over_and_when_nobody_waits_for_them(victim: Victim) -> None:
    victim.hear(task(0))
    victim.hear(task(1))
    first, second = victim.executing()
    update = np.zeros(64, np.uint8)
    victim.session.executed(TaskExecuted(first.number, 5, update, update.data, bytes(32), 0.0, 0.0), victim.now)
    victim.hear(task(0, round=1))
    victim.session.executed(TaskExecuted(second.number, 6, update, update.data, bytes(32), 0.0, 0.0), victim.now)
    victim._drain()
    assert {effect.slot for effect in victim.effects if isinstance(effect, FreeUpdate)} == {5, 6}


def test_a_task_without_end_holds_up_no_leaving_and_no_heartbeat(victim: Victim) -> None:
    victim.hear(task(0))
    victim.reason = "stopped by its owner"
    beats = len(victim.sent(m.Heartbeat))
    for _ in range(int(LEAVE_SECONDS)):
        victim.tick(1.0)
        assert victim.session.outcome is None
    victim.tick(1.5)
    assert victim.session.outcome is not None and victim.session.outcome.how == "left"
    assert len(victim.sent(m.Heartbeat)) - beats >= LEAVE_SECONDS / m.HEARTBEAT_SECONDS - 1


def test_an_identity_is_suspended_for_a_day_at_most(victim: Victim) -> None:
    victim.hear(m.Dismissed(reason=ESCAPES, seconds=2**63 - 1))
    asked = len(victim.sent(m.JoinRequest))
    victim.hear(m.ManagerHello(run=RUN))
    assert len(victim.sent(m.JoinRequest)) == asked
    victim.now += LONGEST_SUSPENSION
    victim.hear(m.ManagerHello(run=RUN))
    assert len(victim.sent(m.JoinRequest)) == asked + 1


def test_a_manager_that_names_run_after_run_is_left() -> None:
    victim = Victim()
    for number in range(2 * MAX_RUNS):
        victim.hear(setup(begin(number.to_bytes(32, "big"))))
    assert victim.session.outcome is not None and victim.session.outcome.how == "declined"
    assert sum(isinstance(effect, LoadProgram) for effect in victim.effects) <= MAX_RUNS


def test_a_run_that_is_said_to_be_complete_ends_though_receipts_never_come(victim: Victim) -> None:
    victim.hear(m.RunFinished(outcome="complete", reason=ESCAPES, entries=2**63 - 1))
    for _ in range(20):
        victim.tick(1.0)
    assert victim.session.outcome is not None and victim.session.outcome.how == "complete"


def test_no_text_of_a_manager_steers_a_terminal(victim: Victim, capsys: pytest.CaptureFixture[str]) -> None:
    from podlt.cli.app import _tell
    from podlt.cli.event_writer import write_json

    victim.hear(m.Dismissed(reason=ESCAPES, seconds=1))
    victim.hear(m.RunFinished(outcome="stopped", reason=ESCAPES, entries=0))
    victim.hear(m.JoinRefused(reason=ESCAPES))
    lines: list[str] = []
    for event in victim.told:
        write_text(event, lines.append)
        write_json(event)
    _tell(f"this run does not let you work: {ESCAPES}", "", 3)
    captured = capsys.readouterr()
    assert any("pwned" in line for line in lines) and "pwned" in captured.out and "pwned" in captured.err
    for text in (*lines, *captured.out.split("\n"), *captured.err.split("\n")):
        assert text.isprintable(), text


def paid(tree: Tree, transfers: list[e.Transfer]) -> m.Receipts:
    """Receipts of an entry that a manager has put into a log of its own."""
    body = encode(e.Pay(at=1, round=tree.size, transfers=transfers))
    leaf, first = leaf_hash(body), tree.size
    path = tree.proof([leaf], first)
    tree.append(leaf)
    head = sign_head(Head(origin_of(RUN), tree.size, tree.root()), MANAGER)
    return m.Receipts(first=first, head=head, receipts=[m.Receipt(first, body, path)])


def test_receipts_fill_no_disk_and_credits_have_an_end(tmp_path: Path) -> None:
    books = WorkerBooks(BookFiles(tmp_path, 50_000), [WORKER.public], MANAGER.public)
    victim, tree = Victim(books), Tree()
    victim.hear(setup(begin()))
    victim.hear(m.Welcome(number=0, at=1))
    for _ in range(300):
        victim.hear(paid(tree, [e.Transfer("earn", 0, 2)] * 20), for_all=True)
    assert 0 < path_of(tmp_path, RUN).stat().st_size < 60_000
    assert victim.session.outcome is None and any(isinstance(event, events.Warned) for event in victim.told)
    with pytest.raises(StorageError, match="take more than"):
        BookFiles(tmp_path, 50_000).keep(RUN, [])
    rich, tree = Victim(), Tree()
    rich.hear(setup(begin()))
    rich.hear(m.Welcome(number=0, at=1))
    for _ in range(40):
        rich.hear(paid(tree, [e.Transfer("earn", 0, 2**60)]), for_all=True)
    account = rich.session.books.status.workers[WORKER.public.hex()]
    assert 0 < account.pending < 2**63 and msgspec.json.encode(account)


def test_why_a_program_cannot_be_loaded_ends_the_worker_with_a_sentence() -> None:
    from podlt.engine.isolated.interface import LoadRefused

    victim = Victim()
    with pytest.raises(EngineError, match="more memory"):
        victim.session.loaded(LoadRefused(EngineError("this run needs more memory than there is")), victim.now)
