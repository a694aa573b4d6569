"""The manager's session by itself: messages and the time in, effects and events out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from podlt.crypto import SigningKey, blob_digest
from podlt.data.field import Field
from podlt.engine.interface import Event, Lost, Member, TaskLate
from podlt.engine.local import frames
from podlt.events import HeldUp, NetworkEvent
from podlt.protocol.entries import Commitment
from podlt.protocol.messages import Assignment, Opened, Task
from podlt.protocol.receipt import Bound
from podlt.protocol.worker import Worker
from podlt.remote.session.facts import Chance, ServedRun
from podlt.remote.session.manager import ManagerSession
from podlt.remote.session.outbox import Drop, Effect, Send, Subscribe
from podlt.remote.session.shards import ShardExamples
from podlt.wire import messages as m

KEYS = [SigningKey(bytes([number + 1]) * 32) for number in range(3)]
UPDATE = np.arange(64, dtype=np.uint8)
RUN = bytes(range(32))


class NoPast:
    def missed(self, worker: int, first: int) -> None:
        return None

    def close(self) -> None:
        pass


class Wide:
    room = 2**30

    def room_for(self, key: bytes) -> int:
        return self.room


class Session:
    """A session with three members, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        served = ServedRun(SigningKey(bytes(32)), b"program", [Field("x", "u8", (4,), "input", None)], "a", 64, 64, 8)
        chance = Chance(lambda count: bytes(count), lambda: 0, lambda: 0.0)
        self.told: list[NetworkEvent] = []
        self.session = ManagerSession(
            served, np.zeros(64, np.uint8), Wide(), NoPast(), 0.0, chance, tell=self.told.append
        )
        for number, key in enumerate(KEYS):
            self.session.admitted(Member(key.public), number)
        self.workers = [Worker(number, key, RUN) for number, key in enumerate(KEYS)]
        self.effects()

    def effects(self) -> list[Effect]:
        return self.session.effects()

    def sent(self) -> list[tuple[bytes | None, str]]:
        """Whom something was sent to, and of which kind."""
        kinds = []
        for effect in self.effects():
            assert isinstance(effect, Send)
            kinds.append((effect.key, type(m.from_manager(effect.message)).__name__))
        return kinds

    def says(self, number: int, *messages: m.Message | bytes) -> list[Event]:
        """A worker says something; what comes of it."""
        for message in messages:
            raw = message if isinstance(message, bytes) else m.record(message)
            self.session.receive(KEYS[number].public, raw, self.now)
        return self.session.events()

    def passes(self, seconds: float, beating: Sequence[int] = ()) -> list[Event]:
        """Time goes on, while some send heartbeats."""
        until = self.now + seconds
        while self.now < until:
            self.now += 0.5
            for number in beating:
                beat = m.Heartbeat(deal_id=bytes(8), in_hand=[number])
                self.session.receive(KEYS[number].public, m.record(beat), self.now)
            self.session.tick(self.now)
        return self.session.events()

    def deal(self) -> None:
        examples = ShardExamples(np.zeros(4, np.uint8), bytes(4), bytes(32), 1)
        assignments = [Assignment(n, n, n, task(n)) for n in range(len(KEYS))]
        self.session.deal(assignments, dict.fromkeys(range(3), examples), self.now)
        self.effects()

    def back_up(self, seat: int, holder: int) -> None:
        """A task goes to one more worker."""
        examples = ShardExamples(np.zeros(4, np.uint8), bytes(4), bytes(32), 1)
        assignment = Assignment(seat, holder, seat, task(seat))
        self.session.deal([assignment], {seat: examples}, self.now, again=True)
        self.effects()

    def done(self, number: int, seat: int | None = None) -> m.TaskDone:
        """A worker's answer to its task, or to that of another's seat."""
        seat, digest = number if seat is None else seat, blob_digest(UPDATE.data)
        committed = self.workers[number].commit(seat, task(seat), digest)
        return m.TaskDone(
            deal_id=bytes(8),
            seat=seat,
            commitment=committed.commitment,
            signature=committed.signature,
            update=digest,
            proof_seconds=0.0,
            compute_seconds=0.0,
            data=UPDATE.data,
        )

    def bound(self, *copies: tuple[int, int]) -> Bound:
        """What the log has of these answers, by seat and holder; of everybody's own unless given."""
        each = copies or [(n, n) for n in range(len(KEYS))]
        made = [self.workers[holder].commit(seat, task(seat), blob_digest(UPDATE.data)) for seat, holder in each]
        return Bound(0, 0, [Commitment(c.seat, c.holder, c.commitment, c.signature) for c in made])

    def opening(self, number: int) -> m.Openings:
        opened: list[Opened] = self.workers[number].open(0)
        return m.Openings(deal_id=bytes(8), opened=opened)


def task(shard: int) -> Task:
    return Task(
        run=RUN,
        round=0,
        program=bytes(32),
        parameters=blob_digest(bytes(64)),
        shard=bytes([shard]) * 32,
        randomness=bytes(32),
    )


def test_answers_and_openings_come_out_as_events() -> None:
    run = Session()
    run.deal()
    for number in range(3):
        (event,) = run.says(number, run.done(number))
        assert isinstance(event, frames.Results) and event.done == [number]
        assert run.session.digest(number, number) == blob_digest(UPDATE.data)
    assert run.session.idle()
    run.session.open(run.bound())
    assert run.sent() == [(key.public, "OpenCommitments") for key in KEYS]
    (event,) = run.says(1, run.opening(1))
    assert isinstance(event, frames.HostOpenings) and [one.seat for one in event.opened] == [1]


def test_who_says_that_a_task_failed_and_opens_it_all_the_same_is_not_listened_to() -> None:
    """Found by seed 371 of the simulated network: the manager looked for an update that had never come, and died."""
    run = Session()
    run.deal()
    failed = m.TaskFailed(deal_id=bytes(8), seat=1, reason="no memory")
    (event,) = run.says(1, failed)
    assert isinstance(event, frames.ExecutionFailed) and event.holder == 1
    assert run.says(1, run.done(1), run.opening(1)) == []
    assert run.sent() == [(KEYS[1].public, "TooLate")]


def test_a_task_that_was_lost_is_sent_again_to_who_does_not_have_it() -> None:
    run = Session()
    run.deal()
    for number in (1, 2):
        run.says(number, run.done(number))
    assert run.passes(2.0) == [TaskLate(0, 0)]
    run.says(0, m.Heartbeat(deal_id=bytes(8), in_hand=[]))
    run.passes(1.0)
    assert (KEYS[0].public, "DealTask") in run.sent()


def late_by_one() -> Session:
    """Two have answered, and the third is late; who answered first stands in for it."""
    run = Session()
    run.deal()
    for number in (1, 2):
        run.says(number, run.done(number))
    assert run.passes(2.0, beating=[0]) == [TaskLate(0, 0)]
    run.back_up(0, 1)
    assert not run.session.idle()
    return run


def test_whoever_of_two_answers_before_the_round_is_opened_counts() -> None:
    run = late_by_one()
    assert run.says(1, run.done(1, seat=0)) and run.session.idle()
    (event,) = run.says(0, run.done(0))
    assert isinstance(event, frames.Results) and event.committed[0].holder == 0
    run.session.open(run.bound((0, 0), (0, 1), (1, 1), (2, 2)))
    assert [pace.missed for pace in run.session.paces()] == [0, 0, 0]
    assert [figures.late for figures in run.session.figures()] == [1, 0, 0]


def test_an_answer_after_the_round_was_opened_is_too_late_and_holds_nobody_up() -> None:
    run = late_by_one()
    run.says(1, run.done(1, seat=0))
    run.session.open(run.bound((0, 1), (1, 1), (2, 2)))
    assert run.sent() == [(KEYS[0].public, "TooLate"), *((KEYS[n].public, "OpenCommitments") for n in (1, 2))]
    assert run.says(0, run.done(0)) == [] and run.session.idle()
    assert [(pace.worker, pace.missed) for pace in run.session.paces()] == [(0, 1), (1, 0), (2, 0)]


def test_who_was_too_late_is_asked_after_all_if_its_stand_in_is_gone() -> None:
    """Found by seed 37 of the simulated network: nobody was asked for the task any more."""
    run = late_by_one()
    run.says(1, run.done(1, seat=0))
    run.session.open(run.bound((0, 1), (1, 1), (2, 2)))
    run.session.gone(1)
    assert not run.session.idle()
    (event,) = run.says(0, run.done(0))
    assert isinstance(event, frames.Results) and run.session.idle()


def test_whose_stand_in_is_late_as_well_is_let_go_for_a_while() -> None:
    run = late_by_one()
    lost, *late = run.passes(3.0, beating=[0, 1])
    assert isinstance(lost, Lost) and lost.worker == 0 and "stand in" in lost.reason
    assert late == [TaskLate(0, 1)] * 2  # as a second one, and as the only one
    told = [m.from_manager(effect.message) for effect in run.effects() if isinstance(effect, Send)]
    assert [said.seconds for said in told if isinstance(said, m.Dismissed)] == [10]


def test_where_nobody_is_heard_nobody_is_let_go_for_being_late() -> None:
    """The network is cut: connections that end, and silence, say who is gone."""
    run = late_by_one()
    assert not any(isinstance(event, Lost) for event in run.passes(3.0, beating=[]))
    assert any(isinstance(event, Lost) and "stand in" in event.reason for event in run.passes(3.0, beating=[2]))


def test_where_nobody_is_heard_nobody_is_let_go_for_an_opening() -> None:
    run = Session()
    run.deal()
    for number in range(len(KEYS)):
        run.says(number, run.done(number))
    run.session.open(run.bound())
    assert run.passes(12.0, beating=[]) == []
    lost = [event for event in run.passes(12.0, beating=[0, 1, 2]) if isinstance(event, Lost)]
    assert {event.worker for event in lost} == {0, 1, 2} and all("not opened" in event.reason for event in lost)


def test_who_was_late_before_is_waited_for_half_as_long() -> None:
    run = late_by_one()
    run.says(1, run.done(1, seat=0))
    run.deal()
    for number in (1, 2):
        run.says(number, run.done(number))
    assert run.passes(1.0, beating=[0]) == [TaskLate(0, 0)]


def test_who_is_not_heard_is_gone_and_who_computes_is_not() -> None:
    run = Session()
    run.deal()
    (lost,) = run.passes(16.0, beating=[0, 1])
    assert isinstance(lost, Lost) and lost.worker == 2 and "not heard" in lost.reason
    assert run.passes(16.0, beating=[0, 1]) == []


def test_time_in_which_the_manager_heard_nobody_makes_nobody_silent() -> None:
    run = Session()
    run.deal()
    run.session.tick(1000.0)
    run.session.tick(2000.0, connected=False)
    assert run.session.events() == []


@pytest.mark.parametrize(
    ("useless", "count"),
    [
        (m.record(m.Openings(deal_id=bytes(8), opened=[])), 3000),
        (m.record(m.GetParameters(digest=bytes(32))), 3000),
        (bytes(400_000), 50),
    ],
    ids=["many", "unknown parameters", "large"],
)
def test_who_floods_is_refused_and_dropped_and_not_listened_to_any_more(useless: bytes, count: int) -> None:
    run = Session()
    run.deal()
    events = run.says(2, *[useless] * count)
    assert [event.worker for event in events if isinstance(event, Lost)] == [2]
    unsubscribed, refused, dropped = run.effects()
    assert unsubscribed == Subscribe(KEYS[2].public, False) and dropped == Drop(KEYS[2].public)
    assert isinstance(refused, Send) and isinstance(m.from_manager(refused.message), m.JoinRefused)


def test_who_asks_a_few_times_for_parameters_of_a_round_that_is_over_stays_and_is_answered() -> None:
    run = Session()
    run.deal()
    over = m.record(m.GetParameters(digest=bytes(32)))
    assert run.says(2, *[over] * 20) == [] and run.effects() == []
    run.says(2, m.record(m.GetParameters(digest=blob_digest(bytes(64)))))
    (sent,) = run.effects()
    assert isinstance(sent, Send) and isinstance(m.from_manager(sent.message), m.Parameters)


def test_it_is_said_once_a_round_which_worker_holds_it_up() -> None:
    run = Session()
    run.deal()
    run.passes(1.0, beating=[0, 1, 2])
    run.says(0, run.done(0))
    assert run.passes(4.0, beating=[0, 1, 2]) == []
    assert not any(isinstance(event, HeldUp) for event in run.told), "two are missing: nobody holds it up alone"
    run.says(1, run.done(1))
    run.passes(12.0, beating=[0, 1, 2])
    (held,) = [event for event in run.told if isinstance(event, HeldUp)]
    assert (held.worker, held.round, held.others) == (2, 0, 5.0) and held.seconds == 15.0
    assert "worker 2 holds up round 0" in held.lines_for_people[0]


def test_of_each_worker_it_is_known_how_fast_it_is_and_when_it_was_heard() -> None:
    run = Session()
    run.deal()
    run.passes(2.0, beating=[0, 1])
    run.says(1, run.done(1))
    run.passes(1.0)
    figures = {one.worker: one for one in run.session.figures()}
    assert sorted(figures) == [0, 1, 2]
    assert figures[1].tasks == 1 and figures[1].seconds == 2.0 and figures[1].examples_per_second == 0.5
    assert figures[1].silent == 1.0 and figures[2].silent == 3.0
    assert figures[1].received > 64 and figures[0].sent > 0
