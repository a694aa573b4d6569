"""Unequal machines: which levels an entry may give, what a round's seats are then, and that both verifiers agree."""

from __future__ import annotations

import random
from collections import Counter

import hypothesis.strategies as st
import pytest
import second_draws
from examples_drawn import examples
from hypothesis import given
from scripted import CLASSIC, Scripted, ScriptedWorld, failing, moods, scripted_world, verified

from podlt.crypto import digest
from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.draw import deal, round_dice
from podlt.protocol.options import GUARDED
from podlt.protocol.roster import Roster
from podlt.protocol.shares import SHARES_EVERY, SeatWeights, seat_of, slot_of, worker_of
from podlt.recipe import ProtocolSpec
from podlt.sim.world import MemoryLog, Scenario

RULES = ProtocolSpec(checked=0.3, own=0.2, clip=4, escrow=4)
LEVELS = st.integers(-5, 5)


def roster_of(levels: list[int], operators: list[str] | None = None) -> Roster:
    roster = Roster()
    for number, level in enumerate(levels):
        operator = "" if operators is None else operators[number]
        roster.add(number, digest("key", number.to_bytes(8, "big")), operator, number)
        roster.set_level(number, level)
    return roster


def fresh(workers: int = 8, *, shares: str = "measured", rounds: int = 60) -> tuple[ScriptedWorld, MemoryLog]:
    rules = ProtocolSpec(checked=0.3, own=0.2, clip=4, escrow=4, shares=shares)  # type: ignore[arg-type]
    return scripted_world(Scenario(examples=60 * rounds, batch_size=60, protocol=rules), workers, spare_secrets=1000)


def refused(world: ScriptedWorld, entry: e.Entry) -> InvalidProofError:
    with pytest.raises(InvalidProofError) as caught:
        world.state.apply(entry)
    return caught.value


def shares(world: ScriptedWorld, *levels: tuple[int, int], round: int | None = None) -> e.Shares:
    at = world.state.round if round is None else round
    return e.Shares(at=world.state.at, round=at, levels=[e.NewLevel(*level) for level in levels])


def test_a_seat_says_whose_it_is() -> None:
    assert seat_of(7, 0) == 7
    for worker, slot in ((0, 0), (7, 3), (2**20 - 1, 31)):
        assert (worker_of(seat_of(worker, slot)), slot_of(seat_of(worker, slot))) == (worker, slot)


@given(st.lists(LEVELS, min_size=1, max_size=8))
def test_the_slowest_has_one_seat_and_nobody_more_than_thirty_two(levels: list[int]) -> None:
    weights = SeatWeights(Counter(levels))
    found = [weights.of(level) for level in levels]
    assert min(found) == 1 and max(found) <= 32 and weights.total == sum(found)
    assert all((a < b) <= (weights.of(a) <= weights.of(b)) for a in levels for b in levels)


@given(st.integers(2, 12), LEVELS, st.binary(min_size=32, max_size=32), st.data())
def test_equal_levels_give_the_draw_of_no_levels(workers: int, level: int, secret: bytes, data: st.DataObject) -> None:
    spares = data.draw(st.integers(1, workers // 2))
    found = [
        deal(round_dice(secret, bytes(32)), GUARDED, roster_of([each] * workers), spares, workers - spares)
        for each in (0, level)
    ]
    assert found[0] == found[1] and set(found[0].seats) == set(range(workers))


@examples(200)
@given(st.lists(LEVELS, min_size=2, max_size=6), st.binary(min_size=32, max_size=32), st.data())
def test_nobody_holds_a_shard_twice_and_what_is_checked_has_two_workers(
    levels: list[int], secret: bytes, data: st.DataObject
) -> None:
    operators = data.draw(st.lists(st.sampled_from(["", "a"]), min_size=len(levels), max_size=len(levels)))
    roster = roster_of(levels, operators)
    total = roster.weights.total
    spares = data.draw(st.integers(1, total // 2))
    roles = deal(round_dice(secret, bytes(32)), GUARDED, roster, spares, total - spares)
    held = Counter((worker_of(seat), shard) for seat, shard in roles.seats.items())
    assert set(held.values()) <= {1}
    assert all(slot_of(seat) < roster.weight(worker_of(seat)) for seat in roles.seats)
    groups = Counter(roles.seats.values())
    assert {shard for shard, count in groups.items() if count == 2} == set(roles.checked)
    assert set(groups) == set(range(total - spares)) and set(groups.values()) <= {1, 2}
    begin = {"preset": "guarded", "own": GUARDED.own, "own_most": GUARDED.own_most}
    by_key = [roster.at(place) for place in range(len(levels))]
    theirs = second_draws.deal(
        begin,
        second_draws.Dice(digest("draw/1", secret, bytes(32))),
        spares,
        by_key,
        {w: roster.operator(w) for w in by_key},
        second_draws.weights(dict(enumerate(levels))),
        [1] * (total - spares),
    )
    assert (roles.seats, set(roles.checked), set(roles.own)) == (theirs.seats, set(theirs.checked), set(theirs.own))


def test_the_manager_executes_its_share_of_many_small_tasks() -> None:
    roster = roster_of([0] * 7 + [-5])
    drawn = [deal(round_dice(bytes([n]) * 32, bytes(32)), GUARDED, roster, 6, 219) for n in range(40)]
    mean = sum(len(roles.own) for roles in drawn) / len(drawn)
    assert 219 * 0.02 - 0.3 < mean < 219 * 0.02 + 0.3


def test_levels_hold_from_the_round_after_the_next_on() -> None:
    world, _ = fresh()
    state = world.state
    world.manager.share({0: -3})
    plan, expected = world.manager.upcoming(), state.plan_after(0, 60)
    assert plan is not None and plan.shards == 8 - state.spares(0, 8)
    world.step()
    assert state.roster.weights.total == 7 * 8 + 1
    plan = world.manager.upcoming()
    assert plan == expected
    assert plan is not None and (plan.examples, plan.shards) == (60, 57 - state.spares(1, 57))


def test_the_examples_of_a_round_do_not_follow_from_how_finely_it_is_cut() -> None:
    rules = Scenario(examples=6000, batch_size=1000, shard_size=32, protocol=RULES)
    world, _ = scripted_world(rules, 8, spare_secrets=1000)
    world.manager.share({0: -5})
    lines = []
    for _ in range(3):
        plan = world.manager.upcoming()
        assert plan is not None
        lines.append(plan.examples)
        world.step()
    assert lines[0] <= 8 * 32 and lines[1] <= 7 * 32 + 1 and lines[1] >= 5 * 32
    for worker in range(1, 8):
        world.manager.withdraw(worker, "for the test")
    assert world.state.upcoming().examples == 32  # type: ignore[union-attr]


def test_an_entry_gives_few_workers_another_level_and_seldom() -> None:
    world, _ = fresh()
    wrong = [
        shares(world),
        shares(world, (0, -1), round=1),
        shares(world, (1, -1), (0, -1)),
        shares(world, (0, -1), (0, -2)),
        shares(world, (0, 0)),
        shares(world, (0, 2)),
        shares(world, (99, -1)),
        shares(world, *((n, -1) for n in range(5))),
    ]
    for entry in wrong:
        assert refused(world, entry).step == Claim.PROGRESS
    world.state.apply(shares(world, *((n, -5) for n in range(4)), (5, 1)))
    assert not world.state.may_share
    for number in range(SHARES_EVERY):
        assert refused(world, shares(world, (6, -1))).step == Claim.PROGRESS, number
        world.step()
    assert world.state.may_share
    assert refused(world, shares(world, (0, -3))).step == Claim.PROGRESS
    assert refused(world, shares(world, (6, -1))).step == Claim.PROGRESS  # five of eight would be slow
    world.state.apply(shares(world, (0, -4), (5, 2)))


def test_classic_knows_no_levels_and_none_change_within_a_round() -> None:
    world, _ = scripted_world(Scenario(examples=60, batch_size=12, protocol=CLASSIC), 7)
    assert not world.state.may_share
    assert refused(world, shares(world, (0, -1))).step == Claim.PROGRESS
    world, _ = fresh()
    plan = world.manager.upcoming()
    assert plan is not None
    world.manager.open(plan, world.shards(plan))
    assert refused(world, shares(world, (0, -1))).step == Claim.PROGRESS


def test_a_worker_that_left_comes_back_at_its_level() -> None:
    world, _ = fresh()
    world.manager.share({3: -2})
    world.step()
    world.manager.withdraw(3, "for the test")
    assert world.state.roster.weights.total == 7
    world.admit(world.players[3])
    assert world.state.roster.weights.total == 7 * 4 + 1


def test_verify_refuses_levels_where_the_recipe_gives_equal_shares() -> None:
    for given_shares, fails in (("equal", [Claim.TERMS]), ("measured", [])):
        world, log = fresh(shares=given_shares, rounds=3)
        world.manager.share({0: -1})
        world.play()
        assert failing(verified(world, log)) == fails


@pytest.mark.parametrize("seed", [1, 4, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 2, 3, 5))])
def test_both_verifiers_accept_runs_of_unequal_workers_whatever_happens_in_them(seed: int) -> None:
    dice = random.Random(seed)
    world, log = fresh([2, 3, 4, 8, 12, 8][seed], rounds=26)
    for _ in range(100):
        for player in moods(world):
            player.mood = "honest"
            player.returns = True
        for player in dice.sample(moods(world), 1 + (seed > 2)):
            player.mood = dice.choice(["slow", "late", "slow", "late", "silent", "silent", "mute"])
        active = world.state.active()
        if world.state.may_share and dice.random() < 0.7:
            levels = {n: max(-5, min(5, world.state.workers[n].level + dice.choice([-4, -1, 0, 1]))) for n in active}
            if world.state.roster.is_usual(levels):
                changed = {n: level for n, level in levels.items() if world.state.workers[n].level != level}
                if changed:
                    world.manager.share(changed)
        world.readmit()
        if not world.step():
            if world.state.closed is not None and world.state.closed.outcome == "complete":
                break
            world.manager.resume()
    state = world.state
    assert state.round == 26 and not failing(verified(world, log))
    kinds = Counter(type(e.decode(body)) for _, _, body in log.entries())
    assert kinds[e.Shares] and all(isinstance(player, Scripted) for player in world.players)
