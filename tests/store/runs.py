"""A small real run, for a process that backs it up, kills it, or goes on with it.

    python runs.py RUN ROUND STORE

trains, or goes on, until its end; with a ROUND from 0 on, it stops for good after that one, as a process that hangs.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import podlt.api
from podlt.api import Result
from podlt.data.spec import DataSpec
from podlt.manager import events as ev
from podlt.recipe import ModelSpec, Recipe, TrainingSpec


def recipe(history: Literal["all", "last"] = "last") -> Recipe:
    """Five workers, 14 rounds, seconds in all."""
    return Recipe(
        data=DataSpec("digits", limit=700),
        model=ModelSpec("podlt.models:mlp", {"inputs": 64, "hidden": 16, "outputs": 10}),
        optimizer={"name": "adamw", "lr": 0.01},
        training=TrainingSpec(epochs=2, workers=5, batch_size=100, checkpoint_every=3, history=history),
        arithmetic="stock",
    )


def hang() -> None:
    """Says so, and does nothing more."""
    print("hangs", flush=True)
    time.sleep(600)


def perform(
    run: Path,
    stop: int = -1,
    store: str = "",
    history: Literal["all", "last"] = "last",
    then: Callable[[], None] = hang,
) -> Result:
    """Trains or goes on, with the same secrets in every run; does something after the round `stop`, if there is one."""

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone) and event.round == stop:
            then()

    entropy = random.Random(1).randbytes
    if (run / "recipe.json").exists():
        return podlt.api.resume(run, entropy=entropy, processes=1, listener=listen)
    return podlt.api.train(recipe(history), run=run, entropy=entropy, processes=1, listener=listen, store=store)


if __name__ == "__main__":
    perform(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
