"""What a lying manager could try to write, one attempt a test."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from examples_drawn import examples
from hypothesis import given
from scripted import GUARDED, moods, scripted, scripted_world, spoiled

from podlt.canonical import encode
from podlt.crypto import HashChain, digest
from podlt.errors import InvalidProofError, TooFewWorkersError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import TreeSize
from podlt.protocol.rules import RunState
from podlt.sim.world import Scenario, World

from .steps_of_a_round import HIDDEN, answered, begin_of, fresh, joining, opened, refused, revealed, trained
from .test_draws import Preset


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"reward": 2**62}, Claim.PAYMENTS),
        ({"examples": 2**62}, Claim.PROGRESS),
        ({"spares": 1}, Claim.PROGRESS),
        ({"checked": 1}, Claim.PROGRESS),
        ({"own": 1}, Claim.PROGRESS),
        ({"own_most": 1}, Claim.PROGRESS),
        ({"clip": 1}, Claim.PROGRESS),
        ({"first_fault": "suspend"}, Claim.PROGRESS),
        ({"escrow": 2**20 + 1}, Claim.PROGRESS),
        ({"preset": "guarded"}, Claim.PROGRESS),
        ({"chain_length": 3}, Claim.DRAWS),
        ({"epochs": 0}, Claim.PROGRESS),
    ],
)
def test_a_run_that_no_reader_could_follow_does_not_begin(change: dict[str, Any], claim: Claim) -> None:
    entry = msgspec.structs.replace(begin_of(fresh()), **change)
    assert refused(RunState(), entry).step == claim


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"spares": 2}, Claim.PROGRESS),
        ({"checked": 1_000_001}, Claim.PROGRESS),
        ({"own": 1_000_001}, Claim.PROGRESS),
        ({"clip": 2**20 + 1}, Claim.PROGRESS),
        ({"escrow": 2**20 + 1}, Claim.PROGRESS),
        ({"preset": "classic"}, Claim.PROGRESS),
        ({"chain_length": 3}, Claim.DRAWS),
    ],
)
def test_the_options_of_guarded_have_their_ranges(change: dict[str, Any], claim: Claim) -> None:
    right = begin_of(fresh(6, HIDDEN))
    assert right.chain_length == 4  # 40 examples in rounds of ten
    assert refused(RunState(), msgspec.structs.replace(right, **change)).step == claim
    widest = {"checked": 1_000_000, "own": 1_000_000, "own_most": 2**40, "clip": 2**20, "escrow": 2**20}
    for options in (widest, {"checked": 0, "own": 0, "own_most": 0, "clip": 0, "escrow": 0, "first_fault": "evict"}):
        RunState().apply(msgspec.structs.replace(right, **options))


def test_below_three_workers_a_classic_run_stops_and_goes_on_with_more() -> None:
    world = fresh(3)
    moods(world)[0].mood = "silent"
    assert not world.step()
    with pytest.raises(TooFewWorkersError):
        world.manager.upcoming()
    world.manager.resume()
    moods(world)[0].mood = "honest"
    world.admit(world.players[0])
    while world.step():
        pass
    assert world.state.closed is not None and world.state.closed.outcome == "complete"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_guarded_run_goes_on_with_one_worker_and_stops_with_none(workers: int) -> None:
    world = fresh(workers, HIDDEN)
    world.step()
    for number in range(1, workers):
        world.manager.withdraw(number, "goes")
    world.step()
    assert world.state.round == 2
    world.manager.withdraw(0, "goes")
    assert not world.step() and world.state.closed is not None and world.state.closed.outcome == "stopped"
    with pytest.raises(TooFewWorkersError):
        world.manager.upcoming()
    world.manager.resume()
    world.write()
    for player in world.players:
        world.admit(player)
    while world.step():
        pass
    assert world.state.closed.outcome == "complete"


@Preset
def test_the_rounds_of_an_honest_run_pay_every_credit_that_was_earned(scenario: Scenario) -> None:
    world = fresh(6, scenario)
    while world.step():
        pass
    accounts = world.state.ledger.accounts.values()
    assert all(a.pending == 0 and a.forfeited == 0 for a in accounts)
    assert sum(a.vested for a in accounts) == -world.state.ledger.treasury > scenario.examples


@examples(200)
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
            assert error.step in set(Claim)
            return


def _few_rounds() -> list[e.AnyEntry]:
    world, log = scripted_world(Scenario(examples=12, batch_size=6, deposit=9, tested=True, protocol=GUARDED), 5)
    moods(world)[1].mood, moods(world)[2].mood = "mute", "slow"
    while world.step():
        pass
    return [e.decode(body) for _, _, body in log.entries()]


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


APPLIED = e.Apply(at=0, round=0, update=bytes(32), parameters=bytes(32), loss=0.0, clipped=[])


def test_nobody_joins_and_nothing_resumes_closes_or_opens_within_a_round() -> None:
    world = fresh()
    assignment = opened(world)[0]
    begin = begin_of(world)
    stranger = scripted(6, world.gossip)
    join = joining(world, stranger)
    current = world.state.current
    assert current is not None
    for entry, claim in (
        (begin, Claim.PROGRESS),
        (join, Claim.PROGRESS),
        (current.open, Claim.PROGRESS),
        (e.Resume(at=world.state.at), Claim.PROGRESS),
        (e.Close(at=world.state.at, outcome="stopped", reason=""), Claim.OUTCOME),
        (APPLIED, Claim.PROGRESS),
        (e.Pay(at=world.state.at, round=0, transfers=[]), Claim.PROGRESS),
        (e.Release(at=world.state.at, transfers=[]), Claim.PROGRESS),
        (e.Amend(at=world.state.at, epochs=2, optimizer="", reason=""), Claim.PROGRESS),
        (e.Commit(at=world.state.at, round=1, commitments=[]), Claim.PROGRESS),
        (e.Commit(at=world.state.at, round=0, commitments=[]), Claim.OPENINGS),
        (e.Redeal(at=world.state.at, round=0, seat=99, holder=0), Claim.PROGRESS),
        (e.Withdraw(at=world.state.at, worker=99, reason=""), Claim.PROGRESS),
    ):
        entry = msgspec.structs.replace(entry, at=world.state.at)
        assert refused(world.state, entry).step == claim, entry
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
        assert refused(world.state, entry).step == Claim.PROGRESS


def test_a_key_has_one_number_and_a_number_one_key() -> None:
    world = fresh()
    first, second = world.players[:2]
    assert refused(world.state, joining(world, first, worker=6)).step == Claim.PROGRESS
    assert refused(world.state, joining(world, first)).step == Claim.PROGRESS
    world.manager.withdraw(0, "gone")
    world.write()
    assert refused(world.state, joining(world, second, worker=0)).step == Claim.PROGRESS
    assert refused(world.state, joining(world, first, worker=7)).step == Claim.PROGRESS
    world.state.apply(joining(world, first))


def test_numbers_may_have_gaps() -> None:
    world = fresh()
    world.state.apply(joining(world, scripted(8, world.gossip), worker=2**20 - 1))
    assert world.state.active() == [0, 1, 2, 3, 4, 5, 2**20 - 1]
    assert world.manager.join_terms(scripted(9, world.gossip).key.public, 0, TreeSize(0, bytes(32))).worker == 7
    tasks = opened(world)
    assert {a.holder for a in tasks} <= set(world.state.active()) and len(tasks) == 7


def test_an_update_is_applied_once_with_a_finite_loss_after_all_verdicts() -> None:
    world = fresh()
    assert len(revealed(world).due()) == 1
    update = msgspec.structs.replace(APPLIED, at=world.state.at)
    assert refused(world.state, update).step == Claim.VERDICTS
    verdict = world.manager.judge({})[0]
    assert refused(world.state, e.Pay(at=world.state.at, round=0, transfers=[])).step == Claim.PROGRESS
    for loss in (float("nan"), float("inf")):
        assert refused(world.state, msgspec.structs.replace(update, loss=loss)).step == Claim.PROGRESS
    assert refused(world.state, verdict).step == Claim.VERDICTS
    update = msgspec.structs.replace(update, at=world.state.at)
    world.state.apply(update)
    assert refused(world.state, update).step == Claim.PROGRESS
    other = msgspec.structs.replace(verdict, shard=(verdict.shard + 1) % 4, outcome="referee", reason="suspect")
    assert refused(world.state, other).step == Claim.PROGRESS


@pytest.mark.parametrize(
    ("clipped", "clip", "holds"),
    [
        ([], 0, True),
        ([(0, 0, 1)], 0, False),
        ([(0, 0, 1), (0, 1, 1024), (2, 0, 5)], 4, True),
        ([(0, 1, 1), (0, 0, 1)], 4, False),
        ([(0, 0, 1), (0, 0, 2)], 4, False),
        ([(1, 0, 1), (0, 0, 1)], 4, False),
        ([(99, 0, 1)], 4, False),
    ],
)
def test_what_was_clipped_is_in_order_within_the_round_and_only_where_the_run_clips(
    clipped: list[tuple[int, int, int]], clip: int, holds: bool
) -> None:
    rules = msgspec.structs.replace(HIDDEN.protocol, clip=clip)
    world = fresh(6, msgspec.structs.replace(HIDDEN, protocol=rules))
    revealed(world)
    world.manager.judge({f: world.honest_result(world.state.task(f)) for f in world.manager.to_execute()})
    entry = msgspec.structs.replace(APPLIED, at=world.state.at, clipped=[e.ClippedPart(*each) for each in clipped])
    if holds:
        world.state.apply(entry)
    else:
        assert refused(world.state, entry).step == Claim.PROGRESS


@pytest.mark.parametrize("clipped", [(0, 2, 1), (0, 0, 0), (0, 0, 1025), (0, -1, 1)])
def test_a_part_that_is_none_or_a_factor_out_of_range_is_malformed(clipped: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidProofError):
        e.decode(encode(msgspec.structs.replace(APPLIED, clipped=[e.ClippedPart(*clipped)])))


def test_a_round_that_was_forgotten_begins_anew_with_the_same_secret_and_seats() -> None:
    world = fresh()
    world.write()
    world.manager.withdraw(5, "left before the round")
    first = {a.seat: a.task.digest() for a in opened(world)}
    world.manager.roll_back_round()
    assert [type(entry) for entry in world.manager.take()] == [e.Withdraw]
    assert {a.seat: a.task.digest() for a in opened(world)} == first
    world.manager.withdraw(0, "left within the round")
    world.manager.roll_back_round()
    assert world.state.workers[0].status == "withdrawn"
    assert [type(entry) for entry in world.manager.take()] == [e.Withdraw]


def test_a_round_has_the_number_place_and_parameters_that_are_due() -> None:
    world = fresh()
    plan = world.manager.upcoming()
    assert plan is not None
    shards = world.shards(plan)
    right = e.Open(
        at=world.state.at,
        round=0,
        attempt=0,
        epoch=0,
        offset=0,
        examples=plan.examples,
        parameters=world.state.parameters,
        shards=shards,
    )
    for change in (
        {"round": 1},
        {"attempt": 1},
        {"epoch": 1},
        {"offset": 1},
        {"examples": plan.examples - 1},
        {"parameters": bytes(32)},
        {"shards": shards[1:]},
    ):
        assert refused(world.state, msgspec.structs.replace(right, **change)).step == Claim.PROGRESS, change
    done = trained(4)
    late = msgspec.structs.replace(right, at=done.state.at, round=done.state.round)
    assert refused(done.state, late).step == Claim.PROGRESS


def test_commitments_come_once_in_order_and_from_who_holds_the_task() -> None:
    world = fresh()
    tasks = opened(world)
    logged = []
    for assignment in tasks:
        c = world.players[assignment.holder].commit(assignment)[0]
        logged.append(e.Commitment(c.seat, c.holder, c.commitment, c.signature))
    first, second = logged[:2]
    stranger = msgspec.structs.replace(first, seat=99, holder=99)
    for commitments in (
        [second, first],
        [first, first],
        [stranger],
        [msgspec.structs.replace(first, holder=second.holder)],
    ):
        entry = e.Commit(at=world.state.at, round=0, commitments=commitments)
        assert refused(fresh_like(world), entry).step == Claim.OPENINGS
    world.state.apply(e.Commit(at=world.state.at, round=0, commitments=[first]))
    assert refused(world.state, e.Commit(at=world.state.at, round=0, commitments=[first])).step == Claim.OPENINGS
    world.state.apply(e.Withdraw(at=world.state.at, worker=second.holder, reason=""))
    gone = e.Commit(at=world.state.at, round=0, commitments=[second])
    assert refused(world.state, gone).step == Claim.OPENINGS


def fresh_like(world: World) -> RunState:
    """Another state at the same place: a refused entry may leave its own half done."""
    again = fresh()
    opened(again)
    assert again.state.index == world.state.index
    return again.state


def test_a_task_goes_only_to_somebody_who_is_there() -> None:
    world = fresh()
    opened(world)
    for worker in (0, 1):
        world.state.apply(e.Withdraw(at=world.state.at, worker=worker, reason=""))
    for seat, holder in ((0, 1), (0, 99), (99, 2), (2, 3)):
        entry = e.Redeal(at=world.state.at, round=0, seat=seat, holder=holder)
        assert refused(world.state, entry).step == Claim.PROGRESS


@pytest.mark.parametrize("kind", [kind for kind in e.KINDS if kind is not e.Begin])
def test_nothing_comes_before_begin(kind: type[e.Entry]) -> None:
    entry = next((entry for entry in FUZZED if isinstance(entry, kind)), e.Resume(at=0))
    assert refused(RunState(), entry).step == Claim.PROGRESS


@Preset
def test_a_round_has_as_many_shards_as_its_number_of_spares_leaves(scenario: Scenario) -> None:
    world = fresh(8, scenario)
    begin, due = begin_of(world), world.state.spares(0, 8)
    for spares in range(8):
        plan = begin.cut.upcoming(0, 0, 8 - spares)
        entry = e.Open(
            at=world.state.at,
            round=0,
            attempt=0,
            epoch=0,
            offset=0,
            examples=plan.examples,
            parameters=world.state.parameters,
            shards=world.shards(plan),
        )
        again = fresh(8, scenario)
        if spares == due:
            again.state.apply(entry)
        else:
            assert refused(again.state, entry).step == Claim.PROGRESS
