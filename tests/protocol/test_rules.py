"""What a lying manager could try to write, one attempt a test; and what a worker can send to an honest one."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from podlt.crypto import HashChain, digest
from podlt.errors import InvalidProofError, PeerError, TooFewWorkersError
from podlt.protocol import entries as e
from podlt.protocol.draw import Dice, deal, deal_again
from podlt.protocol.messages import Assignment, Committed
from podlt.protocol.plan import fragment_bounds, most_rounds, next_lines
from podlt.protocol.rules import RunState
from podlt.protocol.steps import Step
from podlt.sim.players import honest_update
from podlt.sim.world import Scenario, World

from .scripted import Scripted, scripted_world, spoiled

SCENARIO = Scenario(lines=40, block_lines=10)


def fresh(workers: int = 6, scenario: Scenario = SCENARIO) -> World:
    return scripted_world(scenario, workers)[0]


def opened(world: World) -> list[Assignment]:
    plan = world.manager.upcoming()
    assert plan is not None
    return world.manager.open(plan, world._fragments(plan))


def refused(state: RunState, entry: e.Entry) -> InvalidProofError:
    with pytest.raises(InvalidProofError) as caught:
        state.apply(entry)
    assert caught.value.entry == state.index
    return caught.value


def answered(world: World, *, groups: int = 1) -> None:
    """Opens a round and brings in all commitments, written as so many entries."""
    tasks = opened(world)
    for part in (tasks[i::groups] for i in range(groups)):
        for assignment in part:
            world.manager.committed(world.players[assignment.holder].commit(assignment)[0])
        world.manager.commit()
    for player in world.players:
        for message, uploaded in player.open(world.state.round):
            world.manager.opened(message, uploaded)


def finished(world: World) -> None:
    world.manager.reveal()
    world.manager.judge({})
    world.manager.apply(bytes(32), bytes(32), 0.0)
    world.manager.pay()


# -- draws: nothing that the manager may write in two ways decides them ------------------------------------------------


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
            assert refused(other.state, reveal).step == Step.DRAWS
    assert replays == 1


def test_a_task_of_a_worker_that_withdrew_must_be_dealt_again() -> None:
    world = fresh()
    answered(world)
    manager = world.manager
    entry = e.Withdraw(at=world.state.at, worker=1, reason="after it was opened")
    world.state.apply(entry)
    with pytest.raises(InvalidProofError, match="not dealt again") as caught:
        manager.reveal()
    assert caught.value.step == Step.DRAWS


def test_a_task_cannot_be_dealt_again_while_its_holder_is_there() -> None:
    world = fresh()
    opened(world)
    entry = e.Redeal(at=world.state.at, round=0, origin=1, holder=2)
    assert refused(world.state, entry).step == Step.PROGRESS


@given(st.binary(min_size=32, max_size=32), st.integers(1, 200))
def test_dice_are_uniform_integers_below_their_bound(seed: bytes, n: int) -> None:
    dice = Dice(seed)
    assert all(0 <= dice.below(n) < n for _ in range(20))
    assert sorted(dice.shuffle(range(n))) == list(range(n))


def test_dice_follow_the_specification() -> None:
    words = digest("dice/1", bytes(32), (0).to_bytes(8, "big"))
    dice = Dice(bytes(32))
    assert [dice.below(2**64) for _ in range(4)] == [int.from_bytes(words[i : i + 8], "big") for i in (0, 8, 16, 24)]


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


# -- the plan: no line is dropped or repeated --------------------------------------------------------------------------


@given(st.integers(1, 5000), st.integers(1, 60))
def test_fragments_cover_the_round_and_differ_by_one_line_at_most(lines: int, fragments: int) -> None:
    bounds = fragment_bounds(lines, fragments)
    assert bounds[0][0] == 0 and bounds[-1][1] == lines
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)


@given(st.integers(1, 500), st.integers(1, 60), st.integers(0, 9), st.lists(st.integers(1, 60), min_size=1), st.data())
def test_every_line_is_dealt_once_an_epoch_for_any_number_of_workers(
    lines: int, block: int, fragment: int, useful: list[int], data: st.DataObject
) -> None:
    fragment = min(fragment, block)
    offset = rounds = 0
    while offset < lines:
        taken = next_lines(lines, offset, block, fragment, useful[rounds % len(useful)])
        assert 0 < taken <= block
        offset, rounds = offset + taken, rounds + 1
    assert offset == lines
    assert rounds <= most_rounds(lines, 1, block, fragment)


def test_a_block_is_dealt_whole_when_no_fragment_size_is_given() -> None:
    assert next_lines(1000, 0, 100, 0, 48) == 100
    assert next_lines(1000, 950, 100, 0, 48) == 50
    assert next_lines(100_000, 0, 1000, 20, 48) == 960


# -- begin, settlement, pay --------------------------------------------------------------------------------------------


def begin_of(world: World) -> e.Begin:
    assert world.state.begin is not None
    return world.state.begin


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({"reward": 2**62}, Step.PAYMENTS),
        ({"lines": 2**62}, Step.PROGRESS),
        ({"spares": 1}, Step.PROGRESS),
        ({"chain_length": 4}, Step.DRAWS),
        ({"epochs": 0}, Step.PROGRESS),
    ],
)
def test_a_run_that_no_reader_could_follow_does_not_begin(change: dict[str, int], step: Step) -> None:
    entry = msgspec.structs.replace(begin_of(fresh()), **change)
    assert refused(RunState(), entry).step == step


def to_settlement(workers: int) -> World:
    world = fresh(workers)
    while not world.state.trained:
        world.step()
    return world


def test_a_settlement_with_other_fragments_than_the_last_round_is_refused() -> None:
    world = to_settlement(5)
    plan = world.manager.upcoming()
    assert plan is not None and plan.purpose == "settle"
    with pytest.raises(InvalidProofError, match="other fragments"):
        world.manager.open(plan, [bytes(32)] * plan.fragments)


def test_a_settlement_goes_on_without_workers_that_are_lost() -> None:
    world = to_settlement(5)
    players: list[Scripted] = world.players  # type: ignore[assignment]
    players[1].mood, players[3].mood = "silent", "mute"
    while world.step():
        pass
    assert world.state.closed is not None and world.state.closed.outcome == "complete"
    pending = {n: account.pending for n, account in world.state.ledger.accounts.items() if account.pending}
    assert set(pending) == {1, 3}


def test_a_settlement_with_one_worker_left_stops_the_run() -> None:
    world = to_settlement(3)
    players: list[Scripted] = world.players  # type: ignore[assignment]
    players[0].mood = players[1].mood = "silent"
    assert not world.step()
    assert world.state.closed is not None and world.state.closed.outcome == "stopped"


def test_a_single_liar_in_the_settlement_is_named_by_the_referee_and_not_by_vote() -> None:
    world = to_settlement(3)
    players: list[Scripted] = world.players  # type: ignore[assignment]
    players[0].mood = "fake"
    while world.step():
        pass
    assert set(world.evicted_in) == {0}
    assert world.state.ledger.accounts[0].pending == 0 and world.state.ledger.accounts[0].forfeited > 0
    assert all(world.state.ledger.accounts[n].pending == 0 for n in (1, 2))


def test_below_three_workers_a_run_stops_and_goes_on_with_more() -> None:
    world = fresh(3)
    players: list[Scripted] = world.players  # type: ignore[assignment]
    players[0].mood = "silent"
    assert not world.step()
    with pytest.raises(TooFewWorkersError):
        world.manager.upcoming()
    world.manager.resume()
    players[0].mood = "honest"
    world.admit(players[0])
    while world.step():
        pass
    assert world.state.closed is not None and world.state.closed.outcome == "complete"


def test_the_rounds_of_an_honest_run_pay_every_credit_that_was_earned() -> None:
    world = fresh(6)
    while world.step():
        pass
    accounts = world.state.ledger.accounts.values()
    assert all(a.pending == 0 and a.forfeited == 0 for a in accounts)
    assert sum(a.vested for a in accounts) == -world.state.ledger.treasury > SCENARIO.lines


# -- workers' messages to an honest manager ----------------------------------------------------------------------------


def test_a_stranger_cannot_join_with_anothers_signature() -> None:
    world = fresh()
    key = fresh(7).players[6].key.public
    with pytest.raises(PeerError, match="signature"):
        world.manager.join(key, lambda: world.players[0].enter(world.state.run))


def test_an_evicted_key_cannot_join_again() -> None:
    world = fresh(3)
    players: list[Scripted] = world.players  # type: ignore[assignment]
    players[0].mood = "fake"
    world.step()
    with pytest.raises(PeerError, match="evicted"):
        world.admit(players[0])


def test_a_second_answer_a_stolen_answer_and_a_forged_one_are_refused() -> None:
    world = fresh()
    first, second = opened(world)[:2]
    mine = world.players[first.holder].commit(first)[0]
    other = world.players[second.holder].commit(second)[0]
    world.manager.committed(mine)
    world.manager.committed(mine)  # the same again is no second answer
    again = world.players[first.holder].bind(first, digest("another"))
    for bad in (
        again,
        Committed(second.origin, second.holder, other.commitment, mine.signature),
        Committed(second.origin, first.holder, mine.commitment, mine.signature),
        Committed(2**19, second.holder, other.commitment, other.signature),
    ):
        with pytest.raises(PeerError):
            world.manager.committed(bad)


def test_an_opening_must_fit_its_commitment_and_its_upload() -> None:
    world = fresh()
    task = opened(world)[0]
    player = world.players[task.holder]
    world.manager.committed(player.commit(task)[0])
    shown, _ = player.open(0)[0]
    with pytest.raises(PeerError, match="opening"):
        world.manager.opened(msgspec.structs.replace(shown, update=bytes(32)))
    with pytest.raises(PeerError, match="upload"):
        world.manager.opened(shown, bytes(32))
    world.manager.opened(shown, honest_update(task.task))


def test_a_crash_gives_the_same_commitment_again() -> None:
    world = fresh()
    task = opened(world)[0]
    player = world.players[task.holder]
    first = player.commit(task)
    player.worker = None
    player.enter(world.state.run)
    assert player.commit(task) == first


def test_a_task_message_does_not_tell_useful_work_from_a_check() -> None:
    tasks = opened(fresh(8))
    fields = {frozenset(msgspec.to_builtins(a.task)) for a in tasks}
    assert len(fields) == 1
    checked = [a for a in tasks if [b.fragment for b in tasks].count(a.fragment) == 3]
    assert len(checked) == 3 and len({a.task.digest() for a in checked}) == 1


# -- hostile entries never break a reader ------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_entry_makes_the_rules_fail_otherwise_than_by_refusing_it(data: st.DataObject) -> None:
    state = RunState()
    for entry in FUZZED[: data.draw(st.integers(0, len(FUZZED)))]:
        state.apply(entry)
    for _ in range(3):
        entry = spoiled(data, data.draw(st.sampled_from(FUZZED)))  # type: ignore[assignment]
        if hasattr(entry, "round") and data.draw(st.booleans()):
            entry = msgspec.structs.replace(entry, round=state.round)
        entry = msgspec.structs.replace(entry, at=max(entry.at, state.at))
        try:
            state.apply(entry)
        except InvalidProofError as error:
            assert error.step in set(Step)
            return


def _few_rounds() -> list[e.AnyEntry]:
    world, log = scripted_world(Scenario(lines=12, block_lines=6), 4)
    players: list[Scripted] = world.players  # type: ignore[assignment]
    players[1].mood = "mute"
    while world.step():
        pass
    return [e.entry_decoder.decode(body) for _, _, body in log.entries()]


FUZZED = _few_rounds()


def test_the_chain_gives_each_secret_once_and_in_reverse() -> None:
    chain = HashChain(bytes(32), 700)
    previous = chain.end
    for number in range(700):
        secret = chain.secret(number)
        assert digest("secret/1", secret) == previous
        previous = secret
    assert previous == bytes(32)
    with pytest.raises(InvalidProofError):
        chain.secret(700)


# -- one thing after the other: each entry has its place ---------------------------------------------------------------


def test_nobody_joins_and_nothing_resumes_closes_or_opens_within_a_round() -> None:
    world = fresh()
    assignment = opened(world)[0]
    begin = begin_of(world)
    stranger = fresh(7).players[6]
    signature = stranger.enter(world.state.run)
    join = e.Join(at=world.state.at, worker=6, key=stranger.key.public, signature=signature)
    current = world.state.current
    assert current is not None
    for entry, step in (
        (begin, Step.PROGRESS),
        (join, Step.PROGRESS),
        (current.open, Step.PROGRESS),
        (e.Resume(at=world.state.at), Step.PROGRESS),
        (e.Close(at=world.state.at, outcome="stopped", reason=""), Step.OUTCOME),
        (e.Apply(at=world.state.at, round=0, update=bytes(32), parameters=bytes(32), loss=0.0), Step.VERDICTS),
        (e.Pay(at=world.state.at, round=0, transfers=[]), Step.VERDICTS),
        (e.Commit(at=world.state.at, round=1, commitments=[]), Step.PROGRESS),
        (e.Commit(at=world.state.at, round=0, commitments=[]), Step.OPENINGS),
        (e.Redeal(at=world.state.at, round=0, origin=99, holder=0), Step.PROGRESS),
        (e.Withdraw(at=world.state.at, worker=99, reason=""), Step.PROGRESS),
    ):
        entry = msgspec.structs.replace(entry, at=world.state.at)
        assert refused(world.state, entry).step == step, entry
    assert assignment.task.round == 0


def test_nobody_withdraws_or_answers_after_the_reveal() -> None:
    world = fresh()
    answered(world)
    world.manager.reveal()
    current = world.state.current
    assert current is not None
    reveal = e.Reveal(at=world.state.at, round=0, secret=world.chain.secret(0), openings=[])
    commit = e.Commit(at=world.state.at, round=0, commitments=list(current.commitments.values())[:1])
    withdraw = e.Withdraw(at=world.state.at, worker=1, reason="")
    for entry in (reveal, commit, withdraw):
        assert refused(world.state, entry).step == Step.PROGRESS


def test_a_key_has_one_number_and_a_number_one_key() -> None:
    world = fresh()
    first, second = world.players[:2]
    again = e.Join(at=world.state.at, worker=6, key=first.key.public, signature=first.enter(world.state.run))
    assert refused(world.state, again).step == Step.PROGRESS
    skipped = e.Join(at=world.state.at, worker=7, key=fresh(8).players[7].key.public, signature=bytes(64))
    assert refused(world.state, skipped).step == Step.PROGRESS
    world.manager.lost(0, "gone")
    taken = e.Join(at=world.state.at, worker=0, key=second.key.public, signature=second.enter(world.state.run))
    assert refused(world.state, taken).step == Step.PROGRESS


def test_an_update_is_applied_once_with_a_finite_loss_and_never_in_a_settlement() -> None:
    world = fresh()
    answered(world)
    world.manager.reveal()
    verdict = world.manager.judge({})[0]
    update = e.Apply(at=world.state.at, round=0, update=bytes(32), parameters=bytes(32), loss=0.0)
    assert refused(world.state, e.Pay(at=world.state.at, round=0, transfers=[])).step == Step.PROGRESS
    for loss in (float("nan"), float("inf")):
        assert refused(world.state, msgspec.structs.replace(update, loss=loss)).step == Step.PROGRESS
    assert refused(world.state, verdict).step == Step.VERDICTS
    world.state.apply(update)
    assert refused(world.state, update).step == Step.PROGRESS
    other = msgspec.structs.replace(
        verdict, fragment=(verdict.fragment + 1) % 4, outcome="referee", reason="non-finite"
    )
    assert refused(world.state, other).step == Step.PROGRESS
    last = to_settlement(4)
    answered(last)
    last.manager.reveal()
    last.manager.judge({})
    late = msgspec.structs.replace(update, round=last.state.round, at=last.state.at)
    assert refused(last.state, late).step == Step.PROGRESS


def test_a_verdict_must_be_the_one_that_follows_from_the_results() -> None:
    world = fresh()
    answered(world)
    world.manager.reveal()
    current = world.state.current
    assert current is not None and current.roles is not None
    checked = current.roles.checked
    plain = (checked + 1) % len(current.open.fragments)
    right = e.Verdict(
        at=world.state.at,
        round=0,
        fragment=checked,
        outcome="agree",
        reason="compared",
        accepted=current.accepted(checked),
        evicted=[],
    )
    everybody = sorted(current.fragment_results(checked))
    for change in (
        {"fragment": 99},
        {"fragment": plain, "accepted": current.accepted(plain)},
        {"outcome": "vote"},
        {"accepted": bytes(32)},
        {"evicted": everybody[:1]},
        {"outcome": "referee", "reason": "no-majority", "accepted": bytes(32), "evicted": everybody},
        {"outcome": "referee", "reason": "compared"},
        {"reason": "non-finite"},
        {"outcome": "referee", "reason": "non-finite", "accepted": bytes(32), "evicted": []},
    ):
        assert refused(world.state, msgspec.structs.replace(right, **change)).step == Step.VERDICTS, change
    world.state.apply(right)


def test_a_manager_may_overrule_only_by_saying_that_it_executed() -> None:
    """What THREATS.md admits: a false "non-finite" convicts by the manager's word, in sight of everybody."""
    world = fresh()
    answered(world)
    world.manager.reveal()
    world.manager.suspect(0)
    disputed = world.manager.disputes()[0].fragment
    current = world.state.current
    assert current is not None
    world.manager.judge({disputed: bytes(32)})
    verdict = current.verdicts[disputed]
    assert (verdict.outcome, verdict.evicted) == ("referee", sorted(current.fragment_results(disputed)))


def test_a_round_that_was_forgotten_begins_anew_with_the_same_secret_and_seats() -> None:
    world = fresh()
    world.write()
    world.manager.lost(5, "left before the round")
    first = {a.origin: a.task.digest() for a in opened(world)}
    world.manager.forget_round()
    assert [type(entry) for entry in world.manager.take()] == [e.Withdraw]
    assert {a.origin: a.task.digest() for a in opened(world)} == first
    world.manager.lost(0, "left within the round")
    world.manager.forget_round()
    assert world.state.workers[0].status == "withdrawn"
    assert [type(entry) for entry in world.manager.take()] == [e.Withdraw]


def test_a_round_has_the_number_place_and_parameters_that_are_due() -> None:
    world = fresh()
    plan = world.manager.upcoming()
    assert plan is not None
    fragments = world._fragments(plan)
    right = e.Open(
        at=world.state.at,
        round=0,
        purpose="train",
        epoch=0,
        offset=0,
        lines=plan.lines,
        parameters=world.state.parameters,
        fragments=fragments,
    )
    for change in (
        {"round": 1},
        {"purpose": "settle"},
        {"epoch": 1},
        {"offset": 1},
        {"lines": plan.lines - 1},
        {"parameters": bytes(32)},
        {"fragments": fragments[1:]},
    ):
        assert refused(world.state, msgspec.structs.replace(right, **change)).step == Step.PROGRESS, change
    done = to_settlement(4)
    while done.manager.upcoming() is not None:
        done.step()
    late = msgspec.structs.replace(right, at=done.state.at, round=done.state.round)
    assert refused(done.state, late).step == Step.PROGRESS


def test_commitments_come_once_in_order_and_from_who_holds_the_task() -> None:
    world = fresh()
    tasks = opened(world)
    logged = []
    for assignment in tasks:
        c = world.players[assignment.holder].commit(assignment)[0]
        logged.append(e.Commitment(c.origin, c.holder, c.commitment, c.signature))
    first, second = logged[:2]
    stranger = msgspec.structs.replace(first, origin=99, holder=99)
    for commitments in (
        [second, first],
        [first, first],
        [stranger],
        [msgspec.structs.replace(first, holder=second.holder)],
    ):
        entry = e.Commit(at=world.state.at, round=0, commitments=commitments)
        assert refused(fresh_like(world), entry).step == Step.OPENINGS
    world.state.apply(e.Commit(at=world.state.at, round=0, commitments=[first]))
    assert refused(world.state, e.Commit(at=world.state.at, round=0, commitments=[first])).step == Step.OPENINGS
    world.state.apply(e.Withdraw(at=world.state.at, worker=second.holder, reason=""))
    gone = e.Commit(at=world.state.at, round=0, commitments=[second])
    assert refused(world.state, gone).step == Step.OPENINGS


def fresh_like(world: World) -> RunState:
    """Another state at the same place: a refused entry may leave its own half done."""
    again = fresh()
    opened(again)
    assert again.state.index == world.state.index
    return again.state


def test_a_task_goes_only_to_somebody_who_is_there_and_never_in_a_settlement() -> None:
    world = fresh()
    opened(world)
    for worker in (0, 1):
        world.state.apply(e.Withdraw(at=world.state.at, worker=worker, reason=""))
    for origin, holder in ((0, 1), (0, 99), (99, 2), (2, 3)):
        entry = e.Redeal(at=world.state.at, round=0, origin=origin, holder=holder)
        assert refused(world.state, entry).step == Step.PROGRESS
    last = to_settlement(4)
    opened(last)
    last.state.apply(e.Withdraw(at=last.state.at, worker=0, reason=""))
    entry = e.Redeal(at=last.state.at, round=last.state.round, origin=0, holder=1)
    assert refused(last.state, entry).step == Step.PROGRESS
