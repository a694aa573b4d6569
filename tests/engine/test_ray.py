"""The engine `ray` on a Ray of this machine: the bits of the engine `local`, whatever becomes of the actors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")

import ray_runs  # noqa: E402
from ray_runs import at_close, ended, strike, where  # noqa: E402
from small_runs import OFTEN, Trained, seeded, small_recipe, train  # noqa: E402

import podlt.api  # noqa: E402
from podlt.engine.ray import actors  # noqa: E402
from podlt.engine.ray import engine as ray_engine  # noqa: E402
from podlt.engine.ray.actor_host import ActorHost, PendingCall  # noqa: E402
from podlt.engine.ray.engine import RayEngine  # noqa: E402
from podlt.engine.ray.workplace import RayCluster  # noqa: E402
from podlt.errors import EngineError  # noqa: E402
from podlt.manager import events as ev  # noqa: E402
from podlt.manager.cheats import choose_cheaters  # noqa: E402
from podlt.manager.directory import RunDirectory  # noqa: E402
from podlt.verify import verify  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::podlt.engine.ray.workplace.TrustWarning")]

CHEATS = ["2:sign-flip"]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A Ray of two cores."""
    ray_runs.begin()
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same run with the engine `local`."""
    return train(
        tmp_path_factory.mktemp("run") / "local", small_recipe(protocol=OFTEN), cheats=CHEATS, entropy=seeded(1)
    )


def on_ray(path: Path, **options: Any) -> Trained:
    """Trains on the cluster, in as many actors as it has cores: those of the run before may not be gone yet."""
    return train(
        path, small_recipe(protocol=OFTEN), cheats=CHEATS, entropy=seeded(1), engine="ray", processes=2, **options
    )


def impatient(path: Path, silence_timeout: float) -> Trained:
    """Trains on the cluster, and waits for nobody for long."""
    recipe = small_recipe(protocol=OFTEN)
    cheats = choose_cheaters(CHEATS, recipe.training.workers, recipe.training.seed)
    return train(
        path, recipe, entropy=seeded(1), place=RayCluster(processes=2, cheats=cheats, silence_timeout=silence_timeout)
    )


def same(trained: Trained, reference: Trained) -> None:
    """Two runs came to the same, nobody having left."""
    assert not trained.of(ev.Withdrawn)
    result, expected = trained.result, reference.result
    assert result.convicted == expected.convicted and result.convicted
    assert result.ledger == expected.ledger
    assert result.parameters == expected.parameters
    verification = verify(result.run, jobs=1)
    assert verification.ok, verification.failure


def test_a_run_on_ray_has_the_bits_and_the_evictions_of_a_local_one(tmp_path: Path, local: Trained) -> None:
    trained = on_ray(tmp_path / "run")
    assert trained.of(ev.Started)[0].processes == 2
    same(trained, local)
    assert RunDirectory(tmp_path / "run").settings().engine == "ray"


def test_actors_that_are_killed_within_rounds_cost_nobody_anything(
    tmp_path: Path, local: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_ray(engine: RayEngine) -> None:
        engine._hosts[0].actor.kill()
        ended(engine, 0)

    def by_the_system(engine: RayEngine) -> None:
        os.kill(where(engine, 1).pid, signal.SIGKILL)
        ended(engine, 1)

    strike(monkeypatch, "deal", 3, by_ray)
    strike(monkeypatch, "open", 5, by_the_system)
    trained = on_ray(tmp_path / "run")
    assert {event.process for event in trained.of(ev.Replaced)} == {0, 1}
    same(trained, local)


def test_an_actor_that_hangs_is_replaced(tmp_path: Path, local: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(engine: RayEngine) -> None:
        engine._timeout._longest = 0.01  # what a slow first round was like does not matter here
        os.kill(where(engine, 0).pid, signal.SIGSTOP)

    monkeypatch.setattr("podlt.engine.timeouts.LONGEST_TIMES", 0.0)
    strike(monkeypatch, "open", 4, stop)
    trained = impatient(tmp_path / "run", silence_timeout=5.0)
    assert -signal.SIGKILL in {event.status for event in trained.of(ev.Replaced)}
    same(trained, local)


def test_where_there_is_no_room_for_another_actor_the_others_take_its_workers_in(
    tmp_path: Path, local: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = actors.Actor.start

    def elsewhere(options: actors.ActorOptions, label: str, attempt: int) -> actors.Actor:
        nowhere = actors.ActorOptions({"nowhere": 1.0}, options.namespace)
        return start(options if attempt == 1 else nowhere, label, attempt)

    monkeypatch.setattr(actors.Actor, "start", elsewhere)
    left = []

    def kill(engine: RayEngine) -> None:
        monkeypatch.setattr(ray_engine, "ROOM_SECONDS", 3.0)
        engine._hosts[0].actor.kill()
        ended(engine, 0)

    strike(monkeypatch, "deal", 3, kill)
    at_close(monkeypatch, lambda engine: left.append([len(host.workers) for host in engine._hosts]))
    same(on_ray(tmp_path / "run"), local)
    assert left == [[8]]


def test_a_task_that_ends_every_actor_stops_the_run_which_can_go_on(
    tmp_path: Path, local: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = RayEngine._take

    def deadly(self: RayEngine, host: ActorHost, call: PendingCall) -> Any:
        events = take(self, host, call)
        if (call.method, call.round, host.number) == ("begin", 2, 0):
            host.actor.kill()
        return events

    with monkeypatch.context() as patch:
        patch.setattr(RayEngine, "_take", deadly)
        with pytest.raises(EngineError, match="podlt worker 0-3 was lost 3 times in one round"):
            on_ray(tmp_path / "run")
    result = podlt.api.resume(tmp_path / "run", entropy=seeded(1))
    assert result.parameters == local.result.parameters
    assert verify(tmp_path / "run", jobs=1).ok


def test_a_resource_that_no_node_has_is_said_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no node of the Ray cluster has .*training 1"):
        on_ray(tmp_path / "run", ray_resources={"training": 1.0})


def test_a_manager_that_was_killed_goes_on_with_new_actors(tmp_path: Path, local: Trained) -> None:
    run = tmp_path / "run"
    command = [sys.executable, str(Path(__file__).parent / "ray_killed.py"), str(run), "6"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    events: list[ev.Event] = []
    result = podlt.api.resume(run, entropy=seeded(1), listener=events.append)
    assert any(isinstance(event, ev.Started) and event.resumed for event in events)
    same(Trained(result, events), local)
