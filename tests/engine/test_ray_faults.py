"""Actors that compute wrongly or answer nonsense: they are in this process, so that they can be told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ray")

from near_hosts import captured_once, train_near
from small_runs import Trained, seeded, tiny_recipe, train

from podlt.canonical import encode
from podlt.engine.interface import Engine, Job
from podlt.engine.local import frames
from podlt.engine.ray import engine
from podlt.engine.ray.actors import Actor, ActorOptions, Died
from podlt.engine.ray.engine import RayEngine
from podlt.engine.ray.host import Here, HostReply, RayHost, read_reply
from podlt.errors import EngineError
from podlt.execution.conformance import Conformance
from podlt.manager import events as ev

OPTIONS = ActorOptions({}, "test")

Twist = Callable[["Near", str, list[Any]], list[Any]]


class Ref:
    """What a call will have given."""

    def __init__(self, actor: Near, value: Any) -> None:
        self.actor, self.value = actor, value


class Near:
    """An actor in this process, whose answers go through `twist`."""

    twist: Twist = staticmethod(lambda actor, method, values: values)

    def __init__(self, label: str) -> None:
        self.label, self.host, self.dead = label, RayHost(label), False

    @classmethod
    def start(cls, options: ActorOptions, label: str, attempt: int) -> Near:
        """It is there at once."""
        return cls(label)

    def call(self, method: str, *args: Any, name: str, returns: int = 1) -> list[Any]:
        """Does it at once."""
        grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
        try:
            given = encode(Here(1, "here", "node")) if method == "hello" else getattr(self.host, method)(*args)
        finally:
            torch.set_grad_enabled(grad)
            torch.set_num_threads(threads)
        values = [v.copy() if isinstance(v, np.ndarray) else v for v in (given if returns > 1 else [given])]
        return [Ref(self, value) for value in type(self).twist(self, method, values)]

    def kill(self) -> None:
        """Its answers that were not taken yet are lost."""
        self.dead = True


def fetched(refs: list[Any], seconds: float) -> list[Any]:
    """What the calls gave, while their actor lives."""
    if refs[0].actor.dead:
        raise Died("it was killed")
    return [ref.value for ref in refs]


class NearPlace:
    """A workplace of two actors."""

    name = "ray"
    keeps_keys = True

    @contextmanager
    def ready(self, workers: int) -> Iterator[Callable[[Job], Engine]]:
        actors: list[Any] = [Near(f"podlt worker {n}") for n in range(2)]
        yield lambda job: RayEngine.for_job(job, {}, OPTIONS, actors)


@pytest.fixture(autouse=True)
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the engine's actors be in this process."""
    monkeypatch.setattr(engine, "fetched", fetched)
    monkeypatch.setattr(engine, "waited_for", lambda refs, seconds: set(refs))
    monkeypatch.setattr(engine, "shared", lambda array: array.copy())
    monkeypatch.setattr(engine, "Actor", Near)
    monkeypatch.setattr("podlt.manager.setup.capture", captured_once)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same run with the engine `local`."""
    return train_near(tmp_path_factory.mktemp("run") / "local", tiny_recipe(), entropy=seeded(1))


def run(path: Path) -> Trained:
    """Trains with actors in this process."""
    return train(path, tiny_recipe(), entropy=seeded(1), place=NearPlace())


def once(method: str, first: str, change: Callable[[list[Any]], list[Any]]) -> Twist:
    """A twist of the first answer to a method by an actor of a label."""
    done = []

    def twist(actor: Near, called: str, values: list[Any]) -> list[Any]:
        if called == method and actor.label.endswith(first) and not done:
            done.append(actor)
            return change(values)
        return values

    return staticmethod(twist)  # type: ignore[return-value]


def wrong(values: list[Any]) -> list[Any]:
    """A machine that multiplies otherwise."""
    ready = frames.unpack(values[0])
    assert isinstance(ready, frames.Ready)
    return [frames.pack(frames.Ready(joins=ready.joins, conformance=Conformance("ab" * 32, "matmul")))]


def test_a_machine_that_computes_otherwise_is_dealt_nothing_and_its_workers_go_elsewhere(
    tmp_path: Path, local: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Near, "twist", once("set_up", "0", wrong))
    trained = run(tmp_path / "run")
    assert trained.of(ev.Started)[0].processes == 1
    assert not trained.of(ev.Withdrawn) and not trained.result.evicted
    assert trained.result.parameters == local.result.parameters


def test_where_all_machines_compute_otherwise_the_error_names_the_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twist = staticmethod(lambda actor, method, values: wrong(values) if method == "set_up" else values)
    monkeypatch.setattr(Near, "twist", twist)
    with pytest.raises(EngineError, match="computes 'matmul' otherwise"):
        run(tmp_path / "run")


def without_a_task(values: list[Any]) -> list[Any]:
    """An answer that is silent about what it was dealt."""
    return [encode(HostReply([], read_reply(values[0]).failed)), values[1]]


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("work", lambda values: [values[0], values[1][:-64]]),
        ("work", lambda values: [values[0], values[1].view(np.float32)]),
        ("work", lambda values: [values[0], "an update"]),
        ("work", lambda values: [b"\xff malformed", values[1]]),
        ("work", lambda values: [12, values[1]]),
        ("work", without_a_task),
        ("open", lambda values: [frames.pack(frames.HostOpenings(round=77, opened=[]))]),
        ("open", lambda values: [frames.pack(frames.Stop())]),
    ],
)
def test_an_actor_that_answers_nonsense_is_replaced_and_nobody_else_pays(
    tmp_path: Path,
    local: Trained,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    change: Callable[[list[Any]], list[Any]],
) -> None:
    monkeypatch.setattr(Near, "twist", once(method, "1", change))
    trained = run(tmp_path / "run")
    assert [event.process for event in trained.of(ev.Replaced)] == [1]
    assert not trained.of(ev.Withdrawn) and not trained.result.evicted
    assert trained.result.parameters == local.result.parameters


def test_a_worker_that_never_opens_stops_the_run_instead_of_holding_it_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hide(actor: Near, method: str, values: list[Any]) -> list[Any]:
        return [frames.pack(frames.HostOpenings(round=0, opened=[]))] if method == "open" else values

    monkeypatch.setattr(Near, "twist", staticmethod(hide))
    with pytest.raises(EngineError, match="round 0: every call was answered, and a worker neither"):
        run(tmp_path / "run")


def test_near_actors_are_called_as_those_of_ray_are() -> None:
    import inspect

    def parameters(kind: type, method: str) -> Any:
        return inspect.signature(getattr(kind, method)).parameters

    for method in ("start", "call", "kill"):
        assert parameters(Near, method) == parameters(Actor, method)
