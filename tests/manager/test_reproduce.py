"""`podlt reproduce`: the same recipe, data and program give the same model; what does not is named."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import msgspec
import pytest
from near_hosts import train_near
from small_runs import Trained, seeded, tiny_recipe

from podlt.cli.app import run as podlt
from podlt.data.fetch import file_sha256
from podlt.errors import EngineError, InvalidProofError, UsageError
from podlt.manager.audit.data import AuditData
from podlt.manager.audit.updates import StoredUpdates
from podlt.manager.reproduction import execution, reproduce, reproducer
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.recipe import ProtocolSpec
from podlt.store.bundle import write_bundle

UNCHECKED = ProtocolSpec(checked=0, own=0, clip=0)
"""Nobody is compared with anybody: a fake is never found."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of one worker, by exact arithmetic."""
    path = tmp_path_factory.mktemp("run") / "alone"
    return train_near(path, tiny_recipe(workers=1, arithmetic="exact"), entropy=seeded(7))


@pytest.fixture(scope="module")
def faked(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run with a cheater that nobody found."""
    path = tmp_path_factory.mktemp("run") / "faked"
    recipe = tiny_recipe(workers=3, protocol=UNCHECKED, arithmetic="exact")
    return train_near(path, recipe, cheats=["1:sign-flip"], entropy=seeded(8))


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such small runs are trained again sooner than a process is begun."""
    monkeypatch.setattr(reproducer, "_cores", lambda: 1)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.parametrize("which", ["faked", pytest.param("cheated", marks=pytest.mark.slow)])
def test_any_number_of_processes_comes_to_the_same(which: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(which).result.run
    one, three = reproduce(run, jobs=1), reproduce(run, jobs=3)
    assert (one.same, one.faked, one.difference) == (three.same, three.faked, three.difference)


def test_a_process_that_dies_is_an_error_and_no_finding(cheated: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution.ShardWork, "run", lambda *_: os._exit(1))
    with pytest.raises(EngineError, match="died"):
        reproduce(cheated.result.run, jobs=2)


def test_a_run_of_one_worker_is_built_again_to_the_last_byte_from_a_bundle_without_updates(
    alone: Trained, tmp_path: Path
) -> None:
    write_bundle(alone.result.run, tmp_path / "alone.podlt")
    found = reproduce(tmp_path / "alone.podlt", out=tmp_path / "again.safetensors")
    assert found.exit_code == 0 and found.same == found.rounds == alone.state.round
    assert found.start == "from seed 0: the same bits"
    assert found.program is not None and found.program.figure == "captured again: the same bytes"
    assert file_sha256(tmp_path / "again.safetensors") == file_sha256(alone.result.run / "model.safetensors")


def test_two_runs_of_one_recipe_with_other_keys_and_salts_are_one_model(alone: Trained, tmp_path: Path) -> None:
    other = train_near(tmp_path / "other", tiny_recipe(workers=1, arithmetic="exact"), entropy=seeded(70))
    assert other.state.run != alone.state.run
    assert other.state.parameters == alone.state.parameters == reproduce(other.result.run).verification.state.parameters


def test_what_verify_audit_and_plan_say_of_one_worker_is_that_nothing_was_compared(
    alone: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert podlt(["verify", str(alone.result.run)]) == 0
    text = capsys.readouterr().out
    assert "a record of a training; no result was compared" in text and "podlt reproduce" in text
    assert podlt(["plan", "--workers", "1"]) == 0
    assert "one worker: a record" in capsys.readouterr().out
    assert podlt(["plan", "--workers", "1", "--plot", "x.svg"]) == 2


def test_a_fake_that_nobody_found_is_the_first_difference_and_its_size_is_told(
    faked: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    found = reproduce(faked.result.run)
    assert found.exit_code == 1 and found.difference is not None and not found.faked
    assert found.difference.round == found.same and found.difference.shards
    sizes = [each.largest for each in found.difference.deviations]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] > 0
    assert any(each.name.startswith("grad:") for each in found.difference.deviations)
    assert any("podlt audit RUN --round N" in cause for cause in found.difference.causes)
    assert podlt(["reproduce", str(faked.result.run)]) == 1
    text = capsys.readouterr().out
    assert f"differs in round {found.difference.round}" in text and "largest deviation" in text


def test_by_stock_arithmetic_what_is_near_says_nothing_and_what_is_far_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine's PyTorch may round otherwise."""
    recipe = tiny_recipe(workers=3, protocol=UNCHECKED, arithmetic="stock")
    run = train_near(tmp_path / "stock", recipe, cheats=["1:sign-flip"], entropy=seeded(8)).result.run
    assert reproduce(run).exit_code == 1
    write_bundle(run, tmp_path / "stock.podlt")
    found = reproduce(tmp_path / "stock.podlt")
    assert found.exit_code == 4 and "to compare with is not here" in found.not_checked
    monkeypatch.setattr(StoredUpdates, "is_near", lambda *_: True)
    found = reproduce(run)
    assert found.exit_code == 4 and "rounds otherwise on another machine" in found.not_checked


def test_by_how_much_is_not_known_without_the_runs_updates(faked: Trained, tmp_path: Path) -> None:
    write_bundle(faked.result.run, tmp_path / "faked.podlt")
    found = reproduce(tmp_path / "faked.podlt")
    assert found.exit_code == 1 and found.difference is not None and found.difference.deviations == []


def test_a_known_fake_in_the_model_is_named_and_the_other_rounds_are_trained_again(cheated: Trained) -> None:
    found = reproduce(cheated.result.run)
    assert found.exit_code == 1 and found.difference is None
    convicted = {number for number, worker in cheated.state.workers.items() if worker.convictions}
    assert found.faked and {worker for each in found.faked for worker in each.workers} <= convicted
    assert found.same + len(found.faked) == found.rounds
    assert "byte for byte" in found.model


def test_without_the_updates_training_again_ends_at_the_first_known_fake(cheated: Trained, tmp_path: Path) -> None:
    write_bundle(cheated.result.run, tmp_path / "cheated.podlt")
    found = reproduce(tmp_path / "cheated.podlt")
    assert found.exit_code == 1 and len(found.faked) == 1
    assert found.same == found.faked[0].round and "is not here" in found.not_checked


def test_a_part_is_trained_again_and_the_rest_was_not_checked(alone: Trained) -> None:
    found = reproduce(alone.result.run, rounds=2)
    assert (found.exit_code, found.same) == (4, 2)
    assert found.not_checked == f"asked for 2 of {found.rounds} rounds"


def test_a_podlt_with_another_arithmetic_does_not_train_it_again(
    alone: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlt.manager.audit.again.arithmetic_digest", lambda name: bytes(32))
    found = reproduce(alone.result.run)
    assert found.exit_code == 4 and found.same == 0
    assert "use the version that began it" in found.not_checked


def test_a_program_that_is_not_the_recipes_model_ends_with_1(alone: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = Finding(Claim.PROGRAM, Outcome.FAILS, why="another step")
    monkeypatch.setattr(reproducer, "check_program", lambda *_: fails)
    found = reproduce(alone.result.run)
    assert found.exit_code == 1 and found.same == found.rounds and found.program == fails


def test_data_that_are_not_the_runs_are_not_trained_on(alone: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    other = AuditData(Finding(Claim.DATA, Outcome.FAILS, why="the training set is another one"))
    monkeypatch.setattr(reproducer, "find_data", lambda *_: other)
    found = reproduce(alone.result.run)
    assert found.exit_code == 4 and found.not_checked == "the training set is another one"


def test_a_run_that_does_not_verify_is_not_trained_again(alone: Trained, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("log.db", "program.json", "run.json", "model.safetensors"):
        (copy / name).write_bytes((alone.result.run / name).read_bytes())
    recipe = json.loads((alone.result.run / "recipe.json").read_bytes())
    recipe["training"]["seed"] = 1
    (copy / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(InvalidProofError, match="does not verify: claim 6"):
        reproduce(copy)


def test_paths_that_are_none_are_refused_before_anything_is_trained(alone: Trained, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a folder"):
        reproduce(alone.result.run, code=tmp_path / "none")
    with pytest.raises(UsageError, match="no such file"):
        reproduce(alone.result.run, data=tmp_path / "none")
    with pytest.raises(UsageError, match="the file exists"):
        reproduce(alone.result.run, out=alone.result.run / "recipe.json")


def test_the_commands_document_is_json_with_everything_in_it(
    faked: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert podlt(["reproduce", str(faked.result.run), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["same"] is False and document["difference"]["causes"]
    assert msgspec.json.encode(document)
