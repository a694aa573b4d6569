"""What a log costs whoever reads it: time and memory in proportion to its entries, whatever is in it.

Each case is a log of n and one of 4n: memory an entry must stay the same, and the time must not grow by much more than
four times, where what is quadratic would take sixteen. A busy machine makes a measurement longer, never shorter: the
least of several counts.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from podlt.canonical import encode
from podlt.crypto import HashChain, digest
from podlt.dice import Dice
from podlt.log.merkle import EMPTY_ROOT, Tree, leaf_hash
from podlt.protocol import entries as e
from podlt.protocol import roster as rosters
from podlt.protocol.draw import deal
from podlt.protocol.redeal import Redealer
from podlt.protocol.roster import Roster
from podlt.protocol.round import RoundState
from podlt.protocol.rules import RunState
from podlt.sim.players import Player
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.verify import verify_log
from podlt.verify.documents import Documents

from .scripted import Scripted, failing, scripted_world, verified

LONGER = 6.0
"""Of four times as many entries; 16 if it were quadratic."""

MORE = 1.6
"""Of memory an entry: tables grow by doubling."""

Make = Callable[[int], Iterator[e.Entry]]


def begun(lines: int, block_lines: int, reward: int = 1) -> e.Begin:
    chain = HashChain(digest("cost/1"), 2)
    none = bytes(32)
    return e.Begin(
        at=1, preset="classic", manager=none, nonce=none, recipe=none, program=none, arithmetic=none, data=none,
        test=e.NO_TEST, parameters=none, seed=none, lines=lines, epochs=1, block_lines=block_lines, fragment_lines=0,
        local_steps=1, local_lr=None, spares=2, reward=reward, chain_end=chain.end, chain_length=2**40,
    )  # fmt: skip


def name(number: int) -> bytes:
    return digest("key", number.to_bytes(8, "big"))


def joined(number: int, *, seen: int = 0, deposit: int = 0) -> e.Join:
    key, nothing = name(number), bytes(64)
    return e.Join(
        at=1, worker=number, key=key, deposit=deposit, seen=seen, root=EMPTY_ROOT, signature=nothing, share=nothing
    )


def opening(workers: int, lines: int) -> e.Open:
    fragments = [bytes(32)] * min(workers - 2, lines)
    nothing = bytes(32)
    return e.Open(
        at=1, round=0, purpose="train", epoch=0, offset=0, lines=lines, parameters=nothing, fragments=fragments
    )


def all_join(n: int) -> Iterator[e.Entry]:
    yield begun(n, n)
    yield from (joined(number) for number in range(n))


def all_leave_within_a_round(n: int) -> Iterator[e.Entry]:
    """Each task in turn goes to the same worker, which is what a hostile log can say before the reveal."""
    yield from all_join(n)
    yield opening(n, n)
    for number in range(n - 3):
        yield e.Withdraw(at=1, worker=number, reason="")
        yield e.Redeal(at=1, round=0, seat=number, holder=n - 1)


def each_commits_by_itself(n: int) -> Iterator[e.Entry]:
    yield from all_join(n)
    yield opening(n, n)
    for number in range(n):
        commitment = e.Commitment(number, number, bytes(32), bytes(64))
        yield e.Commit(at=1, round=0, commitments=[commitment])


def all_come_and_go(n: int) -> Iterator[e.Entry]:
    """Half of the entries make a crowd, half are of one worker that leaves, has its deposit back, and returns."""
    yield from all_join(n)
    for i in range(n):
        yield joined(n, seen=n + 3 * i, deposit=1)
        yield e.Withdraw(at=1, worker=n, reason="")
        yield e.Return(at=1, transfers=[e.Transfer("return", n, 1)])


def a_crowd_comes_and_goes(n: int) -> Iterator[e.Entry]:
    yield begun(n, n)
    for again in range(4):
        yield from (joined(number, seen=again * 2 * n) for number in range(n))
        yield from (e.Withdraw(at=1, worker=number, reason="") for number in range(n))


def it_stops_and_goes_on(n: int) -> Iterator[e.Entry]:
    yield from all_join(n)
    for _ in range(n):
        yield e.Close(at=1, outcome="stopped", reason="")
        yield e.Resume(at=1)


CASES = [
    all_join,
    all_leave_within_a_round,
    each_commits_by_itself,
    all_come_and_go,
    a_crowd_comes_and_goes,
    it_stops_and_goes_on,
]


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
@pytest.mark.parametrize("make", CASES)
def test_a_long_log_costs_in_proportion_to_a_short_one(make: Make) -> None:
    check_linear(make, 1500)


@pytest.mark.slow
@pytest.mark.parametrize("make", CASES)
def test_sixteen_thousand_workers_cost_in_proportion_to_four_thousand(make: Make) -> None:
    check_linear(make, 4000)


def tiny_rounds(workers: int, rounds: int) -> tuple[World, MemoryLog]:
    """Many workers, and a line a round."""
    log, seed = MemoryLog(), digest("tiny/1")
    scenario = Scenario(lines=rounds, block_lines=1)
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


def test_a_round_costs_what_its_tasks_cost_however_many_workers_there_are() -> None:
    few, many = (tiny_rounds(workers, 60)[1] for workers in (100, 3000))
    assert seconds_of_rounds(many) < 3 * seconds_of_rounds(few)


@pytest.mark.slow
def test_rounds_of_a_line_cost_the_same_with_ten_thousand_workers() -> None:
    (_, few), (world, many) = tiny_rounds(100, 300), tiny_rounds(10_000, 300)
    assert seconds_of_rounds(many) < 3 * seconds_of_rounds(few)
    assert not failing(verified(world, many))


@pytest.mark.parametrize("mood", ["silent", "mute"])
def test_whoever_fails_costs_the_manager_what_it_costs_in_a_small_run(
    mood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted: how often it is asked who holds a task, for a worker and round in which a third fails."""
    asked, holder = [0], RoundState.holder

    def counted(round: RoundState, seat: int) -> int:
        asked[0] += 1
        return holder(round, seat)

    monkeypatch.setattr(RoundState, "holder", counted)

    def played(workers: int) -> float:
        world, _ = scripted_world(Scenario(lines=workers, block_lines=workers), workers)
        players: list[Scripted] = world.players  # type: ignore[assignment]
        for player in players[::3]:
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


def test_a_deal_throws_once_for_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podlt.protocol.draw.Dice", Counted)
    roster = Roster()
    for number in range(5000):
        roster.add(number, name(number), number)
    for fragments in (1, 7, 4998):
        Counted.throws = 0
        assert len(deal(bytes(32), bytes(32), roster, fragments, 2).seats) == fragments + 2
        assert Counted.throws == fragments + 3


def test_dealing_again_throws_a_few_times_for_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    roster = Roster()
    for number in range(2000):
        roster.add(number, name(number), number)
    roles = deal(bytes(32), bytes(32), roster, 1998, 2)
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
        roster.add(number, name(number), number)
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
            roster.add(number, name(number), step)
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
