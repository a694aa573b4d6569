"""A simulated run that is not over, with operators, an update that was clipped, and pay in escrow."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from podlt.crypto import digest
from podlt.protocol import entries as e
from podlt.recipe import ProtocolSpec
from podlt.sim.players import Player
from podlt.sim.world import Scenario, World, make_player
from podlt.store.files import write_whole
from podlt.store.log_store import LogStore

RULES = ProtocolSpec(checked=0.0, own=0.0, escrow=10, reward=3)
OPERATORS = {2: "alice", 4: "alice", 5: "bob"}
CLIPPED_ROUND, EXPONENT = 3, 5


def unfinished_world(run: Path, rounds: int) -> World:
    """Six workers that each had a task of one example in so many rounds; then worker 3 left."""

    def players(gossip: Any) -> list[Player]:
        made = [make_player(Player, number, digest("unfinished"), gossip) for number in range(6)]
        for number, operator in OPERATORS.items():
            made[number].operator = operator
        return made

    run.mkdir()
    with closing(LogStore.at(run / "log.db", create=True)) as log:
        world = World(Scenario(examples=600, batch_size=6, protocol=RULES), players, digest("unfinished"), log)
        write_whole(run / "recipe.json", world.recipe)
        write_whole(run / "program.json", world.program)
        apply = world.manager.apply

        def applied(update: bytes, parameters: bytes, loss: float) -> None:
            shard = world.manager.roles.seats[2]
            clips = [e.ClippedPart(shard, 0, EXPONENT)] if world.state.round == CLIPPED_ROUND else []
            apply(update, parameters, loss, clips)

        world.manager.apply = applied  # type: ignore[method-assign,assignment]
        world.begin()
        for _ in range(rounds):
            world.step()
        world.manager.withdraw(3, "left: enough")
        world.write()
    return world
