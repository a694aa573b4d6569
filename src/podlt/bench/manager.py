"""What a round costs the manager's processor, by the number of workers: `podlt bench manager`.

The real manager, rules and signatures, over simulated workers with digests in the place of tensors; what workers do is
not counted. A cost a worker that grows with their number is a loop within a loop.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from podlt.crypto import digest
from podlt.protocol.options import Preset
from podlt.recipe import ProtocolSpec
from podlt.sim.players import Player
from podlt.sim.world import MemoryLog, Scenario, World, make_player


class TimedCalls:
    """Stands for an object, and adds up the processor time of its methods, without what they call of each other.

    Args:
        inner: the object.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._timed(name, value) if callable(value) and name != "state" else value

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            start = time.thread_time()
            try:
                return method(*arguments, **keywords)
            finally:
                self.seconds[name] += time.thread_time() - start

        return call


def manager_seconds(workers: int, rounds: int, preset: Preset) -> dict[str, float]:
    """The manager's processor time in a run's rounds, by the method that took it.

    Args:
        workers: all honest.
        rounds: that are played, beside one that warms up.
        preset: the rules.
    """
    seed = digest("bench-manager/1", workers.to_bytes(8, "big"))
    rules = ProtocolSpec(preset=preset)
    examples = workers * (rounds + 3)
    scenario = Scenario(examples=examples, batch_size=workers, shard_size=1, protocol=rules)
    world = World(
        scenario, lambda gossip: [make_player(Player, i, seed, gossip) for i in range(workers)], seed, Quiet()
    )
    world.begin()
    world.step()
    timed = TimedCalls(world.manager)
    world.manager = timed  # type: ignore[assignment]
    for _ in range(rounds):
        world.step()
    return timed.seconds


class Quiet(MemoryLog):
    """A log that keeps nothing."""

    def append(self, first: int, bodies: object, note: str) -> None:
        """Forgets it."""


def main() -> None:
    """Prints the curve."""
    parser = argparse.ArgumentParser(description="measure the manager's processor time a worker and round")
    parser.add_argument("--workers", default="100,300,1000,3000,10000", help="how many, with commas")
    parser.add_argument("--results", type=int, default=20_000, help="workers' results of each size, at least a round's")
    parser.add_argument("--preset", choices=["classic", "guarded"], default="guarded")
    parser.add_argument("--parts", action="store_true", help="by the manager's methods, too")
    options = parser.parse_args()
    print(f"manager's processor time, {options.preset}: microseconds a worker and round")
    for workers in map(int, options.workers.split(",")):
        rounds = max(2, options.results // workers)
        found = manager_seconds(workers, rounds, options.preset)
        each = 1e6 / (workers * rounds)
        print(f"  {workers:7,} workers, {rounds:4} rounds: {sum(found.values()) * each:7.1f}", flush=True)
        if options.parts:
            for name, seconds in sorted(found.items(), key=lambda item: -item[1])[:8]:
                print(f"      {name:14} {seconds * each:7.1f}")


if __name__ == "__main__":
    main()
