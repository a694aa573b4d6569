"""Who computes other bits than everybody else is told so, before it works."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from near_hosts import HostThread

import podlt.api
from podlt.data.spec import DataSpec
from podlt.engine.local import frames
from podlt.engine.local.engine import LocalEngine
from podlt.engine.shared_memory import RunMemory
from podlt.errors import EngineError
from podlt.exact import conformance as golden
from podlt.execution.conformance import Conformance, conformance
from podlt.execution.setup import ExecutionSetup
from podlt.protocol import entries as e
from podlt.protocol.messages import TreeSize
from podlt.protocol.options import GUARDED
from podlt.recipe import ModelSpec, Recipe, TrainingSpec

NOTHING = TreeSize(0, bytes(32))
WRONG = golden.Report("ab" * 32, ("mm int8",))
_DIGESTS = ("manager", "nonce", "recipe", "program", "arithmetic", "data", "parameters", "seed", "chain_end")
_NUMBERS = ("at", "examples", "epochs", "batch_size", "shard_size", "local_steps", "reward", "chain_length")
BEGIN = e.Begin(
    test=e.NO_TEST,
    local_lr=None,
    **dict.fromkeys(_DIGESTS, bytes(32)),
    **dict.fromkeys(_NUMBERS, 1),
    **msgspec.structs.asdict(GUARDED),
)


def test_stock_arithmetic_promises_nothing_and_checks_nothing() -> None:
    assert conformance("stock") == Conformance()
    conformance("stock").require("this machine")


def test_this_machine_computes_the_golden_vectors() -> None:
    found = conformance("exact/2")
    assert found.differing == "" and len(bytes.fromhex(found.digest)) == 32


def test_a_machine_that_computes_something_else_begins_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(
        data=DataSpec("digits", limit=100),
        model=ModelSpec("podlt.models:mlp", {"inputs": 64, "hidden": 4, "outputs": 10}),
        training=TrainingSpec(epochs=1, workers=3, batch_size=50),
        arithmetic="exact",
    )
    monkeypatch.setattr(golden, "check", lambda device, *_: WRONG)
    with pytest.raises(EngineError, match="this machine computes 'mm int8' otherwise"):
        podlt.api.train(recipe, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_worker_process_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = frames.Ready(joins=[bytes(64)], conformance=Conformance(WRONG.digest, WRONG.differing or ""))
    monkeypatch.setattr(HostThread, "ready", lambda self: wrong)
    setup = frames.HostSetup(
        execution=ExecutionSetup(b"", [], 1, 1, None), program=b"", seen=NOTHING, workers=[], slots=1
    )
    memory = RunMemory.allocate(64, 64, 1, [], 1)
    engine = LocalEngine(setup, [frames.Hosted(0, bytes(32))], memory, [HostThread.start()])
    try:
        with pytest.raises(EngineError, match="worker process 0 computes 'mm int8' otherwise"):
            engine.members(BEGIN, NOTHING)
    finally:
        engine.close()


def test_what_a_process_says_of_its_arithmetic_travels() -> None:
    ready = frames.Ready(joins=[], conformance=Conformance("00", "sum"))
    assert msgspec.convert(msgspec.to_builtins(ready), frames.Ready) == ready
