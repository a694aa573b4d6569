"""The terms of a run, amended: what may change when, and what follows from it."""

from __future__ import annotations

import msgspec
import pytest
from scripted import CLASSIC, failing, log_figures, replay, scripted_world, verified

from podlt.errors import InvalidProofError
from podlt.log.merkle import EMPTY_ROOT
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import TreeSize
from podlt.sim.world import MemoryLog, Scenario, World
from podlt.units import MAX_INT

SCENARIO = Scenario(examples=20, epochs=2, batch_size=10, tested=True, protocol=CLASSIC)


def begun(rounds: int = 1, **changes: object) -> tuple[World, MemoryLog]:
    """A run of five workers after some rounds."""
    scenario = Scenario(**{**{f: getattr(SCENARIO, f) for f in SCENARIO.__struct_fields__}, **changes})
    world, log = scripted_world(scenario, 5, spare_secrets=100)
    for _ in range(rounds):
        world.step()
    return world, log


def amend(epochs: int, optimizer: str = "") -> e.Amend:
    """An amendment at a time after everything."""
    return e.Amend(at=2**60, epochs=epochs, optimizer=optimizer, reason="")


@pytest.mark.parametrize(
    ("rounds", "entry", "claim"),
    [
        (2, amend(0), Claim.PROGRESS),  # one epoch is done
        (1, amend(2**40), Claim.PROGRESS),
        (1, amend(3, "lr=1"), Claim.TERMS),
        (1, amend(3, "[1]"), Claim.TERMS),
        (1, amend(3, '{"lr": 1}'), Claim.TERMS),  # a blank: not its one encoding
        (5, amend(2), Claim.OUTCOME),  # complete, and nothing to train
    ],
)
def test_an_amendment_that_the_rules_do_not_allow_fails(rounds: int, entry: e.Amend, claim: Claim) -> None:
    _, log = begun(rounds)
    with pytest.raises(InvalidProofError) as raised:
        replay(log).apply(entry)
    assert raised.value.step == claim


def test_terms_are_not_amended_within_a_round() -> None:
    world, _ = begun()
    plan = world.manager.upcoming()
    assert plan is not None
    world.manager.open(plan, world.shards(plan))
    with pytest.raises(InvalidProofError, match="between rounds only"):
        world.manager.amend(3)


def test_more_epochs_than_accounts_can_hold_are_not_to_be_paid() -> None:
    world, _ = begun(protocol=msgspec.structs.replace(CLASSIC, reward=MAX_INT // 20 // 4 // 8))
    world.manager.amend(3)
    with pytest.raises(InvalidProofError) as raised:
        world.manager.amend(3)
    assert raised.value.step == Claim.PAYMENTS


def test_the_figures_of_an_unfinished_epoch_are_due_before_the_end() -> None:
    world, _ = begun()
    world.manager.end("enough")
    assert world.manager.upcoming() is None
    with pytest.raises(InvalidProofError, match="not complete"):
        world.manager.close("complete")


def test_an_unfinished_epoch_goes_on_where_it_ended() -> None:
    world, log = begun()
    world.manager.end("enough")
    log_figures(world)
    while world.step():
        pass
    assert world.state.round == 1 and world.state.ended is not None
    world.manager.amend(1)
    world.write()
    assert world.state.active() == [] and not world.state.trained
    for player in world.players:
        world.admit(player)
    plan = world.manager.upcoming()
    assert plan is not None and (plan.epoch, plan.offset) == (0, 10)
    while world.step():
        pass
    assert world.state.ended is None and not failing(verified(world, log))
    measured = [entry.epoch for _, _, body in log.entries() if isinstance(entry := e.decode(body), e.Measure)]
    assert measured == [0, 0]


def test_nobody_goes_on_in_a_run_that_is_opened_again_by_a_signature_of_before() -> None:
    world, _ = begun(5)
    assert world.state.closed is not None
    seen = TreeSize(world.tree.size, world.tree.root())
    world.manager.amend(3)
    player = world.players[0]
    terms = world.manager.join_terms(player.key.public, 0, seen)
    assert terms.root != EMPTY_ROOT
    with pytest.raises(Exception, match="out of date"):
        world.manager.join(player.key.public, terms, player.join(world.state.run, terms))


def test_who_goes_on_after_the_end_keeps_what_vested_and_begins_with_an_empty_escrow() -> None:
    """A complete run holds nothing of anybody: what an amended one can take is what was earned since."""
    world, _ = begun(5)
    vested = {n: account.vested for n, account in world.state.ledger.accounts.items()}
    world.manager.amend(9)
    world.write()
    for player in world.players:
        world.admit(player)
    world.players[0].mood = "fake"  # type: ignore[attr-defined]
    while world.step():
        pass
    assert 0 in world.convicted_in and world.state.ledger.accounts[0].vested == vested[0]
    assert all(world.state.ledger.accounts[n].vested > vested[n] for n in range(1, 5))


def test_what_was_released_at_an_end_that_was_none_is_gone_from_escrow() -> None:
    """A manager may end training, release, and go on: the log says so, entry by entry."""
    world, log = begun(protocol=msgspec.structs.replace(CLASSIC, escrow=50), deposit=7)
    pending = world.state.ledger.accounts[1].pending
    world.manager.end("enough")
    log_figures(world)
    world.manager._release([e.Transfer("vest", 1, pending)])
    world.manager.amend(2)
    world.write()
    assert world.state.is_active(1) and world.state.ledger.accounts[1].pending == 0 < pending
    while world.step():
        pass
    assert not failing(verified(world, log))
