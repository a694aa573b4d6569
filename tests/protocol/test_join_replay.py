"""A signature on joining is good for one joining: whatever a lying manager does with it, rules and verify refuse it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from podlt.canonical import encode
from podlt.errors import InvalidProofError
from podlt.log.checkpoint import Head, origin_of, sign_head
from podlt.log.merkle import leaf_hash
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.messages import JoinTerms
from podlt.protocol.signatures import join_check
from podlt.sim.players import Player
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.verify import Verification, verify_log
from podlt.verify_files import Documents

GONE = 2


def left() -> World:
    """A run after some rounds, that a worker has just left."""
    seed = bytes(32)

    def players(gossip: Any) -> list[Any]:
        return [make_player(Player, number, seed, gossip) for number in range(5)]

    world = World(Scenario(lines=40, block_lines=4, deposit=30), players, seed, MemoryLog())
    world.begin()
    for _ in range(3):
        world.step()
    world.manager.lost(GONE, "left")
    world.write()
    return world


def joins(world: World) -> list[e.Join]:
    found = [e.decode(body) for _, _, body in world.log.entries()]  # type: ignore[attr-defined]
    return [entry for entry in found if isinstance(entry, e.Join) and entry.worker == GONE]


def verified(world: World) -> Verification:
    return verify_log(world.log, Documents(world.recipe, world.program), jobs=1)  # type: ignore[arg-type]


def published(world: World, entry: e.Entry) -> Verification:
    """What verify says of the log after the manager has added an entry, whatever the rules say, and signed for it."""
    body, first = encode(entry), world.tree.size
    world.tree.append(leaf_hash(body))
    note = sign_head(Head(origin_of(world.state.run), world.tree.size, world.tree.root()), world.key)
    world.log.append(first, [body], note)
    return verified(world)


def test_who_left_is_not_shown_as_back_by_its_old_signature() -> None:
    world = left()
    (old,) = joins(world)
    again = msgspec.structs.replace(old, at=world.state.at)
    found = published(world, again)
    assert found.failure is not None and found.finding(Claim.SIGNATURES).outcome == "fails"
    assert found.failure.entry == world.tree.size - 1 and "before it joined last" in found.failure.reason
    with pytest.raises(InvalidProofError, match="signed this before it joined last"):
        world.state.apply(again)


@pytest.mark.parametrize("what", ["seen", "root", "deposit"])
def test_an_old_signature_does_not_hold_over_what_a_new_joining_needs(what: str) -> None:
    world = left()
    (old,) = joins(world)
    new = {"seen": world.tree.size, "root": world.tree.root(), "deposit": 0}
    kept = {what: getattr(old, what)}  # all but this one as an honest joining would have it
    forged = msgspec.structs.replace(old, at=world.state.at, **{**new, **kept})
    found = published(world, forged)
    assert found.failure is not None and found.failure.step == Claim.SIGNATURES
    assert found.failure.entry == world.tree.size - 1


def test_who_comes_back_signs_anew_and_that_holds() -> None:
    world = left()
    world.admit(world.players[GONE])
    world.write()
    old, new = joins(world)
    assert new.seen > old.seen and new.signature != old.signature and new.deposit == 0 < old.deposit
    found = verified(world)
    assert found.failure is None and found.finding(Claim.SIGNATURES).outcome == "holds"


@pytest.mark.parametrize(
    "changes", [{"worker": 1}, {"deposit": 1}, {"seen": 8}, {"root": bytes(32)}, {"worker": 7, "deposit": 0}]
)
def test_a_signature_is_over_number_deposit_and_head(changes: dict[str, Any]) -> None:
    world = left()
    (old,) = joins(world)
    terms = JoinTerms.of(old)
    assert join_check(world.state.run, old.key, terms, old.signature).holds()
    assert not join_check(world.state.run, old.key, msgspec.structs.replace(terms, **changes), old.signature).holds()
    assert not join_check(bytes(32), old.key, terms, old.signature).holds()
    assert not join_check(world.state.run, world.key.public, terms, old.signature).holds()
