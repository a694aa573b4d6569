"""The terms of a run, amended: what may change when, and what follows from it."""

from __future__ import annotations

import pytest

from podlt.errors import InvalidProofError
from podlt.log.merkle import EMPTY_ROOT
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import TreeSize
from podlt.sim.world import MemoryLog, Scenario, World
from podlt.units import MAX_INT

from .scripted import failing, log_figures, replay, scripted_world, verified

SCENARIO = Scenario(lines=20, epochs=2, block_lines=10, tested=True)


def begun(rounds: int = 1, **changes: int) -> tuple[World, MemoryLog]:
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
        (6, amend(2), Claim.OUTCOME),  # complete, and nothing to train
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
    world.manager.open(plan, world.fragments(plan))
    with pytest.raises(InvalidProofError, match="between rounds only"):
        world.manager.amend(3)


def test_more_epochs_than_accounts_can_hold_are_not_to_be_paid() -> None:
    world, _ = begun(reward=MAX_INT // 20 // 4 // 8)
    world.manager.amend(3)
    with pytest.raises(InvalidProofError) as raised:
        world.manager.amend(3)
    assert raised.value.step == Claim.PAYMENTS


def test_the_figures_of_an_unfinished_epoch_are_due_before_the_settlement() -> None:
    world, _ = begun()
    world.manager.end("enough")
    with pytest.raises(InvalidProofError, match="figures"):
        world.manager.open(world.manager.upcoming(), [])  # type: ignore[arg-type]


def test_an_unfinished_epoch_goes_on_where_it_ended() -> None:
    world, log = begun()
    world.manager.end("enough")
    log_figures(world)
    while world.step():
        pass
    assert world.state.round == 2 and world.state.ended is not None
    world.manager.amend(1)
    world.write()
    assert world.state.active() == [] and not world.state.trained
    for player in world.players:
        world.admit(player)
    plan = world.manager.upcoming()
    assert plan is not None and (plan.purpose, plan.epoch, plan.offset) == ("train", 0, 10)
    while world.step():
        pass
    assert world.state.ended is None and not failing(verified(world, log))
    measured = [entry.epoch for _, _, body in log.entries() if isinstance(entry := e.decode(body), e.Measure)]
    assert measured == [0, 0]


def test_nobody_goes_on_in_a_run_that_is_opened_again_by_a_signature_of_before() -> None:
    world, _ = begun(6)
    assert world.state.closed is not None
    seen = TreeSize(world.tree.size, world.tree.root())
    world.manager.amend(3)
    player = world.players[0]
    terms = world.manager.join_terms(player.key.public, 0, seen)
    assert terms.root != EMPTY_ROOT
    with pytest.raises(Exception, match="out of date"):
        world.manager.join(player.key.public, terms, player.join(world.state.run, terms))
