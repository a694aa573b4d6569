"""What workers can send to an honest manager."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from scripted import moods, scripted

from podlt.crypto import digest
from podlt.errors import PeerError
from podlt.protocol.messages import Committed, TreeSize
from podlt.protocol.worker import Worker
from podlt.sim.players import honest_update
from podlt.sim.world import Scenario

from .steps_of_a_round import HIDDEN, SCENARIO, fresh, opened


def test_a_stranger_cannot_join_with_anothers_signature() -> None:
    world = fresh()
    key = scripted(6, world.gossip).key.public
    terms = world.manager.join_terms(key, 0, TreeSize(world.tree.size, world.tree.root()))
    with pytest.raises(PeerError, match="signature"):
        world.manager.join(key, terms, world.players[0].join(world.state.run, terms))


def test_an_evicted_key_cannot_join_again() -> None:
    world = fresh(3)
    moods(world)[0].mood = "fake"
    world.step()
    with pytest.raises(PeerError, match="evicted"):
        world.admit(world.players[0])


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
        Committed(second.seat, second.holder, other.commitment, mine.signature),
        Committed(second.seat, first.holder, mine.commitment, mine.signature),
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
    assert not world.manager.all_logged and not world.manager.opened(shown), "it will be asked for"
    world.manager.commit()
    with pytest.raises(PeerError, match="opening"):
        world.manager.opened(msgspec.structs.replace(shown, update=bytes(32)))
    with pytest.raises(PeerError, match="upload"):
        world.manager.opened(shown, bytes(32))
    assert world.manager.all_logged and world.manager.opened(shown, honest_update(task.task))


def test_a_crash_gives_the_same_commitment_again() -> None:
    world = fresh()
    task = opened(world)[0]
    player = world.players[task.holder]
    first = player.commit(task)
    player.worker = Worker(player.number, player.key, world.state.run)
    assert player.commit(task) == first


@pytest.mark.parametrize(("scenario", "copies"), [(SCENARIO, [3]), (HIDDEN, [2, 2])], ids=["classic", "guarded"])
def test_a_task_message_does_not_tell_useful_work_from_a_check(scenario: Scenario, copies: list[int]) -> None:
    world = fresh(8, scenario)
    tasks = opened(world)
    assert len({frozenset(msgspec.to_builtins(a.task)) for a in tasks}) == 1
    groups = Counter(a.task.digest() for a in tasks)
    assert sorted(n for n in groups.values() if n > 1)[:2] == copies[: len(world.manager.roles.checked)]
