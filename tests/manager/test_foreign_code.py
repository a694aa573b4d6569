"""A stranger's recipe names code. An audit runs none of it but what lies in the folder that the auditor vouches for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from near_hosts import train_near
from small_runs import seeded, tiny_recipe

from podlt.errors import NotCheckedError
from podlt.manager.audit import audit
from podlt.manager.modules import load_vouched
from podlt.protocol.claims import Claim, Outcome
from podlt.recipe import LossSpec, ModelSpec, Recipe

MODULE = """
import os
from os import system
from torch import nn
from torch.nn import functional

def build(hidden):
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

def loss(model, x, y):
    return functional.cross_entropy(model(x), y, reduction="none")
"""


@pytest.fixture
def code(tmp_path: Path) -> Iterator[Path]:
    """A folder with a module whose name nothing else has."""
    folder = tmp_path / "code"
    (folder / "deep").mkdir(parents=True)
    name = f"models_{abs(hash(tmp_path))}"
    (folder / f"{name}.py").write_text(MODULE)
    yield folder
    for known in [known for known in sys.modules if known.startswith((name, "stranger_"))]:
        del sys.modules[known]


def module_of(code: Path) -> str:
    return next(code.glob("models_*.py")).stem


def begun_with(path: Path, monkeypatch: pytest.MonkeyPatch, model: ModelSpec) -> Path:
    """A run whose recipe, its manager says, is of another model than the one that was trained."""
    honestly = Recipe.to_bytes

    def named(self: Recipe) -> bytes:
        return honestly(msgspec.structs.replace(self, model=model))

    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "to_bytes", named)
        return train_near(path, tiny_recipe(), entropy=seeded(1)).result.run


@pytest.mark.parametrize("vouched", [False, True])
@pytest.mark.parametrize("name", ["os:system", "podlt.models:torch.os.system", "subprocess:getoutput", "posix:system"])
def test_a_name_in_a_strangers_recipe_is_never_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: Path, name: str, vouched: bool
) -> None:
    mark = tmp_path / "mark"
    args: dict[str, Any] = {"cmd" if "getoutput" in name else "command": f"touch {mark}"}
    run = begun_with(tmp_path / "run", monkeypatch, ModelSpec(name, args))
    report = audit(run, 1.0, code=code if vouched else None)
    assert not mark.exists()
    assert report.exit_code == 4
    for claim in (Claim.START, Claim.FIGURES):
        assert report.finding(claim).outcome is Outcome.NOT_CHECKED
        assert "--code DIR" in report.finding(claim).remedy
    os.system(f"touch {mark}")  # the mark would have been made
    assert mark.exists()


def test_a_model_of_ones_own_is_built_from_the_folder_that_is_vouched_for(tmp_path: Path, code: Path) -> None:
    name = module_of(code)
    recipe = msgspec.structs.replace(
        tiny_recipe(), model=ModelSpec(f"{name}:build", {"hidden": 8}), loss=LossSpec(f"{name}:loss")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(code)
        run = train_near(tmp_path / "run", recipe, entropy=seeded(1)).result.run
    del sys.modules[name]
    before = audit(run, 1.0)
    assert before.exit_code == 4 and name not in sys.modules
    assert "unless you vouch for it" in before.finding(Claim.START).why
    report = audit(run, 1.0, code=code)
    assert report.exit_code == 0, report.findings
    assert report.finding(Claim.START).figure.endswith("the same bits")


def test_only_what_files_in_the_folder_define_is_called(code: Path, tmp_path: Path) -> None:
    name = module_of(code)
    assert callable(load_vouched(f"{name}:build", code, "model.name"))
    for attribute in ("system", "os.system", "nn.Linear", "functional.relu", "missing", "__doc__"):
        with pytest.raises(NotCheckedError, match=f"model.name {name}:"):
            load_vouched(f"{name}:{attribute}", code, "model.name")
    for whole in ("os:system", "json:loads", "nowhere:x", ":x", "deep..x:y", "podlt.api:train", "podlt.models:nn"):
        with pytest.raises(NotCheckedError):
            load_vouched(whole, code, "model.name")


def test_a_file_outside_is_not_executed_even_through_a_link(code: Path, tmp_path: Path) -> None:
    mark, outside = tmp_path / "mark", tmp_path / "stranger_file.py"
    outside.write_text(f"open({str(mark)!r}, 'w')\ndef build(): ...\n")
    (code / "stranger_link.py").symlink_to(outside)
    (code / "stranger_package").symlink_to(tmp_path, target_is_directory=True)
    for name in ("stranger_link:build", "stranger_package.stranger_file:build", "stranger_file:build"):
        with pytest.raises(NotCheckedError):
            load_vouched(name, code, "model.name")
    assert not mark.exists()


def test_a_package_in_the_folder_is_imported(code: Path) -> None:
    (code / "stranger_kit").mkdir()
    (code / "stranger_kit" / "__init__.py").write_text("from stranger_kit.inner import build\n")
    (code / "stranger_kit" / "inner.py").write_text("def build(): return 5\n")
    assert load_vouched("stranger_kit:build", code, "model.name")() == 5
    assert load_vouched("stranger_kit.inner:build", code, "model.name")() == 5


def test_sizes_that_no_machine_has_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelSpec("podlt.models:mlp", {"inputs": 64, "hidden": 10**12, "outputs": 10})
    report = audit(begun_with(tmp_path / "run", monkeypatch, model), 1.0)
    assert report.exit_code == 4 and "as the program has" in report.finding(Claim.START).why
