"""Small moves that the tests of the rules are made of."""

from __future__ import annotations

import pytest
from scripted import CLASSIC, GUARDED, scripted_world

from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.messages import Assignment, JoinTerms
from podlt.protocol.round import RevealedRound
from podlt.protocol.rules import RunState
from podlt.sim.players import Player
from podlt.sim.world import Scenario, World

SCENARIO = Scenario(examples=40, batch_size=10, protocol=CLASSIC)
HIDDEN = Scenario(examples=40, batch_size=10, protocol=GUARDED)
"""The same by the two sets of rules."""


def fresh(workers: int = 6, scenario: Scenario = SCENARIO) -> World:
    return scripted_world(scenario, workers)[0]


def joining(world: World, player: Player, *, worker: int | None = None, deposit: int = 0) -> e.Join:
    """What the log would say if a player signed the terms of joining under that number, over the last tree head."""
    number = player.number if worker is None else worker
    terms = JoinTerms(number, deposit, world.tree.size, world.tree.root(), player.operator)
    signatures = player.join(world.state.run, terms)
    return e.Join(
        at=world.state.at,
        worker=terms.worker,
        key=player.key.public,
        operator=player.operator,
        deposit=deposit,
        seen=terms.seen,
        root=terms.root,
        signature=signatures.terms,
        share=signatures.share,
    )


def opened(world: World) -> list[Assignment]:
    plan = world.manager.upcoming()
    assert plan is not None
    return world.manager.open(plan, world.shards(plan))


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
    state = world.state
    world.manager.judge({f: world.honest_result(state.task(f)) for f in world.manager.to_execute()})
    world.manager.apply(bytes(32), bytes(32), 0.0)
    world.manager.pay()


def begin_of(world: World) -> e.Begin:
    assert world.state.begin is not None
    return world.state.begin


def trained(workers: int, scenario: Scenario = SCENARIO) -> World:
    """A run whose epochs are done, and nothing is released yet."""
    world = fresh(workers, scenario)
    while not world.state.trained:
        world.step()
    return world


def revealed(world: World) -> RevealedRound:
    """A round whose results are all in and shown."""
    answered(world)
    world.manager.reveal()
    return world.state.revealed


def answer_in_full(world: World, assignments: list[Assignment]) -> e.Reveal:
    """Has everybody commit, past the manager; gives the reveal that would follow."""
    commitments, openings = [], []
    for assignment in assignments:
        player = world.players[assignment.holder]
        c = player.commit(assignment)[0]
        commitments.append(e.Commitment(c.seat, c.holder, c.commitment, c.signature))
        shown = next(m for m, _ in player.open(0) if m.seat == assignment.seat)
        openings.append(e.Opening(shown.seat, shown.holder, shown.update, shown.salt))
    commitments.sort(key=lambda c: (c.seat, c.holder))
    openings.sort(key=lambda o: (o.seat, o.holder))
    world.state.apply(e.Commit(at=world.state.at, round=0, commitments=commitments))
    return e.Reveal(at=world.state.at, round=0, secret=world.chain.secret(0), openings=openings)
