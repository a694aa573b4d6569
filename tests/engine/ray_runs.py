"""Runs on a small Ray of this machine, and actors that are struck in the middle of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from podlt.engine.ray_engine import RayEngine
from podlt.engine.ray_host import read_here

SMALL = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False, "log_to_driver": False}

Strike = Callable[[RayEngine], None]


def begin() -> None:
    """Starts a Ray of two cores, once a process."""
    import ray

    if not ray.is_initialized():
        ray.init(**SMALL)


def strike(monkeypatch: pytest.MonkeyPatch, method: str, round: int, how: Strike) -> None:
    """Does something to the engine just after it did something in a round, once."""
    original, struck = getattr(RayEngine, method), list[int]()

    def wrapped(self: RayEngine, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        if self._round == round and not struck:
            struck.append(round)
            how(self)

    monkeypatch.setattr(RayEngine, method, wrapped)


def where(engine: RayEngine, seat: int) -> Any:
    """Process and node of the actor at a seat."""
    import ray

    (ref,) = engine._seats[seat].actor.call("hello", name="where")
    return read_here(ray.get(ref))
