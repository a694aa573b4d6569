"""What unequal machines cost: one that is far slower than the others, and one that answers at the last moment.

The real manager, workers and sessions, rules and log; the network, the time and the computing are simulated
(`podlt simulate --network` has the same). So the figures are the same on any machine, and the manager's own work is
free: where that counts, `podlt bench fleet` says how much it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from podlt.sim.faults import NetworkFaults
from podlt.sim.networked import NetworkedWorld

TASK, EXAMPLES, DELAY = 0.1, 64, 0.001
"""Seconds of a task of so many examples, and the longest time that a message takes."""

SLOWER, WITHHELD = 20.0, 0.95
"""How many times as long the slow one takes; after how many seconds the vice answers: just before it would be late."""


def examples_a_second(
    machines: Sequence[float], rounds: int, *, last: int = 0, shares: str = "measured", **faults: Any
) -> float:
    """Examples a simulated second of a run.

    Args:
        machines: how many times as long as `TASK` each takes for its equal share.
        rounds: how many there are.
        last: how many of them count; 0: all.
        shares: of the recipe.
        faults: as of `NetworkFaults`.
    """
    wrong = NetworkFaults(compute=TASK, machines=tuple(machines), delay=DELAY, until=0.0, **faults)
    world = NetworkedWorld([1] * len(machines), rounds, 1, wrong, examples=EXAMPLES, shares=shares)  # type: ignore[arg-type]
    world.run()
    took = world.took[-last:]
    return EXAMPLES * len(machines) * len(took) / sum(took)


def measure(workers: int, rounds: int, vice_rounds: int) -> dict[str, float]:
    """The bench's figures."""
    fast = [1.0] * (workers - 1)
    slow = [*fast, SLOWER]
    half = rounds // 2
    equal = examples_a_second([workers / (len(fast) + 1 / SLOWER)] * workers, rounds, last=half)
    without = examples_a_second(fast, rounds, last=half)
    vice = examples_a_second([1.0] * workers, vice_rounds, withheld=1, withheld_seconds=WITHHELD)
    steady = examples_a_second(slow, rounds, last=half)
    return {
        "examples_a_second_equal": equal,
        "examples_a_second_unequal": steady,
        "examples_a_second_unequal_from_the_start": examples_a_second(slow, rounds),
        "examples_a_second_unequal_equal_shares": examples_a_second(slow, rounds, last=half, shares="equal"),
        "unequal_over_equal": steady / equal,
        "examples_a_second_without_the_vice": without,
        "examples_a_second_with_the_vice": (
            vice := examples_a_second([1.0] * workers, vice_rounds, withheld=1, withheld_seconds=WITHHELD)
        ),
        "cost_of_the_vice": 1 - vice / without,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="podlt bench unequal", description=__doc__)
    parser.add_argument("--workers", type=int, default=8, help="how many, the slow one included; 8 by default")
    parser.add_argument("--rounds", type=int, default=120, help="of each run; the second half counts; 120 by default")
    parser.add_argument("--vice-rounds", type=int, default=3000, help="of the run with the vice; 3,000 by default")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    found = measure(given.workers, given.rounds, given.vice_rounds)
    if given.json:
        print(json.dumps(found))
        return
    fast = given.workers - 1
    print(
        f"{fast} workers of {TASK} s a task and one of {TASK * SLOWER:.0f} s: "
        f"{found['examples_a_second_unequal']:,.0f} examples/s, {found['unequal_over_equal']:.2f} of {given.workers} "
        f'equal ones with the sum of their speeds ({found["examples_a_second_equal"]:,.0f}); with shares = "equal": '
        f"{found['examples_a_second_unequal_equal_shares']:,.0f}\n"
        f"one of {given.workers} answers after {WITHHELD} s for ever, in {given.vice_rounds:,} rounds from the first "
        f"on: {found['examples_a_second_with_the_vice']:,.0f} examples/s, "
        f"{found['cost_of_the_vice']:.1%} less than without it ({found['examples_a_second_without_the_vice']:,.0f})"
    )


if __name__ == "__main__":
    from podlt.faults import guarded

    sys.exit(guarded(main))
