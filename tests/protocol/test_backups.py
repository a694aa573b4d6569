"""Backups: a task of who is late goes to one more worker; whoever answers in time is compared and paid."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import hypothesis.strategies as st
import msgspec
import pytest
from examples_drawn import examples
from hypothesis import given
from scripted import failing, moods, replay, scripted_world, verified

from podlt.errors import PeerError, TooFewWorkersError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import Assignment
from podlt.recipe import ProtocolSpec
from podlt.sim.world import Scenario, World

from .steps_of_a_round import answer_in_full, fresh, opened, refused

MANY = Scenario(examples=400, batch_size=40, protocol=ProtocolSpec(checked=0.2, own=0.0, escrow=4))
"""Ten workers or so, most of whom have a shard of their own."""


def begun(workers: int = 10) -> tuple[World, list[Assignment]]:
    world = fresh(workers, MANY)
    return world, opened(world)


def lone(world: World, tasks: list[Assignment]) -> Assignment:
    """A task of a shard that nobody else has."""
    return next(a for a in tasks if a.shard not in world.manager.roles.checked)


def commit(world: World, *assignments: Assignment) -> list[bool]:
    return [world.manager.committed(world.players[a.holder].commit(a)[0]) for a in assignments]


def open_all(world: World) -> None:
    due = set(world.manager.unopened())
    for player in world.players:
        for message, uploaded in player.open(world.state.round):
            if (message.seat, message.holder) in due:
                world.manager.opened(message, uploaded)


def test_a_backup_answers_and_the_late_one_is_ignored() -> None:
    world, tasks = begun()
    late = lone(world, tasks)
    commit(world, *(a for a in tasks if a != late))
    backup = world.manager.back_up(late.seat)
    assert backup is not None and backup.seat == late.seat and backup.holder != late.holder
    assert backup.task == late.task and not world.manager.all_committed
    assert commit(world, backup) == [True] and world.manager.all_committed
    world.manager.commit()
    assert commit(world, late) == [False]
    message = next(m for m, _ in world.players[late.holder].open(0) if m.seat == late.seat)
    assert not world.manager.opened(message), "it is no fault to have been late"
    with pytest.raises(PeerError, match="no opening"):
        world.manager.opened(msgspec.structs.replace(message, seat=tasks[0].seat + 99))
    open_all(world)
    world.manager.reveal()
    round = world.state.revealed
    assert list(round.answers[late.shard]) == [backup.holder] and late.shard not in round.due()
    assert late.holder not in world.state.dues()[0] and len(world.state.dues()[0][backup.holder]) == 2


def test_both_answer_and_both_are_compared_and_paid() -> None:
    world, tasks = begun()
    slow = lone(world, tasks)
    backup = world.manager.back_up(slow.seat)
    assert backup is not None
    commit(world, backup, *tasks)
    world.manager.commit()
    open_all(world)
    world.manager.reveal()
    round = world.state.revealed
    assert set(round.answers[slow.shard]) == {slow.holder, backup.holder} and slow.shard in round.due()
    assert len(world.state.dues()[0][backup.holder]) == 2 and len(world.state.dues()[0][slow.holder]) == 1
    assert {slow.holder, backup.holder} <= set(round.passed())


def test_the_first_answers_in_time_and_its_backup_too_late() -> None:
    world, tasks = begun()
    slow = lone(world, tasks)
    backup = world.manager.back_up(slow.seat)
    assert backup is not None
    commit(world, *tasks)
    world.manager.commit()
    assert commit(world, backup) == [False]


def test_a_backup_that_fakes_is_convicted_and_not_who_was_slow() -> None:
    world, tasks = begun()
    slow = lone(world, tasks)
    backup = world.manager.back_up(slow.seat)
    assert backup is not None
    commit(world, *tasks)
    moods(world)[backup.holder].mood = "fake"
    commit(world, backup)
    world.manager.commit()
    open_all(world)
    world.manager.reveal()
    assert world.manager.to_execute() == [slow.shard]
    verdicts = world.manager.judge({slow.shard: world.honest_result(slow.task)})
    assert [v.convicted for v in verdicts if v.convicted] == [[backup.holder]]
    assert world.manager.uploads()[slow.shard] == (slow.seat, slow.holder)


def test_there_is_one_backup_at_a_time_and_none_of_what_is_answered_or_nobodys() -> None:
    world, tasks = begun()
    late, other = [a for a in tasks if a.shard not in world.manager.roles.checked][:2]
    commit(world, other)
    assert world.manager.back_up(other.seat) is None
    first = world.manager.back_up(late.seat)
    assert first is not None and world.manager.back_up(late.seat) is None
    idle = set(range(10)) - {a.seat for a in tasks}
    assert all(world.manager.back_up(seat) is None for seat in (*idle, 99))
    assert not any(a.seat == late.seat for a in world.manager.withdraw(first.holder, "gone"))
    second = world.manager.back_up(late.seat)
    assert second is not None and second.holder not in (first.holder, late.holder)


def test_a_backup_takes_over_where_the_first_is_lost() -> None:
    world, tasks = begun()
    late = lone(world, tasks)
    backup = world.manager.back_up(late.seat)
    assert backup is not None
    commit(world, *tasks)
    world.manager.commit()
    assert world.manager.withdraw(late.holder, "no opening") == [] and not world.manager.all_committed
    assert commit(world, backup) == [True]
    world.manager.commit()
    open_all(world)
    world.manager.reveal()
    assert list(world.state.revealed.answers[late.shard]) == [backup.holder]
    assert world.state.workers[late.holder].left_bound == 1 and world.state.workers[backup.holder].left_bound == 0


def test_a_backup_that_nobody_may_take_moves_no_later_draw() -> None:
    """It is not in the log, so whoever replays the round does not count it."""
    scenario = Scenario(examples=40, batch_size=2, protocol=ProtocolSpec(checked=1.0, own=0.0))
    world, log = scripted_world(scenario, 4)
    tasks = opened(world)
    seat = tasks[0].seat
    backups = [world.manager.back_up(a.seat) for a in tasks]
    gone = next(b.holder for b in backups if b is not None and b.seat == seat)
    pair = [a for a in tasks if a.shard == tasks[0].shard]
    assert all(world.manager.back_up(a.seat) is None for a in pair)
    again = world.manager.withdraw(gone, "gone")
    assert not again or all(a.holder != gone for a in again)
    world._collect(deque_of(world, tasks, backups, again))
    world.manager.reveal()
    world.manager.judge({})
    world.manager.apply(bytes(32), bytes(32), 0.0)
    world.manager.pay()
    world.write()
    assert not failing(verified(world, log)) and replay(log).round == 1


def deque_of(world: World, *assignments: Sequence[Assignment | None]) -> deque[Assignment]:
    there = [a for found in assignments for a in found if a is not None and world.state.is_active(a.holder)]
    return deque(there)


@pytest.mark.parametrize(
    ("what", "seat", "holder", "claim"),
    [
        ("a stranger's task", 99, 1, Claim.PROGRESS),
        ("to a stranger", 0, 99, Claim.PROGRESS),
        ("to its holder", 0, 0, Claim.PROGRESS),
    ],
)
def test_a_task_is_backed_up_only_by_somebody_else_who_is_there(
    what: str, seat: int, holder: int, claim: Claim
) -> None:
    world, _ = begun()
    entry = e.Redeal(at=world.state.at, round=0, seat=seat, holder=holder)
    assert refused(world.state, entry).step == claim, what


def test_a_third_holder_and_a_backup_of_what_is_committed_are_refused() -> None:
    world, tasks = begun()
    late, other = [a for a in tasks if a.shard not in world.manager.roles.checked][:2]
    backup = world.manager.back_up(late.seat)
    assert backup is not None
    third = next(n for n in range(10) if n not in (late.holder, backup.holder))
    assert (
        refused(world.state, e.Redeal(at=world.state.at, round=0, seat=late.seat, holder=third)).step is Claim.PROGRESS
    )
    commit(world, other)
    world.manager.commit()
    third = next(n for n in range(10) if n != other.holder)
    entry = e.Redeal(at=world.state.at, round=0, seat=other.seat, holder=third)
    assert refused(world.state, entry).step is Claim.PROGRESS


def test_a_backup_that_was_not_drawn_fails_at_the_reveal() -> None:
    world, tasks = begun()
    late = lone(world, tasks)
    drawn = world.manager.back_up(late.seat)
    assert drawn is not None
    other = fresh(10, MANY)
    tasks = opened(other)
    wrong = next(n for n in range(10) if n not in (drawn.holder, late.holder))
    other.state.apply(e.Redeal(at=other.state.at, round=0, seat=late.seat, holder=wrong))
    assert refused(other.state, answer_in_full(other, tasks)).step is Claim.DRAWS


def test_a_backup_does_not_change_what_is_drawn_next_but_by_its_salt() -> None:
    beacons = set[bytes]()
    for late in (False, True):
        world, tasks = begun()
        slow = lone(world, tasks)
        backup = world.manager.back_up(slow.seat)
        assert backup is not None
        commit(world, *tasks, *([backup] if late else []))
        world.manager.commit()
        open_all(world)
        world.manager.reveal()
        beacons.add(world.state.beacon)
    assert len(beacons) == 2


@examples(100)
@given(st.data())
def test_in_whatever_order_things_come_the_manager_writes_what_both_verifiers_accept(data: st.DataObject) -> None:
    """Commitments, backups, openings and losses, at any moment: an honest manager's own rules never refuse it."""
    rules = ProtocolSpec(checked=data.draw(st.sampled_from([0.0, 0.3, 1.0])), own=0.3, escrow=1)
    workers = data.draw(st.integers(1, 8))
    operators = dict(enumerate(data.draw(st.lists(st.sampled_from(["", "a"]), min_size=8, max_size=8))))
    scenario = Scenario(examples=60, batch_size=data.draw(st.integers(1, 12)), protocol=rules)
    world, log = scripted_world(scenario, workers, operators=operators)
    manager, state = world.manager, world.state
    waiting = opened(world)

    def lose(worker: int) -> None:
        if state.is_active(worker):
            waiting.extend(manager.withdraw(worker, "gone"))

    def commit_one(task: Assignment) -> None:
        if state.is_active(task.holder):
            manager.committed(world.players[task.holder].commit(task)[0])

    def open_one(worker: int) -> None:
        for message, uploaded in world.players[worker].open(0):
            if state.is_active(worker):
                manager.opened(message, uploaded)

    try:
        for _ in range(data.draw(st.integers(0, 30))):
            what = data.draw(st.sampled_from(["commit", "commit", "commit", "back up", "flush", "open", "lose"]))
            if what == "commit":
                commit_one(data.draw(st.sampled_from(waiting)))
            elif what == "back up":
                backup = manager.back_up(data.draw(st.integers(0, workers)))
                waiting.extend([backup] if backup else [])
            elif what == "flush":
                manager.commit()
            elif what == "open":
                open_one(data.draw(st.integers(0, workers - 1)))
            elif data.draw(st.integers(0, 3)) == 0:
                lose(data.draw(st.integers(0, workers - 1)))
        while not manager.all_opened:
            for task in list(waiting):
                commit_one(task)
            manager.commit()
            for worker in range(workers):
                open_one(worker)
    except TooFewWorkersError:
        world.stop("nobody is left")
    else:
        manager.reveal()
        manager.judge({f: world.honest_result(state.task(f)) for f in manager.to_execute()})
        manager.apply(bytes(32), bytes(32), 0.0)
        manager.pay()
    world.write()
    assert not failing(verified(world, log)) and not world.convicted_in
