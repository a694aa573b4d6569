"""What a log costs whoever reads it: time and memory in proportion to its entries, whatever is in it.

Each case is a log of n and one of 4n: memory an entry must stay the same, and the time must not grow by much more than
four times, where what is quadratic would take sixteen. A busy machine makes a measurement longer, never shorter: the
least of several counts.
"""

from __future__ import annotations

import time
import tracemalloc

import pytest
from scripted import GUARDED, failing, moods, scripted_world, verified

from podlt.canonical import encode
from podlt.crypto import digest
from podlt.dice import Dice
from podlt.log.merkle import Tree, leaf_hash
from podlt.protocol import entries as e
from podlt.protocol import roster as rosters
from podlt.protocol.draw import deal
from podlt.protocol.options import CLASSIC
from podlt.protocol.redeal import Redealer
from podlt.protocol.roster import Roster
from podlt.protocol.round import RoundState
from podlt.protocol.rules import RunState
from podlt.recipe import ProtocolSpec
from podlt.sim.players import Player
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.verify import verify_log
from podlt.verify.documents import Documents

from .hostile_logs import CASES, PLAYED, Make, all_leave_within_a_round, guarded, name

LONGER = 6.0
"""Of four times as many entries; 16 if it were quadratic."""

MORE = 1.6
"""Of memory an entry: tables grow by doubling."""


RULES = [ProtocolSpec("classic"), ProtocolSpec()]


def seconds(entries: list[e.Entry]) -> float:
    state, started = RunState(), time.process_time()
    for entry in entries:
        state.apply(entry)
    return time.process_time() - started


def memory(entries: list[e.Entry]) -> float:
    """The most that the rules took for an entry, in bytes."""
    state = RunState()
    tracemalloc.start()
    for entry in entries:
        state.apply(entry)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / len(entries)


def check_linear(make: Make, n: int) -> None:
    short, long = list(make(n)), list(make(4 * n))
    assert memory(long) < MORE * memory(short)
    times = [(seconds(long), seconds(short)) for _ in range(3)]
    scale = len(long) / (4 * len(short))
    assert min(t for t, _ in times) < LONGER * scale * min(t for _, t in times)


@pytest.mark.slow
@pytest.mark.parametrize("make", [*PLAYED, *CASES])
def test_a_long_log_costs_in_proportion_to_a_short_one(make: Make) -> None:
    check_linear(make, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("make", CASES)
def test_sixteen_thousand_workers_cost_in_proportion_to_four_thousand(make: Make) -> None:
    check_linear(make, 4000)


def tiny_rounds(workers: int, rounds: int, rules: ProtocolSpec) -> tuple[World, MemoryLog]:
    """Many workers, and a line a round."""
    log, seed = MemoryLog(), digest("tiny/1")
    scenario = Scenario(examples=rounds, batch_size=1, protocol=rules)
    world = World(scenario, lambda gossip: [make_player(Player, i, seed, gossip) for i in range(workers)], seed, log)
    world.begin()
    while not world.state.trained:
        world.step()
    world.write()
    return world, log


def seconds_of_rounds(log: MemoryLog) -> float:
    """The least time that the rounds of a log took; who joins is there before."""
    state, entries = RunState(), [e.decode(body) for _, _, body in log.entries()]
    first = next(i for i, entry in enumerate(entries) if isinstance(entry, e.Open))
    for entry in entries[:first]:
        state.apply(entry)
    size = len(state.roster.order)
    started, times = time.process_time(), []
    for entry in entries[first:]:
        state.apply(entry)
        if isinstance(entry, e.Pay):
            times.append(time.process_time() - started)
            started = time.process_time()
    assert size == len(state.workers)
    return sum(sorted(times)[: len(times) // 2])


@pytest.mark.parametrize("rules", RULES)
def test_a_round_costs_what_its_tasks_cost_however_many_workers_there_are(rules: ProtocolSpec) -> None:
    few, many = (tiny_rounds(workers, 40, rules)[1] for workers in (100, 2000))
    assert seconds_of_rounds(many) < 3 * seconds_of_rounds(few)


@pytest.mark.slow
@pytest.mark.parametrize("rules", RULES)
def test_rounds_of_an_example_cost_the_same_with_ten_thousand_workers(rules: ProtocolSpec) -> None:
    (_, few), (world, many) = tiny_rounds(100, 300, rules), tiny_rounds(10_000, 300, rules)
    assert seconds_of_rounds(many) < 3 * seconds_of_rounds(few)
    assert not failing(verified(world, many))


@pytest.mark.parametrize("mood", ["silent", "mute", "late"])
def test_whoever_fails_costs_the_manager_what_it_costs_in_a_small_run(
    mood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted: how often it is asked who holds a task, for a worker and round in which a third fails."""
    asked, holders = [0], RoundState.holders

    def counted(round: RoundState, seat: int) -> list[int]:
        asked[0] += 1
        return holders(round, seat)

    monkeypatch.setattr(RoundState, "holders", counted)

    def played(workers: int) -> float:
        world, _ = scripted_world(Scenario(examples=workers, batch_size=workers, protocol=GUARDED), workers)
        for player in moods(world)[::3]:
            player.mood = mood
        asked[0] = 0
        assert world.step()
        return asked[0] / workers

    assert played(600) < 1.3 * played(60)


# -- operations, counted -----------------------------------------------------------------------------------------------


class Counted(Dice):
    throws = 0

    def below(self, n: int) -> int:
        Counted.throws += 1
        return super().below(n)


def roster_of(workers: int, operator: str = "") -> Roster:
    roster = Roster()
    for number in range(workers):
        roster.add(number, name(number), operator, number)
    return roster


def test_a_classic_deal_throws_once_for_each_task() -> None:
    roster = roster_of(5000)
    for shards in (1, 7, 4998):
        Counted.throws = 0
        assert len(deal(Counted(bytes(32)), CLASSIC, roster, 2, shards).seats) == shards + 2
        assert Counted.throws == shards + 3


@pytest.mark.parametrize(("operator", "most"), [("", 0), ("a", 64)])
def test_a_guarded_deal_throws_a_few_times_for_each_task(operator: str, most: int) -> None:
    roster, options = roster_of(3000, operator), guarded(0.5, 0.1)
    for spares, shards in ((1000, 2000), (1, 7), (1500, 1)):
        Counted.throws = 0
        roles = deal(Counted(bytes(32)), options, roster, spares, shards)
        checked, own = len(roles.checked), len(roles.own)
        assert checked == min(spares, shards)
        assert Counted.throws <= shards + spares + checked + 1 + own + most * checked


def test_dealing_again_throws_a_few_times_for_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    roster = roster_of(2000)
    roles = deal(Dice(bytes(32)), CLASSIC, roster, 2, 1998)
    monkeypatch.setattr("podlt.protocol.redeal.Dice", Counted)
    again, Counted.throws, dealt = Redealer(bytes(32), roles, roster), 0, 0
    holders = {seat: seat for seat in roles.seats}
    for number in sorted(roles.seats)[:-3]:
        again.leave(number)
        for seat in [seat for seat, holder in holders.items() if holder == number][:3]:
            holder = again.deal(seat)
            assert holder is not None
            holders[seat] = holder
            dealt += 1
    assert dealt > 1990 and Counted.throws < 34 * dealt


def test_a_crowd_is_put_in_order_once(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    monkeypatch.setattr(rosters, "insort", lambda keys, key: moved.append(len(keys)))
    roster = Roster()
    for number in range(3000):
        roster.add(number, name(number), "", number)
        assert len(roster) == number + 1
    assert roster.order == sorted(map(name, range(3000))) and moved == []
    roster.remove(range(0, 3000, 2))
    assert len(roster) == 1500 and roster.active() == list(range(1, 3000, 2))


@pytest.mark.parametrize("few", [0, 300])
def test_the_order_is_that_of_the_keys_however_workers_come_and_go(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rosters, "FEW", few)
    roster, there, dice = Roster(), set[int](), Dice(bytes(32))
    for step in range(3000):
        number = dice.below(60)
        if number in there:
            roster.remove([number])
        else:
            roster.add(number, name(number), "", step)
        there ^= {number}
        assert len(roster) == len(there)
        if not dice.below(7):
            assert roster.order == sorted(map(name, there))
            assert [roster.at(place) for place in range(len(there))] == [roster.number(k) for k in roster.order]


# -- the whole verifier ------------------------------------------------------------------------------------------------


def hostile(n: int) -> MemoryLog:
    """A log of n workers that join and all leave within the first round, its heads unsigned: who joins is counted."""
    log, tree = MemoryLog(), Tree()
    for number, entry in enumerate(all_leave_within_a_round(n)):
        body = encode(entry)
        log.rows.append((number, leaf_hash(body), body))
        tree.append(log.rows[-1][1])
    return log


def test_decoding_and_hashing_a_hostile_log_takes_memory_in_proportion_to_its_bytes() -> None:
    """Of entries under one head all are in memory at once; what they take must follow from their bytes."""

    def peak(n: int) -> float:
        log = hostile(n)
        log.notes = [(len(log.rows), "no head")]
        tracemalloc.start()
        result = verify_log(log, Documents(None, None), jobs=1)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert result.exit_code == 1  # the head is none: the entries were read before
        return most / sum(len(body) for _, _, body in log.rows)

    small, large = peak(500), peak(2000)
    assert large < MORE * small and large < 12
