"""Draws: nothing that the manager may write in two ways decides one."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from podlt.crypto import digest
from podlt.dice import Dice
from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.draw import deal, deal_again
from podlt.protocol.claims import Claim
from podlt.sim.world import Scenario, World

from .scripted import scripted_world
from .steps_of_a_round import SCENARIO, answered, finished, fresh, opened, refused, to_settlement


def next_seats(world: World) -> dict[int, int]:
    opened(world)
    return world.state.roles(world.chain.secret(world.state.round)).seats


def test_how_commitments_are_grouped_does_not_change_the_next_draw() -> None:
    seats = []
    for groups in (1, 2, 5):
        world = fresh()
        answered(world, groups=groups)
        finished(world)
        seats.append(next_seats(world))
    assert seats[0] == seats[1] == seats[2]


def test_times_do_not_change_the_next_draw() -> None:
    worlds = [fresh(), fresh()]
    worlds[1]._now += 10**9
    for world in worlds:
        answered(world)
        finished(world)
    assert next_seats(worlds[0]) == next_seats(worlds[1])


def test_the_order_of_joining_does_not_change_who_sits_where() -> None:
    seats = []
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        world = World(SCENARIO, lambda gossip: [], fresh().seed, scripted_world(SCENARIO, 0)[1])
        world.begin()
        players = fresh().players
        for number in order:
            world.admit(players[number])
        keys = {world.state.workers[n].key: seat for n, seat in next_seats(world).items()}
        seats.append(keys)
    assert seats[0] == seats[1]


def test_a_worker_that_leaves_and_comes_back_does_not_change_the_next_draw() -> None:
    steady, toggled = fresh(), fresh()
    for _ in range(3):
        toggled.manager.lost(2, "toggled")
        toggled.admit(toggled.players[2])
    assert next_seats(steady) == next_seats(toggled)


def test_another_salt_or_another_worker_changes_the_next_draw() -> None:
    base, more = fresh(), fresh()
    more.players.append(fresh(7).players[6])
    more.admit(more.players[6])
    assert next_seats(base) != next_seats(more)


def test_the_manager_cannot_choose_who_takes_over_a_task() -> None:
    world = fresh(8)
    victim = opened(world)[0].holder
    drawn = world.manager.lost(victim, "gone")[0].holder
    replays = 0
    for holder in range(8):
        other = fresh(8)
        answered_by = opened(other)
        other.state.apply(e.Withdraw(at=other.state.at, worker=victim, reason="gone"))
        if holder == victim:
            continue
        other.state.apply(e.Redeal(at=other.state.at, round=0, origin=victim, holder=holder))
        commitments = []
        openings = []
        for assignment in answered_by:
            who = holder if assignment.origin == victim else assignment.holder
            moved = msgspec.structs.replace(assignment, holder=who)
            player = other.players[who]
            c = player.commit(moved)[0]
            commitments.append(e.Commitment(c.origin, c.holder, c.commitment, c.signature))
            shown = next(m for m, _ in player.open(0) if m.origin == assignment.origin)
            openings.append(e.Opening(shown.origin, shown.update, shown.salt))
        other.state.apply(e.Commit(at=other.state.at, round=0, commitments=commitments))
        reveal = e.Reveal(at=other.state.at, round=0, secret=other.chain.secret(0), openings=openings)
        if holder == drawn:
            other.state.apply(reveal)
            replays += 1
        else:
            assert refused(other.state, reveal).step == Claim.DRAWS
    assert replays == 1


def test_a_task_of_a_worker_that_withdrew_must_be_dealt_again() -> None:
    world = fresh()
    answered(world)
    manager = world.manager
    entry = e.Withdraw(at=world.state.at, worker=1, reason="after it was opened")
    world.state.apply(entry)
    with pytest.raises(InvalidProofError, match="not dealt again") as caught:
        manager.reveal()
    assert caught.value.step == Claim.DRAWS


def test_a_task_cannot_be_dealt_again_while_its_holder_is_there() -> None:
    world = fresh()
    opened(world)
    entry = e.Redeal(at=world.state.at, round=0, origin=1, holder=2)
    assert refused(world.state, entry).step == Claim.PROGRESS


@given(st.binary(min_size=32, max_size=32), st.integers(1, 200))
def test_dice_are_uniform_integers_below_their_bound(seed: bytes, n: int) -> None:
    dice = Dice(seed)
    assert all(0 <= dice.below(n) < n for _ in range(20))
    assert sorted(dice.shuffle(range(n))) == list(range(n))


def test_dice_follow_the_specification() -> None:
    words = digest("dice/1", bytes(32), (0).to_bytes(8, "big"))
    dice = Dice(bytes(32))
    assert [dice.below(2**64) for _ in range(4)] == [int.from_bytes(words[i : i + 8], "big") for i in (0, 8, 16, 24)]


@given(st.binary(min_size=32, max_size=32))
def test_words_above_the_last_multiple_are_skipped(seed: bytes) -> None:
    bound = 3 * 2**62  # a quarter of all words is above it
    dice = Dice(seed)
    words = [dice.below(2**64) for _ in range(40)]
    again = Dice(seed)
    kept = [word for word in words if word < bound]
    assert [again.below(bound) for _ in kept] == kept


@given(st.binary(max_size=8), st.integers(3, 40))
def test_a_deal_gives_each_fragment_to_one_and_the_drawn_one_to_three(seed: bytes, workers: int) -> None:
    roles = deal(seed, b"beacon", range(workers), workers - 2, 2)
    counts = [list(roles.seats.values()).count(f) for f in range(workers - 2)]
    assert counts == [3 if f == roles.checked else 1 for f in range(workers - 2)]
    assert len(roles.group()) == 3


@given(st.binary(max_size=8), st.integers(4, 12), st.data())
def test_a_substitute_is_able_and_has_not_the_fragment_already(seed: bytes, workers: int, data: st.DataObject) -> None:
    roles = deal(seed, b"beacon", range(workers), workers - 2, 2)
    origin = data.draw(st.integers(0, workers - 1))
    able = [w for w in range(workers) if w != origin]
    holder = deal_again(seed, roles, origin, {}, able, 0)
    same = [w for w, fragment in roles.seats.items() if fragment == roles.seats[origin] and w != origin]
    assert holder in able and holder not in same
    assert deal_again(seed, roles, origin, {}, same, 0) is None


def test_a_task_that_nobody_had_cannot_be_dealt_again() -> None:
    world = fresh(6, Scenario(lines=2, block_lines=2))
    tasks = opened(world)
    idle = next(n for n in range(6) if n not in {a.origin for a in tasks})
    other = next(n for n in range(6) if n != idle)
    world.state.apply(e.Withdraw(at=world.state.at, worker=idle, reason=""))
    world.state.apply(e.Redeal(at=world.state.at, round=0, origin=idle, holder=other))
    for assignment in tasks:
        world.manager.committed(world.players[assignment.holder].commit(assignment)[0])
    world.manager.commit()
    openings = [
        e.Opening(shown.origin, shown.update, shown.salt)
        for _, shown in sorted((m.origin, m) for player in world.players for m, _ in player.open(0))
    ]
    reveal = e.Reveal(at=world.state.at, round=0, secret=world.chain.secret(0), openings=openings)
    assert refused(world.state, reveal).step == Claim.DRAWS


def test_a_settlement_is_no_comparison_with_oneself() -> None:
    world = to_settlement(3)
    alone = opened(world)[0]
    for worker in range(3):
        if worker != alone.holder:
            world.state.apply(e.Withdraw(at=world.state.at, worker=worker, reason=""))
    player = world.players[alone.holder]
    c = player.commit(alone)[0]
    commitment = e.Commitment(c.origin, c.holder, c.commitment, c.signature)
    world.state.apply(e.Commit(at=world.state.at, round=world.state.round, commitments=[commitment]))
    shown, _ = player.open(world.state.round)[0]
    secret = world.chain.secret(world.state.round)
    openings = [e.Opening(shown.origin, shown.update, shown.salt)]
    reveal = e.Reveal(at=world.state.at, round=world.state.round, secret=secret, openings=openings)
    assert refused(world.state, reveal).step == Claim.DRAWS
