"""Draws: nothing that the manager may write in two ways decides one."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from itertools import permutations, product

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from podlt.crypto import digest
from podlt.dice import Dice
from podlt.errors import InvalidProofError, TooFewWorkersError
from podlt.protocol import entries as e
from podlt.protocol import redeal
from podlt.protocol.claims import Claim
from podlt.protocol.draw import Roles, deal
from podlt.protocol.redeal import Redealer
from podlt.protocol.roster import Roster
from podlt.sim.world import Scenario, World

from .scripted import scripted, scripted_world
from .steps_of_a_round import SCENARIO, answered, finished, fresh, joining, opened, refused, to_settlement


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
        for number in order:  # each signs the number that it was offered: only the log's order is the manager's
            world.state.apply(joining(world, scripted(number, world.gossip)))
        seats.append(next_seats(world))
    assert seats[0] == seats[1]


def test_a_worker_that_leaves_and_comes_back_does_not_change_the_next_draw() -> None:
    steady, toggled = fresh(), fresh()
    for _ in range(3):
        toggled.manager.withdraw(2, "toggled")
        toggled.admit(toggled.players[2])
    assert next_seats(steady) == next_seats(toggled)


def test_another_salt_or_another_worker_changes_the_next_draw() -> None:
    base, more = fresh(), fresh()
    more.players.append(scripted(6, more.gossip))
    more.admit(more.players[6])
    assert next_seats(base) != next_seats(more)


def test_the_manager_cannot_choose_who_takes_over_a_task() -> None:
    world = fresh(8)
    victim = opened(world)[0].holder
    drawn = world.manager.withdraw(victim, "gone")[0].holder
    replays = 0
    for holder in range(8):
        other = fresh(8)
        answered_by = opened(other)
        other.state.apply(e.Withdraw(at=other.state.at, worker=victim, reason="gone"))
        if holder == victim:
            continue
        other.state.apply(e.Redeal(at=other.state.at, round=0, seat=victim, holder=holder))
        commitments = []
        openings = []
        for assignment in answered_by:
            who = holder if assignment.seat == victim else assignment.holder
            moved = msgspec.structs.replace(assignment, holder=who)
            player = other.players[who]
            c = player.commit(moved)[0]
            commitments.append(e.Commitment(c.seat, c.holder, c.commitment, c.signature))
            shown = next(m for m, _ in player.open(0) if m.seat == assignment.seat)
            openings.append(e.Opening(shown.seat, shown.update, shown.salt))
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
    entry = e.Redeal(at=world.state.at, round=0, seat=1, holder=2)
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


@pytest.mark.parametrize(("n", "count"), [(1, 1), (3, 2), (4, 2), (4, 4), (5, 3)])
def test_a_sample_is_every_arrangement_equally_often(n: int, count: int) -> None:
    """Exhaustive over what the dice can give: each row of words is as likely, and gives another arrangement."""

    class Row(Dice):
        def __init__(self, row: tuple[int, ...]) -> None:
            self.row, self.bounds = iter(row), []

        def below(self, n: int) -> int:
            self.bounds.append(n)
            return next(self.row)

    found = []
    for row in product(*(range(n - i) for i in range(count))):
        dice = Row(row)
        found.append(tuple(dice.sample(n, count)))
        assert dice.bounds == [n - i for i in range(count)]
    assert sorted(found) == sorted(permutations(range(n), count))


def test_a_sample_costs_what_it_draws_however_many_there_are() -> None:
    class Counting(Dice):
        words = 0

        def _word(self) -> int:
            self.words += 1
            return super()._word()

    dice = Counting(bytes(32))
    tracemalloc.start()
    drawn = dice.sample(2**40, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(drawn)) == 100 and max(drawn) < 2**40
    assert dice.words < 120 and peak < 100_000


@given(st.binary(min_size=32, max_size=32), st.integers(1, 40), st.data())
def test_a_sample_is_the_beginning_of_the_whole_permutation(seed: bytes, n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    whole = Dice(seed).sample(n, n)
    assert sorted(whole) == list(range(n)) and Dice(seed).sample(n, count) == whole[:count]


def roster_of(workers: int) -> Roster:
    """Numbers with gaps, whose order is not that of the keys."""
    roster = Roster()
    for i in range(workers):
        roster.add(7 * i + 3, digest("test-key/1", i.to_bytes(8, "big")), i)
    return roster


@given(st.binary(max_size=8), st.integers(3, 40))
def test_a_deal_gives_each_fragment_to_one_and_the_drawn_one_to_three(seed: bytes, workers: int) -> None:
    roster = roster_of(workers)
    roles = deal(seed, b"beacon", roster, workers - 2, 2)
    counts = [list(roles.seats.values()).count(f) for f in range(workers - 2)]
    assert counts == [3 if f == roles.checked else 1 for f in range(workers - 2)]
    assert set(roles.seats) == set(roster.workers) and len(roles.group()) == 3


def test_everybody_is_checked_equally_often() -> None:
    roster, times = roster_of(9), Counter[int]()
    rounds = 3000
    for i in range(rounds):
        times.update(deal(i.to_bytes(8, "big"), b"beacon", roster, 4, 2).group())
    assert near(times, roster.workers, 3 * rounds)


def near(times: Counter[int], among: Iterable[int], throws: int) -> bool:
    """Whether each came up as often as a uniform choice would let it, within 5 sigma, and nobody else did."""
    expected = throws / len(among := list(among))
    return set(times) <= set(among) and all(abs(times[w] - expected) < 5 * math.sqrt(expected) for w in among)


# -- tasks that are dealt again ----------------------------------------------------------------------------------------


def round_of(workers: int, fragments: int, seed: bytes = b"") -> tuple[Roster, Roles]:
    roster = roster_of(workers)
    return roster, deal(digest("test-round/1", seed), b"beacon", roster, fragments, 2)


@pytest.mark.parametrize("gone", [1, 7])
def test_who_takes_over_is_uniform_over_those_who_may(gone: int) -> None:
    roster, roles = round_of(12, 2)
    idle = [worker for worker in roster.workers if worker not in roles.seats]
    victim = next(worker for worker in roles.seats if roles.seats[worker] != roles.checked)
    leaving = [victim, *idle[: gone - 1]]
    may = [worker for worker in roster.workers if worker not in leaving]
    times = Counter[int]()
    rounds = 4000
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
def test_dealing_again_is_replayed_and_gives_nobody_two_tasks_of_a_fragment(data: st.DataObject) -> None:
    workers = data.draw(st.integers(3, 14))
    fragments = data.draw(st.integers(1, workers - 2))
    roster, roles = round_of(workers, fragments, data.draw(st.binary(max_size=4)))
    secret = data.draw(st.binary(min_size=32, max_size=32))
    live, moves = Redealer(secret, roles, roster), []
    holders, gone = {seat: seat for seat in roles.seats}, set[int]()
    for worker in data.draw(st.permutations(sorted(roster.workers))):
        live.leave(worker)
        gone.add(worker)
        moves.append((worker, []))
        for seat in [seat for seat, holder in holders.items() if holder == worker]:
            same = {holders[o] for o, f in roles.seats.items() if f == roles.seats[seat] and o != seat}
            holder = live.deal(seat)
            if holder is None:
                assert set(roster.workers) == gone | same
                break
            assert holder not in gone and holder not in same
            holders[seat] = holder
            moves[-1][1].append((seat, holder))
        else:
            continue
        break
    replay = Redealer(secret, roles, roster)
    for worker, dealt in moves:
        replay.leave(worker)
        for seat, holder in dealt:
            assert replay.deal(seat) == holder


def test_nobody_is_left_who_may_take_a_checked_task_of_three() -> None:
    roster, roles = round_of(3, 1)
    again = Redealer(bytes(32), roles, roster)
    again.leave(roles.group()[0])
    assert again.deal(roles.group()[0]) is None


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
    victim, *others = roles.group()
    idle = [worker for worker in roster.workers if worker not in roles.seats]
    early, late = idle[0], idle[1]
    times = Counter[int]()
    rounds = 3000
    for i in range(rounds):
        again = Redealer(i.to_bytes(8, "big"), roles, roster)
        again.leave(early)
        again.leave(victim)
        again.deal(victim)  # makes the list where nothing is tried first
        again.leave(late)
        holder = again.deal(victim)
        assert holder is not None
        times[holder] += 1
    # Whoever took it first has a task now, and is drawn only where both draws are it; on the whole all are alike.
    assert near(times, idle[2:], rounds) and not set(times) & set(others)


def test_a_list_is_made_once_and_only_where_most_have_left() -> None:
    roster, roles = round_of(400, 300)
    again = Redealer(bytes(32), roles, roster)
    origins = sorted(roles.seats)
    for seat in origins[:150]:
        again.leave(seat)
        again.deal(seat)
    assert again._left is None


def test_a_task_that_nobody_had_cannot_be_dealt_again() -> None:
    world = fresh(6, Scenario(lines=2, block_lines=2))
    tasks = opened(world)
    idle = next(n for n in range(6) if n not in {a.seat for a in tasks})
    other = next(n for n in range(6) if n != idle)
    world.state.apply(e.Withdraw(at=world.state.at, worker=idle, reason=""))
    world.state.apply(e.Redeal(at=world.state.at, round=0, seat=idle, holder=other))
    for assignment in tasks:
        world.manager.committed(world.players[assignment.holder].commit(assignment)[0])
    world.manager.commit()
    openings = [
        e.Opening(shown.seat, shown.update, shown.salt)
        for _, shown in sorted((m.seat, m) for player in world.players for m, _ in player.open(0))
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
    commitment = e.Commitment(c.seat, c.holder, c.commitment, c.signature)
    world.state.apply(e.Commit(at=world.state.at, round=world.state.round, commitments=[commitment]))
    shown, _ = player.open(world.state.round)[0]
    secret = world.chain.secret(world.state.round)
    openings = [e.Opening(shown.seat, shown.update, shown.salt)]
    reveal = e.Reveal(at=world.state.at, round=world.state.round, secret=secret, openings=openings)
    assert refused(world.state, reveal).step == Claim.DRAWS
