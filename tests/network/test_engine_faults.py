"""What workers and links can do wrong, on links of one process: nobody honest pays for it, and the run ends."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from hub import CrewLink, Hub, until
from small_runs import CLASSIC, seeded, small_recipe, tiny_recipe, train
from test_engine import crews, keys, run, whole

from podlt.errors import InvalidProofError, StopTraining
from podlt.execution import fingerprint
from podlt.execution.worker_runtime import WorkerRuntime
from podlt.manager import events as ev
from podlt.protocol.messages import JoinSignatures, JoinTerms, Task
from podlt.remote.session.facts import Timing
from podlt.remote.session.peers import Deadline, ListeningClock
from podlt.remote.workplace import RemoteMachines
from podlt.wire import messages as m
from podlt.worker.books import NoStore, WorkerBooks
from podlt.worker.effects import DropKey
from podlt.worker.identity import WorkerExit
from podlt.worker.session import WorkerSession

UNSIGNED = JoinSignatures(bytes(64), bytes(64))


def test_a_machine_that_computes_other_bits_is_refused_with_the_operation_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, right = Hub(), fingerprint.measured
    turn = itertools.count()

    def measured(arithmetic: str, device: str) -> fingerprint.Arithmetic:
        return fingerprint.Arithmetic("other bits", "gelu") if next(turn) == 0 else right(arithmetic, device)

    monkeypatch.setattr(fingerprint, "measured", measured)
    made = crews(hub, tmp_path, 1, 1, 1, 1)
    trained = run(hub, tmp_path / "run", tiny_recipe())
    whole(trained)
    assert len(trained.state.workers) == 3
    (refused,) = [crew for crew in made if (outcome := crew.join()) is not None and outcome.how == "refused"]
    assert refused.outcome is not None and refused.outcome.reason.endswith("first differing operation: gelu")


def test_a_worker_that_falls_silent_is_let_go_and_its_task_is_dealt_again(tmp_path: Path) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 4, 4)
    cut: list[int] = []

    def listen(event: ev.Event) -> None:
        events.append(event)
        if isinstance(event, ev.RoundDone) and event.round == 3:
            made[1].cut = True
            cut.append(event.round)

    events: list[ev.Event] = []
    import podlt.api

    place = RemoteMachines(hub.connect, silence_timeout=1.5, heartbeat_seconds=hub.beat)
    result = podlt.api.train(small_recipe(), run=tmp_path / "run", listener=listen, place=place, entropy=seeded(1))
    withdrawn = [event for event in events if isinstance(event, ev.Withdrawn)]
    assert len(withdrawn) == 4 and all("not heard" in event.reason for event in withdrawn)
    assert cut and not result.evicted


def test_too_few_workers_wait_for_others_instead_of_stopping(tmp_path: Path) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 1, 2)
    late = keys(2, 3)
    came: list[CrewLink] = []
    joined: set[str] = set()
    told: list[type[ev.Event]] = []

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.Waiting | ev.Gathered | ev.RoundDone | ev.Started):
            told.append(type(event))
        if isinstance(event, ev.RoundDone) and event.round == 1:
            made[1].gone = "it has enough"
        if isinstance(event, ev.Waiting) and event.workers < event.wanted == 3 and not came and made[1].gone:
            came.append(CrewLink(hub, late, tmp_path / "late"))
            came[0].begin(hub.manager)
        if isinstance(event, ev.Joined):
            joined.add(event.key)
        if isinstance(event, ev.RoundDone) and {key.public.hex() for key in late} <= joined:
            raise StopTraining("they all work")

    import podlt.api

    recipe = tiny_recipe(epochs=10_000, protocol=CLASSIC)  # it goes on until the others came, whenever that is
    place = RemoteMachines(hub.connect, heartbeat_seconds=hub.beat)
    result = podlt.api.train(recipe, run=tmp_path / "run", listener=listen, place=place, entropy=seeded(1))
    assert came and not result.evicted
    assert len(result.ledger) == 5
    changes = [kind for kind, _ in itertools.groupby(told)]
    waits = [i for i, kind in enumerate(changes) if kind is ev.Waiting]
    assert waits and all(changes[i + 1] is ev.Gathered for i in waits)


def test_who_leaves_is_paid_for_what_it_has_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    made = crews(hub, tmp_path, 4, 2)
    execute = WorkerRuntime.run
    at_work: list[int] = []

    def executed(self: WorkerRuntime, holder: int, task: Task, *rest: Any) -> Any:
        if self is made[1].executor.host._runtime and task.round >= 2:
            made[1].gone = "stopped by its owner"  # in the middle of a task
            at_work.append(task.round)
        return execute(self, holder, task, *rest)

    monkeypatch.setattr(WorkerRuntime, "run", executed)
    trained = train(
        tmp_path / "run",
        small_recipe(workers=6, epochs=4),
        place=RemoteMachines(hub.connect, heartbeat_seconds=hub.beat),
        entropy=seeded(1),
    )
    outcome = made[1].join()
    assert outcome is not None and (outcome.how, outcome.reason) == ("left", "stopped by its owner")
    books = made[1].books
    assert books is not None and books.settled == at_work[-1]
    reasons = [event.reason for event in trained.of(ev.Withdrawn)]
    assert reasons == ["left: stopped by its owner"] * 2
    assert max(earned.tasks for earned in books.status.workers.values()) > at_work[-1]  # some were dealt again to it
    for earned in books.status.workers.values():  # each went on until its work was in the log
        account = trained.result.ledger[earned.number]
        assert earned.vested + earned.pending == account.vested > 0
        assert account.pending == 0


def test_who_is_refused_while_parameters_come_hears_why() -> None:
    """Both in one batch: nobody is left then who could ask for the parameters."""
    (key,) = keys(1, 0)
    begun = Mock(announced=lambda coming, now: session._identities.any_key(), next_task=lambda now: None)
    books = WorkerBooks(NoStore(), [key.public], bytes(32))
    session = WorkerSession([key], bytes(32), books, process=bytes(8), wall=lambda: 1)
    session._run = begun
    refused, parameters = (
        m.JoinRefused(reason="evicted"),
        m.Parameters(digest=bytes(32), size=8),
    )
    session.receive(key.public, m.record(refused), 0.0)
    session.receive(None, m.record(parameters), 0.0)
    assert session.outcome == WorkerExit("refused", "evicted")
    assert session.effects() == [DropKey(key.public)]


def test_a_worker_whose_welcome_was_lost_asks_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    made, lost = crews(hub, tmp_path, 2, 2), list[bytes]()
    carry = Hub.carry

    def carried(self: Hub, box: Any, key: bytes | None, message: bytes) -> None:
        if box is self.up or not isinstance(m.from_manager(message), m.Welcome) or len(lost) == 4:
            return carry(self, box, key, message)
        assert key is not None
        lost.append(key)

    monkeypatch.setattr(Hub, "carry", carried)
    trained = run(hub, tmp_path / "run", tiny_recipe(workers=4))
    whole(trained)
    assert len(lost) == 4 and not trained.of(ev.Withdrawn)
    assert all(crew.join() is not None for crew in made)


def test_noise_from_a_stranger_changes_nothing(tmp_path: Path) -> None:
    hub = Hub()
    crews(hub, tmp_path, 2, 2)
    stranger = keys(1, 40)[0].public
    deal_id = bytes(8)
    answer = m.TaskDone(
        deal_id=deal_id,
        seat=0,
        commitment=bytes(32),
        signature=bytes(64),
        update=bytes(32),
        proof_seconds=0.0,
        compute_seconds=0.0,
    )
    strikes = [
        b"",
        b"\xff",
        b"\0",
        b"\1",
        b"\0" + bytes(600_000),
        m.record(m.Hello(version=99)),
        m.record(m.JoinRequest(run=bytes(32), process=bytes(8), arithmetic="")),
        m.record(m.SignedJoin(run=bytes(32), terms=JoinTerms(0, 0, 0, bytes(32)), signatures=UNSIGNED)),
        m.record(m.Heartbeat(deal_id=b"", in_hand=[0, 1, 2])),
        m.record(answer),
        bytes(600),
        m.record(m.Openings(deal_id=deal_id, opened=[])),
        m.record(m.GetParameters(digest=bytes(32))),
        m.record(m.TaskFailed(deal_id=deal_id, seat=0, reason="x")),
        m.record(m.Leave(reason="")),
    ]

    def listen(event: ev.Event) -> None:
        for message in strikes:
            hub.up.put(stranger, message)

    trained = train(
        tmp_path / "run",
        tiny_recipe(workers=4),
        place=RemoteMachines(
            lambda job: (hub.connect(job), listen(ev.Preparing(what="")))[0], heartbeat_seconds=hub.beat
        ),
        entropy=seeded(1),
    )
    whole(trained)
    assert len(trained.state.workers) == 4 and not trained.of(ev.Withdrawn)


IMPOSSIBLE = [float("nan"), float("inf"), -float("inf"), -1e300, 1e300, -1e-9]


@pytest.mark.parametrize("field", ["proof_seconds", "compute_seconds"])
@pytest.mark.parametrize("seconds", IMPOSSIBLE)
def test_an_answer_that_took_an_impossible_time_is_malformed(field: str, seconds: float) -> None:
    digest = bytes(32)
    answer = m.TaskDone(
        deal_id=bytes(8),
        seat=0,
        commitment=digest,
        signature=bytes(64),
        update=digest,
        proof_seconds=0.5,
        compute_seconds=86_400.0,
    )
    assert m.from_worker(m.record(answer)) == answer
    with pytest.raises(InvalidProofError, match="malformed"):
        m.from_worker(m.record(msgspec.structs.replace(answer, **{field: seconds})))


class Liar(CrewLink):
    """A crew whose answers say that they took no number of seconds."""

    def send(self, key: bytes, message: bytes) -> None:
        said = m.from_worker(message)
        if isinstance(said, m.TaskDone):
            message = m.record(msgspec.structs.replace(said, compute_seconds=float("nan")))
        super().send(key, message)


def test_a_worker_that_lies_about_its_seconds_is_let_go_and_the_run_goes_on(tmp_path: Path) -> None:
    hub = Hub()
    Liar(hub, keys(1, 0), tmp_path / "liar")
    for number in (1, 2, 3):
        CrewLink(hub, keys(1, number), tmp_path / f"honest{number}")
    trained = run(hub, tmp_path / "run", tiny_recipe(workers=4))
    withdrawn = trained.of(ev.Withdrawn)
    whole(trained, gone={event.worker for event in withdrawn})
    assert withdrawn and all("malformed message" in event.reason for event in withdrawn)


@pytest.mark.slow
def test_what_is_said_to_all_before_a_worker_knows_the_run_does_it_no_harm(tmp_path: Path) -> None:
    """A worker that starts while a run goes on hears of rounds first: those messages once ended it."""
    hub = Hub()
    made = crews(hub, tmp_path, 3)
    late = CrewLink(hub, keys(1, 3), tmp_path / "late")
    hub.crews.remove(late)
    early = [
        m.record(m.Receipts(first=0, head="x", receipts=[])),
        m.record(m.OpenCommitments(deal_id=bytes(8), round=0, receipts=[])),
        m.record(m.Parameters(digest=bytes(32), size=10)),
    ]

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == 0:
            for message in early:
                late.box.put(None, message)
            hub.crews.append(late)
            late.begin(hub.manager)

    import podlt.api

    place = RemoteMachines(hub.connect, heartbeat_seconds=hub.beat)
    recipe = small_recipe(workers=3, epochs=12)
    result = podlt.api.train(recipe, run=tmp_path / "run", listener=listen, place=place, entropy=seeded(1))
    for crew in [*made, late]:
        outcome = crew.join()
        assert outcome is not None and outcome.how == "complete"
    assert len(result.ledger) == 4


def test_time_in_which_the_manager_was_stopped_counts_against_nobody() -> None:
    listening = ListeningClock(0.0)
    listening.tick(0.5)
    assert listening.now == 0.5
    listening.tick(100.0)  # it was stopped for a hundred seconds
    assert listening.now == 1.5
    listening.tick(101.0, connected=False)
    assert listening.now == 1.5


def test_who_lets_machines_be_away_for_longer_waits_longer_before_a_task_goes_to_another() -> None:
    """A process that was killed and starts again holds both copies of a task as it may: it would be withdrawn first."""
    assert Timing.of(None, 2.0, None) == Timing(15.0, 2.0, 1.0) and Timing.of(3.0, 2.0, None).late == 1.0
    assert Timing.of(120.0, 2.0, None).late == 8.0 and Timing.of(120.0, 2.0, 0.5).late == 0.5


def test_a_task_is_late_by_what_the_others_took() -> None:
    pace = Deadline(Timing(10.0))
    pace.dealt(4)
    assert pace.limit() > 100
    pace.answered(2.0)
    assert pace.limit() > 100
    pace.answered(3.0)
    assert 10 < pace.limit() < 40
    pace.dealt(4)
    assert pace.limit() > 100


@pytest.mark.slow
def test_a_worker_that_comes_back_is_not_asked_to_wait(tmp_path: Path) -> None:
    """A crew whose link is cut for longer than the silence timeout joins again, with the same numbers."""
    hub = Hub()
    made = crews(hub, tmp_path, 3, 2)
    events: list[ev.Event] = []

    def listen(event: ev.Event) -> None:
        events.append(event)
        if isinstance(event, ev.RoundDone) and event.round == 2:
            made[1].cut = True
        if isinstance(event, ev.Withdrawn):
            made[1].cut = False

    import podlt.api

    place = RemoteMachines(hub.connect, silence_timeout=1.0, heartbeat_seconds=hub.beat)
    recipe = small_recipe(workers=5, epochs=8)
    result = podlt.api.train(recipe, run=tmp_path / "run", listener=listen, place=place, entropy=seeded(1))
    back = {event.worker for event in events if isinstance(event, ev.Joined) and event.again}
    gone = {event.worker for event in events if isinstance(event, ev.Withdrawn)}
    assert gone and back == gone and len(result.ledger) == 5
    until(lambda: made[0].outcome is not None)
