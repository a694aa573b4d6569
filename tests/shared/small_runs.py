"""Small real runs on `digits` (no download)."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import msgspec

import podlt.api
from podlt.api import Result
from podlt.data.spec import DataSpec
from podlt.manager.directory import RunDirectory
from podlt.manager.events import Event
from podlt.protocol.entries import decode
from podlt.protocol.rules import RunState
from podlt.recipe import ModelSpec, ProtocolSpec, Recipe, TrainingSpec

ALWAYS = ("zero", "random", "stale", "sign-flip", "scaled", "non-finite", "partial", "low-precision", "copycat")
"""The cheats that fake every task, once they have something to fake it with."""


GUARDED = ProtocolSpec(shares="equal")
"""The default, but for shares by speed: how fast this machine is at the moment must not change the bits of a test."""

OFTEN = ProtocolSpec(checked=0.25, own=0.2, own_most=3)
"""Guarded, with so many checks that a lone cheater is caught within a few rounds."""

CLASSIC = ProtocolSpec(preset="classic")


def small_recipe(
    *, arithmetic: Literal["exact", "stock"] = "stock", protocol: ProtocolSpec = GUARDED, **training: Any
) -> Recipe:
    """Eight workers, 15 rounds an epoch, seconds in all; by stock arithmetic, which starts in half the time."""
    options = {"epochs": 2, "workers": 8, "batch_size": 100, "checkpoint_every": 7, **training}
    return Recipe(
        data=DataSpec("digits"),
        model=ModelSpec("podlt.models:mlp", {"inputs": 64, "hidden": 32, "outputs": 10}),
        optimizer={"name": "adamw", "lr": 0.01},
        training=TrainingSpec(**options),
        protocol=protocol,
        arithmetic=arithmetic,
    )


def tiny_recipe(
    examples: int = 200,
    model: dict[str, Any] | None = None,
    *,
    arithmetic: Literal["exact", "stock"] = "stock",
    protocol: ProtocolSpec = GUARDED,
    **training: Any,
) -> Recipe:
    """Three workers and a few rounds: for what happens once."""
    options = {"epochs": 1, "workers": 3, "batch_size": 50, **training}
    return Recipe(
        data=DataSpec("digits", limit=examples),
        model=ModelSpec("podlt.models:mlp", {"inputs": 64, "hidden": 16, "outputs": 10, **(model or {})}),
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9},
        training=TrainingSpec(**options),
        protocol=protocol,
        arithmetic=arithmetic,
    )


def seeded(seed: int) -> Callable[[int], bytes]:
    """Secrets that are the same in every run."""
    return random.Random(seed).randbytes


class Trained(msgspec.Struct):
    """A finished run, and what it told."""

    result: Result
    events: list[Event]

    @property
    def state(self) -> RunState:
        """What its log comes to."""
        return replayed(self.result.run)

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def entries(run: Path) -> list[Any]:
    """The entries of a run's log."""
    with closing(RunDirectory(run).log()) as store:
        return [decode(body) for _, _, body in store.entries()]


def replayed(run: Path) -> RunState:
    """A run's log through the rules."""
    state = RunState()
    for entry in entries(run):
        state.apply(entry)
    return state


def train(path: Path, recipe: Recipe, **options: Any) -> Trained:
    """Runs a recipe, and keeps its events."""
    events: list[Event] = []
    result = podlt.api.train(recipe, run=path, listener=events.append, **options)
    return Trained(result, events)
