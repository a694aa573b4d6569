"""Runs on a small Ray of this machine, and actors that are struck in the middle of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from podlt.engine.ray.engine import RayEngine
from podlt.engine.ray.host import read_here

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
        if self._inputs.round == round and not struck:
            struck.append(round)
            how(self)

    monkeypatch.setattr(RayEngine, method, wrapped)


def where(engine: RayEngine, host: int) -> Any:
    """Process and node of a host's actor."""
    import ray

    (ref,) = engine._hosts[host].actor.call("hello", name="where")
    return read_here(ray.get(ref))


def ended(engine: RayEngine, host: int) -> None:
    """Returns when Ray knows that a host's actor is dead: rounds are short, and a kill takes a while."""
    from podlt.engine.ray.actors import Died, fetched

    for _ in range(600):
        try:
            fetched(engine._hosts[host].actor.call("hello", name="still there"), 60.0)
        except Died:
            return
        time.sleep(0.1)
    raise AssertionError("an actor outlives its end")


def at_close(monkeypatch: pytest.MonkeyPatch, look: Strike) -> None:
    """Looks at the engine before it is closed."""
    close = RayEngine.close

    def closing(self: RayEngine) -> None:
        look(self)
        close(self)

    monkeypatch.setattr(RayEngine, "close", closing)
