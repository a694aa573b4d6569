"""A child process that trains, or goes on training, and kills itself at a chosen write: see test_kill.py.

    python killed_run.py RUN KIND NUMBER

KIND is what is counted: "commit" (a transaction, after its entries are inserted and before it is committed), "done"
(just after a transaction), "half" (a file of which half is written), "rename" (a file that is whole but not renamed).
"interrupt" is Ctrl-C instead of a kill, just after a transaction; with "full" no file (nor
shared memory) may grow beyond NUMBER bytes.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

import sqlalchemy as sa
from small_runs import OFTEN, seeded, small_recipe

import podlt.api
import podlt.store.files
from podlt.errors import StorageError
from podlt.store import log_store


def arm(kind: str, number: int) -> None:
    """Kills this process at the `number`-th event of a kind."""
    left = [number]
    if kind == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))

    def tick() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGINT if kind == "interrupt" else signal.SIGKILL)

    if kind == "commit":

        @sa.event.listens_for(sa.Engine, "commit")
        def _(connection: sa.Connection) -> None:
            tick()

    elif kind in ("done", "interrupt"):
        append = log_store.LogStore.append

        def appended(self: log_store.LogStore, first: int, bodies: list[bytes], note: str) -> None:
            append(self, first, bodies, note)
            tick()

        log_store.LogStore.append = appended  # type: ignore[method-assign]
    elif kind == "half":
        fdopen = os.fdopen

        def halved(descriptor: int, mode: str):  # type: ignore[no-untyped-def]
            file = fdopen(descriptor, mode)
            left[0] -= 1
            if left[0] == 0:
                write = file.write

                class Halved:
                    def __enter__(self):  # type: ignore[no-untyped-def]
                        return self

                    def __exit__(self, *_: object) -> None:
                        file.close()

                    def write(self, data: bytes) -> None:
                        write(bytes(data)[: len(data) // 2])
                        file.flush()
                        os.kill(os.getpid(), signal.SIGKILL)

                return Halved()
            return file

        podlt.store.files.os.fdopen = halved  # type: ignore[assignment]
    elif kind == "rename":
        replace = os.replace

        def renamed(source: str, target: str) -> None:
            tick()
            replace(source, target)

        podlt.store.files.os.replace = renamed  # type: ignore[assignment]


def main() -> None:
    """Trains a new run, or goes on with the one that is there."""
    run, kind, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    arm(kind, number)
    try:
        if (run / "recipe.json").exists():
            podlt.api.resume(run, entropy=seeded(2))
        else:
            podlt.api.train(small_recipe(protocol=OFTEN), run=run, cheats=["2:sign-flip"], entropy=seeded(2))
    except StorageError as error:
        sys.exit(f"storage: {error}")


if __name__ == "__main__":
    main()
