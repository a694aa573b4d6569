"""Small real runs on `digits` (no download)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

import podlt.api
from podlt.api import Result
from podlt.data.spec import DataSpec
from podlt.recipe import ModelSpec, Recipe, TrainingSpec
from podlt.training.events import Event


def small_recipe(**training: Any) -> Recipe:
    """Eight workers, 15 rounds an epoch, seconds in all."""
    options = {"epochs": 2, "workers": 8, "block_lines": 100, "checkpoint_every": 7, **training}
    return Recipe(
        data=DataSpec("digits"),
        model=ModelSpec("podlt.models:mlp", {"inputs": 64, "hidden": 32, "outputs": 10}),
        optimizer={"name": "adamw", "lr": 0.01},
        training=TrainingSpec(**options),
    )


def seeded(seed: int) -> Callable[[int], bytes]:
    """Secrets that are the same in every run."""
    return random.Random(seed).randbytes


class Trained(msgspec.Struct):
    """A finished run, and what it told."""

    result: Result
    events: list[Event]

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def train(path: Path, recipe: Recipe, **options: Any) -> Trained:
    """Runs a recipe, and keeps its events."""
    events: list[Event] = []
    result = podlt.api.train(recipe, run=path, listener=events.append, **options)
    return Trained(result, events)
