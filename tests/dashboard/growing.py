"""A simulated run with cheaters, written to its directory round by round while a page shows it; and that page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from podlt.canonical import to_json
from podlt.crypto import digest
from podlt.dashboard.claims import unchecked
from podlt.dashboard.server import DashboardServer
from podlt.dashboard.source import RunSource
from podlt.dashboard.stream import MessageStream
from podlt.recipe import ProtocolSpec
from podlt.sim.adversaries import player_named
from podlt.sim.players import Player
from podlt.sim.world import Scenario, World, make_player
from podlt.store.files import write_whole
from podlt.store.log_store import LogStore
from podlt.store.round_figures import RoundFigures
from podlt.store.run_names import RUN

RULES = ProtocolSpec(checked=0.2, own=0.1, own_most=2, escrow=5)
CHEATERS = (1, 4)
WORKERS = 12


@contextmanager
def growing_run(run: Path, workers: int = WORKERS, rules: ProtocolSpec = RULES) -> Iterator[World]:
    """A run of 120 rounds that has begun; `advance` goes on."""

    def players(gossip: Any) -> list[Player]:
        kinds = [player_named("always")[0] if number in CHEATERS else Player for number in range(workers)]
        return [make_player(kind, number, digest("growing"), gossip) for number, kind in enumerate(kinds)]

    run.mkdir(parents=True)
    with closing(LogStore.at(run / "log.db", create=True)) as log:
        scenario = Scenario(examples=workers * 60, epochs=2, batch_size=workers, protocol=rules, tested=True)
        world = World(scenario, players, digest("growing"), log)
        write_whole(run / "recipe.json", world.recipe)
        write_whole(run / "program.json", world.program)
        cheats = {str(number): "always" for number in CHEATERS}
        write_whole(run / RUN, to_json({"settings": {"cheats": cheats}}))
        world.begin()
        yield world


def advance(world: World, run: Path, rounds: int) -> None:
    """Plays so many rounds more, and writes them with their figures; all that are left for a negative number."""
    while rounds and world.step():
        rounds -= 1
        faked = [number for number in CHEATERS if world.state.is_active(number)]
        figures = RoundFigures(world.state.round - 1, 0.05, 0.06, 0.01, faked, faked[:1])
        with (run / "rounds.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(figures) + b"\n")
    world.write()


def finished_run(run: Path) -> None:
    """The same run, complete."""
    with growing_run(run) as world:
        advance(world, run, -1)


@contextmanager
def shown(run: Path, port: int = 0) -> Iterator[DashboardServer]:
    """A run's page."""
    stream = MessageStream()
    stream.show("claims", **unchecked(str(run)))
    source = RunSource(run, stream)
    source.start()
    with DashboardServer("127.0.0.1", port, "run", lambda name: stream) as server:
        yield server
    source.stop()
