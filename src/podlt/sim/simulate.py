"""`simulate`: how long cheaters last under the rules, over many seeded runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from podlt.crypto import digest
from podlt.errors import UsageError
from podlt.recipe import ProtocolSpec
from podlt.sim.adversaries import PLAYERS, player_named
from podlt.sim.players import Gossip, Player
from podlt.sim.world import MemoryLog, Scenario, World, make_player
from podlt.store.files import write_whole
from podlt.store.log_store import LogStore
from podlt.store.run_names import LOG, PROGRAM, RECIPE


class SimulatedRun(msgspec.Struct, frozen=True):
    """What came of one run.

    Args:
        rounds: how many were played.
        convicted: cheater -> the round (from 0) that convicted it first.
        honest_convicted: how many honest workers were convicted.
        at_large: how many cheaters were never convicted.
        fakes_applied: shards whose applied update was wrong.
        vested: credits that became a cheater's own.
        forfeited: credits that cheaters lost.
        head: the last tree head.
        outcome: "complete", "stopped", or "" when the run was left once every cheater was caught.
    """

    rounds: int
    convicted: dict[int, int]
    honest_convicted: int
    at_large: int
    fakes_applied: int
    vested: int
    forfeited: int
    head: str
    outcome: str


class SimulationResult(msgspec.Struct, frozen=True):
    """All runs of a simulation, in the order of their seeds."""

    workers: int
    cheaters: dict[str, int]
    runs: list[SimulatedRun]

    def caught_within(self, rounds: int) -> float:
        """The share of cheaters that were convicted in the first `rounds` rounds of their run."""
        cheaters = len(self.runs) * cheating(self.cheaters)
        caught = sum(number < rounds for run in self.runs for number in run.convicted.values())
        return caught / cheaters if cheaters else 1.0

    def mean_fakes(self) -> float:
        """Wrong updates that were applied, a run."""
        return sum(run.fakes_applied for run in self.runs) / len(self.runs)


def simulate(
    workers: int = 50,
    cheaters: Mapping[str, int] | None = None,
    rounds: int = 200,
    seed: int = 0,
    runs: int = 1,
    *,
    whole: bool = False,
    shard_size: int = 0,
    deposit: int = 0,
    tested: bool = False,
    protocol: ProtocolSpec | None = None,
    directory: Path | None = None,
) -> SimulationResult:
    """Plays runs of the real rules with digests in the place of tensors.

    Args:
        workers: how many there are in all.
        cheaters: player ("always", "selective:0.1", ...) -> how many of them.
        rounds: the length of a run.
        seed: decides everything.
        runs: how many, each with its own seed.
        whole: whether a run goes on to its end after the last cheater was caught.
        shard_size: examples a worker gets, or 0 for an example each.
        deposit: what each brings.
        tested: whether there is a test set, whose (simulated) figures are logged after the epoch.
        protocol: the rules; those of `guarded` unless given.
        directory: where the log of the (one) run goes, so that `verify` can read it.

    Raises:
        UsageError: an unknown player, more cheaters than workers, too few workers, or a directory for many runs.
    """
    rules = protocol if protocol is not None else ProtocolSpec()
    cast = _cast(workers, cheaters or {}, rules.options.min_workers)
    if min(rounds, runs) < 1:
        raise UsageError(f"expected at least one round and one run, got {rounds} and {runs}")
    if deposit < 0:
        raise UsageError(f"expected a deposit of 0 credits or more, got {deposit}")
    if directory is not None and runs != 1:
        raise UsageError(f"expected one run for a directory, got {runs}")
    scenario = Scenario(
        examples=workers * rounds,
        batch_size=workers,
        shard_size=shard_size,
        deposit=deposit,
        tested=tested,
        protocol=rules,
    )
    done = []
    for number in range(runs):
        own = digest("simulation/1", seed.to_bytes(16, "big", signed=True), number.to_bytes(8, "big"))
        done.append(_play(scenario, cast, own, whole=whole, directory=directory))
    return SimulationResult(workers, dict(cheaters or {}), done)


def cheating(cast: Mapping[str, int]) -> int:
    """How many of a cast cheat; the others only fail."""
    return sum(count for spec, count in cast.items() if player_named(spec)[0].cheats)


def _cast(workers: int, cheaters: Mapping[str, int], least: int) -> list[tuple[type[Player], float | None]]:
    if workers < least:
        raise UsageError(f"expected at least {least} workers, got {workers}")
    cast = [player_named(spec) for spec, count in cheaters.items() for _ in range(count)]
    if len(cast) > workers:
        raise UsageError(f"expected at most {workers} cheaters, as many as workers, got {len(cast)}")
    return cast


def _play(
    scenario: Scenario,
    cast: Sequence[tuple[type[Player], float | None]],
    seed: bytes,
    *,
    whole: bool,
    directory: Path | None,
) -> SimulatedRun:
    def players(gossip: Gossip) -> list[Player]:
        honest: tuple[type[Player], float | None] = (Player, None)
        kinds = [*cast, *[honest] * (scenario.batch_size - len(cast))]
        return [make_player(kind, i, seed, gossip, rate) for i, (kind, rate) in enumerate(kinds)]

    log: MemoryLog | LogStore = MemoryLog()
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        log = LogStore.at(directory / LOG, create=True)
    world = World(scenario, players, seed, log)
    if directory is not None:
        write_whole(directory / RECIPE, world.recipe)
        write_whole(directory / PROGRAM, world.program)
    world.begin()
    world.play((lambda _: False) if whole else _all_caught)
    if isinstance(log, LogStore):
        log.close()
    return _outcome(world)


def _all_caught(world: World) -> bool:
    cheaters = [p.number for p in world.players if p.cheats]
    return bool(cheaters) and all(number in world.convicted_in for number in cheaters)


def _outcome(world: World) -> SimulatedRun:
    state = world.state
    cheaters = {p.number for p in world.players if p.cheats}
    accounts = [state.ledger.accounts[n] for n in cheaters]
    return SimulatedRun(
        rounds=state.round,
        convicted={n: r for n, r in sorted(world.convicted_in.items()) if n in cheaters},
        honest_convicted=len(set(world.convicted_in) - cheaters),
        at_large=len(cheaters.difference(world.convicted_in)),
        fakes_applied=world.fakes_applied,
        vested=sum(account.vested for account in accounts),
        forfeited=sum(account.forfeited for account in accounts),
        head=world.head,
        outcome=state.closed.outcome if state.closed is not None else "",
    )


__all__ = ["PLAYERS", "SimulatedRun", "SimulationResult", "simulate"]
