"""Tasks that are dealt again: lost ones, and late ones whose holder may still answer. Whoever takes one was drawn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from podlt.errors import InvalidProofError, TooFewWorkersError
from podlt.protocol import entries as e
from podlt.protocol import redeal
from podlt.protocol.claims import Claim
from podlt.protocol.draw import Roles
from podlt.protocol.options import CLASSIC, RuleOptions
from podlt.protocol.redeal import Redealer
from podlt.protocol.roster import Roster
from podlt.sim.world import Scenario

from .steps_of_a_round import answer_in_full, answered, fresh, opened, refused
from .test_draws import Preset, dealt, guarded, near, roster_of


def round_of(
    workers: int, shards: int, seed: bytes = b"", options: RuleOptions = CLASSIC, operators: Sequence[str] = ()
) -> tuple[Roster, Roles]:
    roster = roster_of(workers, operators)
    return roster, dealt(options, roster, shards, seed, 2)


@Preset
def test_the_manager_cannot_choose_who_takes_over_a_task(scenario: Scenario) -> None:
    world = fresh(8, scenario)
    victim = opened(world)[0].holder
    drawn = world.manager.withdraw(victim, "gone")[0].holder
    replays = 0
    for holder in set(range(8)) - {victim}:
        other = fresh(8, scenario)
        answered_by = opened(other)
        other.state.apply(e.Withdraw(at=other.state.at, worker=victim, reason="gone"))
        other.state.apply(e.Redeal(at=other.state.at, round=0, seat=victim, holder=holder))
        moved = [msgspec.structs.replace(a, holder=holder) if a.seat == victim else a for a in answered_by]
        reveal = answer_in_full(other, moved)
        if holder == drawn:
            other.state.apply(reveal)
            replays += 1
        else:
            assert refused(other.state, reveal).step == Claim.DRAWS
    assert replays == 1


@Preset
def test_a_task_of_a_worker_that_withdrew_must_be_dealt_again(scenario: Scenario) -> None:
    world = fresh(6, scenario)
    answered(world)
    seat = min(world.manager.roles.seats)
    world.state.apply(e.Withdraw(at=world.state.at, worker=seat, reason="after it was opened"))
    with pytest.raises(InvalidProofError, match="commitments are not those of the tasks") as caught:
        world.manager.reveal()
    assert caught.value.step == Claim.DRAWS


def test_a_task_cannot_be_dealt_again_in_classic_while_its_holder_is_there() -> None:
    world = fresh()
    opened(world)
    entry = e.Redeal(at=world.state.at, round=0, seat=1, holder=2)
    assert refused(world.state, entry).step == Claim.PROGRESS
    assert world.manager.back_up(1) is None


@pytest.mark.parametrize("gone", [1, 7])
def test_who_takes_over_is_uniform_over_those_who_may(gone: int) -> None:
    roster, roles = round_of(12, 2)
    idle = [worker for worker in roster.workers if worker not in roles.seats]
    victim = next(worker for worker in roles.seats if roles.seats[worker] not in roles.checked)
    leaving = [victim, *idle[: gone - 1]]
    may = [worker for worker in roster.workers if worker not in leaving]
    times, rounds = Counter[int](), 4000
    for i in range(rounds):
        again = Redealer(i.to_bytes(8, "big"), roles, roster)
        for worker in leaving:
            again.leave(worker)
        holder = again.deal(victim)
        assert holder is not None
        times[holder] += 1
    assert set(times) <= set(may)
    # Of two draws the one with fewer tasks: who has none is drawn for whoever has one.
    free = [worker for worker in may if worker not in roles.seats]
    busy = len(may) - len(free)
    chance = (1 - (busy / len(may)) ** 2) / len(free)
    for worker in may:
        expected = rounds * (chance if worker in free else busy / len(may) ** 2)
        assert abs(times[worker] - expected) < 5 * math.sqrt(expected), worker


@given(st.data())
def test_dealing_again_is_replayed_and_gives_nobody_two_tasks_of_a_shard(data: st.DataObject) -> None:
    """Workers leave one by one, and tasks are backed up between: whoever replays it draws the same."""
    workers = data.draw(st.integers(3, 12))
    options = data.draw(st.sampled_from([CLASSIC, guarded(0.5)]))
    shards = data.draw(st.integers(1, workers - 2))
    operators = data.draw(st.lists(st.sampled_from(["", "a", "b"]), min_size=12, max_size=12))
    roster, roles = round_of(workers, shards, data.draw(st.binary(max_size=4)), options, operators)
    secret = data.draw(st.binary(min_size=32, max_size=32))
    live, moves = Redealer(secret, roles, roster), list[tuple[int, int | None]]()
    holders, gone = {seat: [seat] for seat in roles.seats}, set[int]()

    def deal(seat: int) -> None:
        holder = live.deal(seat)
        shard = roles.seats[seat]
        same = {h for s, found in holders.items() if roles.seats[s] == shard for h in found}
        if holder is None:
            assert set(roster.workers) <= gone | same
            return
        assert holder not in gone and holder not in same
        holders[seat].append(holder)
        moves.append((seat, holder))

    for worker in data.draw(st.permutations(sorted(roster.workers))):
        if data.draw(st.booleans()):
            deal(data.draw(st.sampled_from(sorted(holders))))
            continue
        live.leave(worker)
        gone.add(worker)
        moves.append((worker, None))
        for seat, found in holders.items():
            if worker in found:
                found.remove(worker)
                if not found:
                    deal(seat)
    again = Redealer(secret, roles, roster)
    for seat, holder in moves:
        if holder is None:
            again.leave(seat)
        else:
            assert again.deal(seat) == holder


def test_what_is_drawn_for_a_task_does_not_depend_on_other_tasks() -> None:
    """Or a manager could choose who takes a task by what it deals again before."""
    roster, roles = round_of(40, 3, options=guarded(0.5))
    first, second = sorted(roles.seats)[:2]
    alone, after = Redealer(bytes(32), roles, roster), Redealer(bytes(32), roles, roster)
    after.deal(second)
    assert alone.deal(first) == after.deal(first)
    assert alone.deal(first) != Redealer(bytes(32), roles, roster).deal(first), "the second time another is drawn"


def test_a_backup_is_of_another_operator_where_there_are_some_and_of_the_same_where_there_are_none() -> None:
    seen = Counter[bool]()
    for i in range(300):
        roster, roles = round_of(20, 12, i.to_bytes(4, "big"), guarded(0.1), ["a"] * 14 + ["b"] * 6)
        seat = next(s for s in sorted(roles.seats) if roster.operator(s) == "a" and roles.seats[s] not in roles.checked)
        holder = Redealer(i.to_bytes(4, "big"), roles, roster).deal(seat)
        assert holder is not None
        seen[roster.operator(holder) == "a"] += 1
    assert seen[False] > 290  # one in 1,600 draws throws 16 of the same operator
    roster, roles = round_of(9, 3, b"", guarded(0.5), ["a"] * 9)
    assert Redealer(bytes(32), roles, roster).deal(min(roles.seats)) is not None


def test_who_has_a_rare_operator_does_not_get_every_task() -> None:
    taken, tasks = 0, 0
    for i in range(40):
        roster, roles = round_of(400, 300, i.to_bytes(4, "big"), guarded(0.01), ["a"] * 399 + ["b"])
        again, rare = Redealer(i.to_bytes(4, "big"), roles, roster), max(roster.workers)
        for seat in sorted(set(roles.seats) - {rare})[:25]:
            taken, tasks = taken + (again.deal(seat) == rare), tasks + 1
    assert taken < tasks / 15  # 16 throws of 400 find it with a chance of 0.04, twice


def test_nobody_is_left_who_may_take_a_checked_task_of_three() -> None:
    roster, roles = round_of(3, 1)
    again = Redealer(bytes(32), roles, roster)
    victim = roles.group(0)[0]
    again.leave(victim)
    assert again.deal(victim) is None


def test_the_manager_stops_when_nobody_is_left_who_may_take_a_task() -> None:
    world = fresh(3)
    opened(world)
    with pytest.raises(TooFewWorkersError, match="nobody is left"):
        world.manager.withdraw(0, "gone")


@pytest.mark.parametrize("tries", [0, 1, 16])
def test_the_list_of_who_is_left_gives_each_of_them_the_same_chance(
    tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redeal, "TRIES", tries)
    roster, roles = round_of(8, 1)
    victim, *others = roles.group(0)
    idle = [worker for worker in roster.workers if worker not in roles.seats]
    early, late = idle[0], idle[1]
    times, rounds = Counter[int](), 3000
    for i in range(rounds):
        again = Redealer(i.to_bytes(8, "big"), roles, roster)
        again.leave(early)
        again.leave(late)
        holder = again.deal(victim)
        assert holder is not None
        times[holder] += 1
    assert near(times, idle[2:], rounds) and not set(times) & set(others)


def test_a_list_is_made_once_and_only_where_most_have_left() -> None:
    roster, roles = round_of(400, 300)
    again = Redealer(bytes(32), roles, roster)
    for seat in sorted(roles.seats)[:150]:
        again.leave(seat)
        again.deal(seat)
    assert again._left is None


@Preset
def test_a_task_that_nobody_had_cannot_be_dealt_again(scenario: Scenario) -> None:
    world = fresh(6, msgspec.structs.replace(scenario, examples=2, batch_size=2))
    tasks = opened(world)
    idle = next(n for n in range(6) if n not in {a.seat for a in tasks})
    other = next(n for n in range(6) if n != idle)
    world.state.apply(e.Withdraw(at=world.state.at, worker=idle, reason=""))
    world.state.apply(e.Redeal(at=world.state.at, round=0, seat=idle, holder=other))
    reveal = answer_in_full(world, tasks)
    assert refused(world.state, reveal).step == Claim.DRAWS
