"""A child process that trains on a Ray of its own, and kills itself after so many transactions: see test_ray.py.

python ray_killed.py RUN NUMBER
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

import ray_runs
from small_runs import OFTEN, seeded, small_recipe

import podlt.api
from podlt.store.log_store import LogStore


def main() -> None:
    """Trains until it is killed."""
    run, left = Path(sys.argv[1]), [int(sys.argv[2])]
    append = LogStore.append

    def appended(self: LogStore, *args: object) -> None:
        append(self, *args)  # type: ignore[arg-type]
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    LogStore.append = appended  # type: ignore[method-assign]
    ray_runs.begin()
    podlt.api.train(small_recipe(protocol=OFTEN), run=run, cheats=["2:sign-flip"], entropy=seeded(1), engine="ray")


if __name__ == "__main__":
    main()
