"""Deposits: taken on joining, lost with a conviction, and returned whole to whoever was not convicted."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scripted import GUARDED, failing, moods, replay, scripted, scripted_world, until, verified

from podlt.errors import PeerError
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import JoinTerms, TreeSize
from podlt.protocol.state import MOST_PAID
from podlt.recipe import ProtocolSpec
from podlt.sim import simulate
from podlt.sim.world import Scenario, World
from podlt.store.log_store import LogStore
from podlt.units import MAX_INT

from .steps_of_a_round import begin_of, fresh, joining, opened, refused

SCENARIO = Scenario(examples=60, batch_size=6, deposit=100, protocol=ProtocolSpec(preset="classic", escrow=3))


def back(world: World, *transfers: tuple[int, int]) -> e.Release:
    return e.Release(at=world.state.at, transfers=[e.Transfer("return", w, a) for w, a in transfers])


def test_a_deposit_is_held_from_joining_and_returned_before_the_run_is_complete() -> None:
    world, log = scripted_world(SCENARIO, 5)
    assert [a.deposit for a in world.state.ledger.accounts.values()] == [100] * 5
    assert world.state.ledger.treasury == -500 and world.state.ledger.total() == 0
    while world.step():
        pass
    assert all((a.deposit, a.returned) == (0, 100) for a in world.state.ledger.accounts.values())
    last = [e.decode(row[2]) for row in log.rows][-2:]
    assert [type(entry) for entry in last] == [e.Release, e.Close]


def test_who_is_convicted_loses_its_deposit_with_its_pay_and_never_sees_it_again() -> None:
    world, log = scripted_world(SCENARIO, 5)
    moods(world)[0].mood = "fake"
    until(world, lambda: 0 in world.convicted_in)
    account = world.state.ledger.accounts[0]
    assert account.deposit == account.returned == account.pending == 0 and account.seized == 100
    last = next(x for x in (e.decode(row[2]) for row in reversed(log.rows)) if isinstance(x, e.Pay))
    assert ("seize", 0, 100) in {(t.kind, t.worker, t.amount) for t in last.transfers}
    assert world.manager.return_deposits([0]) == []
    assert refused(world.state, back(world, (0, 100))).step == Claim.PAYMENTS


def test_a_first_conviction_takes_the_deposit_too_and_who_comes_back_brings_another() -> None:
    world, log = scripted_world(msgspec.structs.replace(SCENARIO, protocol=GUARDED), 5)
    moods(world)[0].mood = "fake"
    until(world, lambda: 0 in world.convicted_in)
    account = world.state.ledger.accounts[0]
    assert world.state.workers[0].status == "suspended"
    assert (account.pending, account.deposit, account.seized) == (0, 0, 100)
    moods(world)[0].mood = "honest"
    world.admit(world.players[0])
    assert account.deposit == 100
    while world.step():
        pass
    assert account.returned == 100 and not failing(verified(world, log))


def test_who_works_gets_nothing_back_and_who_left_gets_it_all_once_its_pay_has_vested() -> None:
    world, _ = scripted_world(SCENARIO, 6)
    world.step()
    assert world.manager.return_deposits([2, 3]) == []
    assert refused(world.state, back(world, (2, 100))).step == Claim.PAYMENTS
    world.manager.withdraw(3, "goes")
    for _ in range(3):
        assert world.manager.return_deposits([2, 3]) == []
        assert refused(world.state, back(world, (3, 100))).step == Claim.PAYMENTS
        world.step()
    assert world.state.ledger.accounts[3].pending > 0, "it vests with the pay of one round more"
    assert world.manager.return_deposits([3]) == []
    world.step()
    assert [(t.worker, t.amount) for t in world.manager.return_deposits([2, 3])] == [(3, 100)]
    assert world.manager.return_deposits([3]) == [] and world.state.ledger.accounts[3].pending == 0


def test_who_left_with_nothing_pending_waits_all_the_same() -> None:
    """Its last results may still be found to be fakes, while there is something to lose."""
    world, _ = scripted_world(SCENARIO, 6)
    world.manager.withdraw(3, "goes at once")
    for _ in range(3):
        assert world.manager.return_deposits([3]) == []
        world.step()
    assert [t.worker for t in world.manager.return_deposits([3])] == [3]


def test_who_was_suspended_waits_from_the_pay_that_suspended_it() -> None:
    rules = msgspec.structs.replace(GUARDED, escrow=3)
    world, _ = scripted_world(msgspec.structs.replace(SCENARIO, protocol=rules, deposit=0), 5)
    moods(world)[0].mood = "fake"
    until(world, lambda: 0 in world.convicted_in)
    moods(world)[0].mood = "honest"
    world.write()
    world.scenario = msgspec.structs.replace(world.scenario, deposit=100)
    world.admit(world.players[0])
    world.manager.withdraw(0, "goes")
    assert world.state.workers[0].left == world.state.round == world.convicted_in[0] + 1
    for _ in range(3):
        assert world.manager.return_deposits([0]) == []
        world.step()
    assert [(t.worker, t.amount) for t in world.manager.return_deposits([0])] == [(0, 100)]


def test_who_comes_back_brings_what_is_not_held_any_more() -> None:
    world, _ = scripted_world(msgspec.structs.replace(SCENARIO, protocol=ProtocolSpec(escrow=0)), 5)
    world.manager.withdraw(4, "goes")
    world.admit(world.players[4])
    assert world.state.ledger.accounts[4].deposit == 100
    world.manager.withdraw(4, "goes")
    world.manager.return_deposits([4])
    world.admit(world.players[4])
    account = world.state.ledger.accounts[4]
    assert (account.deposit, account.returned, world.state.ledger.taken) == (100, 100, 600)
    assert world.state.ledger.total() == 0 and world.state.ledger.held == 500


def test_a_release_is_whole_in_order_of_known_workers_and_between_rounds() -> None:
    world, _ = scripted_world(msgspec.structs.replace(SCENARIO, protocol=ProtocolSpec(escrow=0)), 7)
    for worker in (3, 4):
        world.manager.withdraw(worker, "goes")
    for wrong in ((), ((3, 99),), ((3, 101),), ((4, 100), (3, 100)), ((3, 100), (3, 100)), ((9, 100),), ((0, 100),)):
        assert refused(world.state, back(world, *wrong)).step == Claim.PAYMENTS
    for kind in ("seize", "vest", "forfeit", "earn"):
        other = e.Release(at=world.state.at, transfers=[e.Transfer(kind, 3, 100)])  # type: ignore[arg-type]
        assert refused(world.state, other).step == Claim.PAYMENTS
    opened(world)
    assert refused(world.state, back(world, (3, 100))).step == Claim.PROGRESS


def test_a_run_is_not_complete_while_a_deposit_or_pay_is_held() -> None:
    world, _ = scripted_world(Scenario(examples=6, batch_size=6, deposit=5, protocol=GUARDED), 4)
    while not world.state.trained:
        world.step()
    close = e.Close(at=world.state.at, outcome="complete", reason="")
    failure = refused(world.state, close)
    assert failure.step == Claim.OUTCOME and "pay and deposits" in failure.reason
    pending = {n: account.pending for n, account in world.state.ledger.accounts.items()}
    vest = [e.Transfer("vest", n, amount) for n, amount in pending.items() if amount]
    returns = [e.Transfer("return", n, 5) for n in range(4)]
    for wrong in ([*returns, *vest], [*vest[1:], vest[0]], [*vest, e.Transfer("vest", 3, 1)]):
        assert refused(world.state, e.Release(at=world.state.at, transfers=wrong)).step == Claim.PAYMENTS
    world.state.apply(back(world, *((n, 5) for n in range(4))))
    assert refused(world.state, close).step == Claim.OUTCOME
    world.state.apply(e.Release(at=world.state.at, transfers=vest))
    world.state.apply(close)


def test_no_deposit_makes_an_account_larger_than_a_number_can_be() -> None:
    world = fresh(6)
    begin = begin_of(world)
    room = MAX_INT - MOST_PAID * begin.reward * begin.examples * begin.epochs
    stranger = scripted(6, world.gossip)
    assert refused(world.state, joining(world, stranger, deposit=room + 1)).step == Claim.PAYMENTS
    other, stranger = fresh(6), scripted(6, world.gossip)
    seen = TreeSize(other.tree.size, other.tree.root())
    terms = other.manager.join_terms(stranger.key.public, room, seen)
    other.manager.join(stranger.key.public, terms, stranger.join(other.state.run, terms))
    with pytest.raises(PeerError, match="deposit"):
        other.manager.join_terms(scripted(7, world.gossip).key.public, 1, seen)
    late = scripted(7, world.gossip)
    with pytest.raises(PeerError, match="out of date"):
        refused_terms = JoinTerms(7, 1, seen.size, seen.root)
        other.manager.join(late.key.public, refused_terms, late.join(other.state.run, refused_terms))


@pytest.mark.parametrize("kind", ["always", "selective:0.3", "copycat", "equivocator", "crashing:0.2", "leaving:0.1"])
@pytest.mark.parametrize("preset", ["classic", "guarded"])
def test_over_many_runs_honest_workers_get_their_deposits_back_and_caught_cheaters_never(
    preset: Any, kind: str, tmp_path: Path
) -> None:
    rules = ProtocolSpec(preset) if preset == "classic" else GUARDED
    for seed in range(2):
        path = tmp_path / str(seed)
        # Two that copy the same fake are two of three: in classic a vote can err (docs/THREATS.md, 10).
        cheaters = 1 if (kind, preset) == ("copycat", "classic") else 2
        found = simulate(9, {kind: cheaters}, 12, seed=seed, whole=True, deposit=50, directory=path, protocol=rules)
        with closing(LogStore.at(path / "log.db")) as log:
            state = replay(log)
        assert found.runs[0].honest_convicted == 0
        if found.runs[0].outcome != "complete":
            continue
        for number, worker in state.workers.items():
            account = state.ledger.accounts[number]
            assert account.returned == (0 if worker.convictions else 50)
            assert account.deposit == 0 and bool(worker.convictions) == (account.seized == 50)
