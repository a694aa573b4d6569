"""Worker processes: replaced when they die, the same bits however many there are, and free of the user's code."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from small_runs import OFTEN, Trained, entries, seeded, small_recipe, tiny_recipe, train

import podlt.api
from podlt.engine.local import engine, frames
from podlt.engine.local.engine import LocalEngine
from podlt.engine.local.process import HostProcess
from podlt.errors import EngineError
from podlt.manager import events as ev
from podlt.protocol import entries as e
from podlt.verify import verify

RECIPE = small_recipe(protocol=OFTEN)
"""As that of the fixture `cheated`."""


def strike(
    monkeypatch: pytest.MonkeyPatch, method: str, rounds: set[int], victims: slice, how: int = signal.SIGKILL
) -> None:
    """Kills (or stops) worker processes just after the engine did something in some rounds, once in each."""
    original, struck = getattr(LocalEngine, method), set[int]()

    def wrapped(self: LocalEngine, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        if self._round in rounds - struck:
            struck.add(self._round)
            for pid in self.pids[victims]:
                os.kill(pid, how)

    monkeypatch.setattr(LocalEngine, method, wrapped)


def same(trained: Trained, reference: Trained) -> bool:
    """Whether two runs came to the same, nobody having left."""
    assert not trained.of(ev.Withdrawn)
    result, expected = trained.result, reference.result
    assert result.convicted == expected.convicted
    assert result.ledger == expected.ledger
    return result.parameters == expected.parameters


@pytest.mark.slow
def test_processes_that_are_killed_within_rounds_cost_nobody_anything(
    tmp_path: Path, cheated: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    strike(monkeypatch, "deal", {3}, slice(0, 1))
    strike(monkeypatch, "open", {5}, slice(1, 2))
    trained = train(tmp_path / "run", RECIPE, cheats=["2:sign-flip"], processes=2, entropy=seeded(2))
    replaced = trained.of(ev.Replaced)
    assert len(replaced) == 2
    assert {event.status for event in replaced} == {-signal.SIGKILL}
    assert same(trained, cheated)


@pytest.mark.slow
def test_a_process_that_hangs_is_replaced(tmp_path: Path, cheated: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LEAST_TIMEOUT", 8.0)
    strike(monkeypatch, "deal", {3}, slice(0, 1), signal.SIGSTOP)
    trained = train(tmp_path / "run", RECIPE, cheats=["2:sign-flip"], processes=2, entropy=seeded(2))
    assert [event.status for event in trained.of(ev.Replaced)] == [-signal.SIGKILL]
    assert same(trained, cheated)


@pytest.mark.slow
def test_a_task_that_kills_every_process_stops_the_run_which_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(tmp_path / "undisturbed", tiny_recipe(), processes=1, entropy=seeded(1))
    with monkeypatch.context() as patch:
        given, ready = LocalEngine.deal, HostProcess.ready
        deadly = []

        def deal(self: LocalEngine, *args: Any, **options: Any) -> None:
            given(self, *args, **options)
            if self._round == 2 and not deadly:
                deadly.append(self._round)
                os.kill(self.pids[0], signal.SIGKILL)

        def dying(self: HostProcess) -> frames.Ready:
            answer = ready(self)
            if deadly:
                os.kill(self.pid, signal.SIGKILL)
            return answer

        patch.setattr(LocalEngine, "deal", deal)
        patch.setattr(HostProcess, "ready", dying)
        with pytest.raises(EngineError, match=r"died 3 times in one round \(status -9\)"):
            train(tmp_path / "run", tiny_recipe(), processes=1, entropy=seeded(1))
    assert isinstance(entries(tmp_path / "run")[-1], e.Close)
    result = podlt.api.resume(tmp_path / "run", entropy=seeded(1))
    assert result.parameters == undisturbed.result.parameters
    assert verify(tmp_path / "run", jobs=1).ok


@pytest.mark.slow
@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xffhuge", (9).to_bytes(4, "big") + b"malformed", b"\0\0"])
def test_what_is_no_message_costs_the_process_its_place_and_nobody_else(
    tmp_path: Path, garbage: bytes, monkeypatch: pytest.MonkeyPatch, cheated: Trained
) -> None:
    """The bytes are put in front of what a process says: as if it had sent them itself."""
    receive, spoilt = frames.receive, []

    def spoiling(connection: Any) -> Any:
        if not spoilt and deals:
            spoilt.append(connection)
            near, far = socket.socketpair()
            with near, far:
                far.sendall(garbage)
                far.shutdown(1)
                return receive(near)
        return receive(connection)

    deals: list[int] = []
    given = LocalEngine.deal
    monkeypatch.setattr(LocalEngine, "deal", lambda self, *a, **k: (given(self, *a, **k), deals.append(1))[0])
    monkeypatch.setattr(frames, "receive", spoiling)
    trained = train(tmp_path / "run", RECIPE, cheats=["2:sign-flip"], entropy=seeded(2))
    assert len(trained.of(ev.Replaced)) == 1
    assert same(trained, cheated)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_the_number_of_processes_changes_no_bit(tmp_path: Path, cheated: Trained, processes: int) -> None:
    options: dict[str, Any] = {"cheats": ["2:sign-flip"], "processes": processes, "entropy": seeded(2)}
    assert same(train(tmp_path / "run", RECIPE, **options), cheated)


@pytest.mark.slow
def test_only_the_manager_imports_the_users_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = "import os, pathlib\nwith open(pathlib.Path(__file__).with_suffix('.pids'), 'a') as f:\n"
    note += "    print(os.getpid(), file=f)\n"
    (tmp_path / "users_own_model.py").write_text(
        note + "from torch import nn\ndef build():\n    return nn.Sequential(nn.Linear(64, 10))\n"
    )
    (tmp_path / "blake3.py").write_text(note)  # a name that the worker processes import
    (tmp_path / "recipe.toml").write_text(
        '[data]\nsource = "digits"\nlimit = 100\n[model]\nname = "users_own_model:build"\n'
        "[optimizer]\nname = 'sgd'\nlr = 0.1\n[training]\nworkers = 3\nbatch_size = 50\n"
    )
    monkeypatch.chdir(tmp_path)
    result = podlt.api.train("recipe.toml", run="run", processes=1)
    assert result.rounds == len([entry for entry in entries(result.run) if isinstance(entry, e.Apply)]) > 1
    assert set((tmp_path / "users_own_model.pids").read_text().split()) == {str(os.getpid())}
    assert not (tmp_path / "blake3.pids").exists()


@pytest.mark.slow
def test_parameters_are_one_memory_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process maps the manager's own regions: the same inodes, and hardly anything of its own."""
    seen: dict[int, set[str]] = {}
    original = LocalEngine.open

    def opened(self: LocalEngine, round: int) -> None:
        for pid in [os.getpid(), *self.pids]:
            maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
            seen.setdefault(pid, set()).update(line.split()[4] for line in maps if "memfd:podlt" in line)
        original(self, round)

    monkeypatch.setattr(LocalEngine, "open", opened)
    trained = train(tmp_path / "run", tiny_recipe(examples=50), processes=2)
    (started,) = trained.of(ev.Started)
    assert started.processes == 2
    hosts = [inodes for pid, inodes in seen.items() if pid != os.getpid()]
    assert len(hosts) == 2 and len(hosts[0]) == frames.REGIONS
    assert hosts[0] == hosts[1] <= seen[os.getpid()]


class Hanging:
    """Whether processes were stopped within a task, which they would execute for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, round: int) -> None:
        self.statuses: list[int] = []
        dealt, closed = LocalEngine.deal, HostProcess.close

        def deal(engine: LocalEngine, *args: Any, **options: Any) -> None:
            dealt(engine, *args, **options)
            if engine._round == round:
                os.kill(engine.pids[0], signal.SIGSTOP)
                raise KeyboardInterrupt

        def close(process: HostProcess) -> None:
            closed(process)
            self.statuses.append(process._popen.returncode)

        monkeypatch.setattr(LocalEngine, "deal", deal)
        monkeypatch.setattr(HostProcess, "close", close)
        monkeypatch.setattr("podlt.engine.child.END_SECONDS", 10**6)


def test_ctrl_c_waits_for_no_task_that_is_being_executed_and_the_run_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(tmp_path / "undisturbed", tiny_recipe(), processes=1, entropy=seeded(1))
    with monkeypatch.context() as patch:
        hanging = Hanging(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", tiny_recipe(), processes=1, entropy=seeded(1))
    assert hanging.statuses == [-signal.SIGKILL]
    assert podlt.api.resume(tmp_path / "run", entropy=seeded(1)).parameters == undisturbed.result.parameters
    assert verify(tmp_path / "run", jobs=1).ok


def test_processes_that_have_nothing_to_do_end_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = Hanging(monkeypatch, -1)
    train(tmp_path / "run", tiny_recipe(), processes=2, entropy=seeded(1))
    assert hanging.statuses == [0, 0]
