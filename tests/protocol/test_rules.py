"""What a lying manager could try to write, one attempt a test."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import pytest
from examples_drawn import examples
from hypothesis import given

from podlt.crypto import HashChain, digest
from podlt.errors import InvalidProofError, TooFewWorkersError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import TreeSize
from podlt.protocol.rules import RunState
from podlt.sim.world import Scenario, World

from .scripted import Scripted, scripted, scripted_world, spoiled
from .steps_of_a_round import SCENARIO, answered, begin_of, fresh, joining, opened, refused, to_settlement


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"reward": 2**62}, Claim.PAYMENTS),
        ({"lines": 2**62}, Claim.PROGRESS),
        ({"spares": 1}, Claim.PROGRESS),
        ({"chain_length": 4}, Claim.DRAWS),
        ({"epochs": 0}, Claim.PROGRESS),
    ],
)
def test_a_run_that_no_reader_could_follow_does_not_begin(change: dict[str, int], claim: Claim) -> None:
    entry = msgspec.structs.replace(begin_of(fresh()), **change)
    assert refused(RunState(), entry).step == claim


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
    before = {n: world.state.ledger.accounts[n].pending - world.state.compared.get(n, 0) for n in (1, 3)}
    while world.step():
        pass
    assert world.state.closed is not None and world.state.closed.outcome == "complete"
    pending = {n: account.pending for n, account in world.state.ledger.accounts.items() if account.pending}
    assert pending == {n: amount for n, amount in before.items() if amount}, "what was compared is paid to whoever left"


def test_who_leaves_after_a_check_is_paid_for_all_of_it_when_the_run_is_settled() -> None:
    world, _ = scripted_world(SCENARIO, 5)
    worker = -1
    while worker < 0:
        world.step()
        accounts, compared = world.state.ledger.accounts, world.state.compared
        worker = next((n for n, amount in compared.items() if amount == accounts[n].pending), -1)
    world.manager.withdraw(worker, "left")
    while world.step():
        pass
    account = world.state.ledger.accounts[worker]
    assert account.pending == 0 < account.vested and not world.state.compared


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
    world, log = scripted_world(Scenario(lines=12, block_lines=6, deposit=9, tested=True), 4)
    players: list[Scripted] = world.players  # type: ignore[assignment]
    players[1].mood = "mute"
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
        (e.Apply(at=world.state.at, round=0, update=bytes(32), parameters=bytes(32), loss=0.0), Claim.VERDICTS),
        (e.Pay(at=world.state.at, round=0, transfers=[]), Claim.VERDICTS),
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


def test_an_update_is_applied_once_with_a_finite_loss_and_never_in_a_settlement() -> None:
    world = fresh()
    answered(world)
    world.manager.reveal()
    verdict = world.manager.judge({})[0]
    update = e.Apply(at=world.state.at, round=0, update=bytes(32), parameters=bytes(32), loss=0.0)
    assert refused(world.state, e.Pay(at=world.state.at, round=0, transfers=[])).step == Claim.PROGRESS
    for loss in (float("nan"), float("inf")):
        assert refused(world.state, msgspec.structs.replace(update, loss=loss)).step == Claim.PROGRESS
    assert refused(world.state, verdict).step == Claim.VERDICTS
    world.state.apply(update)
    assert refused(world.state, update).step == Claim.PROGRESS
    other = msgspec.structs.replace(
        verdict, fragment=(verdict.fragment + 1) % 4, outcome="referee", reason="non-finite"
    )
    assert refused(world.state, other).step == Claim.PROGRESS
    last = to_settlement(4)
    answered(last)
    last.manager.reveal()
    last.manager.judge({})
    late = msgspec.structs.replace(update, round=last.state.round, at=last.state.at)
    assert refused(last.state, late).step == Claim.PROGRESS


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
        assert refused(world.state, msgspec.structs.replace(right, **change)).step == Claim.VERDICTS, change
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
    fragments = world.fragments(plan)
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
        assert refused(world.state, msgspec.structs.replace(right, **change)).step == Claim.PROGRESS, change
    done = to_settlement(4)
    while done.manager.upcoming() is not None:
        done.step()
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


def test_a_task_goes_only_to_somebody_who_is_there_and_never_in_a_settlement() -> None:
    world = fresh()
    opened(world)
    for worker in (0, 1):
        world.state.apply(e.Withdraw(at=world.state.at, worker=worker, reason=""))
    for seat, holder in ((0, 1), (0, 99), (99, 2), (2, 3)):
        entry = e.Redeal(at=world.state.at, round=0, seat=seat, holder=holder)
        assert refused(world.state, entry).step == Claim.PROGRESS
    last = to_settlement(4)
    opened(last)
    last.state.apply(e.Withdraw(at=last.state.at, worker=0, reason=""))
    entry = e.Redeal(at=last.state.at, round=last.state.round, seat=0, holder=1)
    assert refused(last.state, entry).step == Claim.PROGRESS


@pytest.mark.parametrize("kind", [kind for kind in e.KINDS if kind is not e.Begin])
def test_nothing_comes_before_begin(kind: type[e.Entry]) -> None:
    entry = next((entry for entry in FUZZED if isinstance(entry, kind)), e.Resume(at=0))
    assert refused(RunState(), entry).step == Claim.PROGRESS
