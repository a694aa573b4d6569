"""A run whose project folder, data or code have moved; and a recipe that holds no path of the machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import msgspec
import pytest
from near_hosts import hosts_in_threads
from small_runs import seeded, tiny_recipe

import podlt.api
from podlt.data.spec import DataSpec
from podlt.errors import DataError, UsageError
from podlt.manager import events as ev
from podlt.manager.audit import audit
from podlt.manager.directory import RunDirectory
from podlt.protocol.claims import Claim, Outcome
from podlt.recipe import ModelSpec, Recipe

MLP = ModelSpec("podlt.models:mlp", {"inputs": 1, "hidden": 4, "outputs": 2})


def table(path: Path, shift: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a,y\n" + "".join(f"{(i + shift) % 7},{i % 2}\n" for i in range(120)))
    return path


def recipe_of(source: str, test: str | None = None) -> Recipe:
    data = DataSpec(source, label="y", test=test, test_fraction=0.0 if test else 0.2)
    return msgspec.structs.replace(tiny_recipe(epochs=2), data=data, model=MLP)


def stopped(folder: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in a project's folder that was interrupted after a round."""

    def listen(event: ev.Event) -> None:
        if isinstance(event, ev.RoundDone):
            raise KeyboardInterrupt

    monkeypatch.chdir(folder)
    with hosts_in_threads(), pytest.raises(KeyboardInterrupt):
        podlt.api.train(recipe, run=folder / "runs" / "mine", entropy=seeded(1), listener=listen)
    return folder / "runs" / "mine"


def finish(run: Path, **options: object) -> podlt.api.Result:
    with hosts_in_threads():
        return podlt.api.resume(run, **options)  # type: ignore[arg-type]


def test_a_project_that_moved_is_found_from_inside_it_and_around_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path / "before" / "d.csv")
    stopped(tmp_path / "before", recipe_of("d.csv"), monkeypatch)
    monkeypatch.chdir("/")
    (tmp_path / "before").rename(tmp_path / "after")
    run = tmp_path / "after" / "runs" / "mine"
    finish(run)
    assert audit(run, 1.0).exit_code == 0
    shutil.move(tmp_path / "after" / "runs", tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "after")
    assert audit(tmp_path / "elsewhere" / "mine", 1.0).exit_code == 0


@pytest.mark.parametrize("what", ["file", "folder"])
def test_data_that_moved_are_told_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    source = table(tmp_path / "project" / "data" / "d.csv")
    run = stopped(tmp_path / "project", recipe_of("data/d.csv"), monkeypatch)
    there = tmp_path / "there" / ("other.csv" if what == "file" else "d.csv")
    there.parent.mkdir()
    source.rename(there)
    with pytest.raises(DataError, match=r"data/d\.csv: no such file \(looked in .*project.*--data PATH"):
        finish(run)
    found = audit(run, 1.0)
    assert found.exit_code == 4 and found.finding(Claim.DATA).outcome is Outcome.NOT_CHECKED
    assert str(tmp_path / "project") in found.finding(Claim.DATA).why
    assert found.finding(Claim.DATA).remedy == f"podlt audit {run} --data PATH" == found.finding(Claim.RESULTS).remedy
    finish(run, data=there if what == "file" else there.parent)
    assert RunDirectory(run).settings().source == str(there)
    assert finish(run).rounds > 2
    (run / "run.json").unlink()
    assert audit(run, 1.0, data=there if what == "file" else there.parent).exit_code == 0


def test_other_data_fail_and_data_that_are_no_such_table_are_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path / "d.csv")
    run = stopped(tmp_path, recipe_of("d.csv"), monkeypatch)
    finish(run)
    other = table(tmp_path / "other.csv", shift=1)
    report = audit(run, 1.0, data=other)
    failing = [finding.claim for finding in report.findings if finding.outcome is Outcome.FAILS]
    assert report.exit_code == 1 and failing == [Claim.DATA]
    assert str(other) in report.finding(Claim.DATA).why
    with pytest.raises(UsageError):
        finish(run, data=tmp_path / "nowhere")
    other.write_text("something,else\n1,2\n")
    assert audit(run, 1.0, data=other).exit_code == 4


@pytest.mark.slow
def test_a_recipe_of_a_run_names_files_and_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, test = table(tmp_path / "data" / "d.csv"), table(tmp_path / "data" / "t.csv")
    (tmp_path / "project").mkdir()
    run = stopped(tmp_path / "project", recipe_of(str(source), test="../data/t.csv"), monkeypatch)
    kept = Recipe.from_bytes((run / "recipe.json").read_bytes()).data
    assert (kept.source, kept.test) == ("d.csv", "t.csv")
    assert str(tmp_path) not in (run / "recipe.json").read_text()
    settings = RunDirectory(run).settings()
    assert (settings.source, settings.test) == (str(source), str(test))
    finish(run)
    assert audit(run, 1.0).exit_code == 0
    assert audit(run, 1.0, data=tmp_path / "data").exit_code == 0


def test_code_that_moved_is_told_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"moved_models_{abs(hash(tmp_path))}"
    module = tmp_path / "project" / f"{name}.py"
    module.parent.mkdir()
    module.write_text("from torch import nn\ndef build():\n    return nn.Linear(64, 10)\n")
    recipe = msgspec.structs.replace(tiny_recipe(epochs=2), model=ModelSpec(f"{name}:build"))
    run = stopped(tmp_path / "project", recipe, monkeypatch)
    (tmp_path / "lib").mkdir()
    module.rename(tmp_path / "lib" / module.name)
    shutil.rmtree(module.parent / "__pycache__", ignore_errors=True)
    del sys.modules[name]
    with pytest.raises(UsageError, match=name):
        finish(run)
    finish(run, code=tmp_path / "lib")
    assert RunDirectory(run).settings().code == str(tmp_path / "lib")
    del sys.modules[name]
    assert finish(run).rounds > 2
    assert audit(run, 1.0, code=tmp_path / "lib").exit_code == 0


def test_a_named_set_has_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stopped(tmp_path, tiny_recipe(epochs=2), monkeypatch)
    for attempt in (lambda: finish(run, data=tmp_path), lambda: audit(run, 1.0, data=tmp_path)):
        with pytest.raises(UsageError, match="named set digits"):
            attempt()
