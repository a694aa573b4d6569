"""What the user gives wrong: one clear error of the right class, and nothing half made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from small_runs import entries, seeded, tiny_recipe, train

import podlt.api
from podlt.data.dataset import Dataset
from podlt.data.spec import DataSpec
from podlt.errors import DataError, DivergedError, PodltError, UnsupportedError, UsageError
from podlt.manager.capture_inputs import tried_examples
from podlt.protocol import entries as e
from podlt.recipe import LossSpec, ModelSpec, Recipe, TrainingSpec, load_recipe
from podlt.verify import verify

MODULE = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(64, 10))
    def forward(self, x):
        return torch.linalg.svd(x @ self.w)[0]

def number(): return 5
def failing(): raise KeyError("no such layer")
"""


def changed(**fields: Any) -> Recipe:
    """A tiny recipe with something else in it."""
    return msgspec.structs.replace(tiny_recipe(), **fields)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with bad files in it, from which runs are started."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd_models.py").write_text(MODULE)
    (tmp_path / "broken_models.py").write_text("1 / 0\n")
    (tmp_path / "short.csv").write_text("a,b,y\n1,2,0\n3,1\n5,6,1\n")
    (tmp_path / "words.csv").write_text("a,b,y\n1,2,0\n3,many,1\n5,6,1\n")
    (tmp_path / "nan.csv").write_text("a,b,y\n1,2,0\n3,nan,1\n5,6,1\n")
    return tmp_path


def table(name: str) -> dict[str, Any]:
    """A recipe's data in a CSV file."""
    return {"data": DataSpec(name, label="y", target="class")}


WRONG: dict[str, tuple[dict[str, Any], type[PodltError], str]] = {
    "missing data": (table("nowhere.csv"), UsageError, r"nowhere\.csv"),
    "a short line": (table("short.csv"), DataError, r"short\.csv, line 3"),
    "a word for a number": (table("words.csv"), DataError, r"words\.csv, line 3.*many"),
    "not a number": (table("nan.csv"), DataError, r"nan\.csv, line 3"),
    "no such module": ({"model": ModelSpec("no_such_module:build")}, UsageError, "no_such_module"),
    "no such callable": ({"model": ModelSpec("odd_models:build")}, UsageError, "odd_models:build.*build"),
    "a module that fails": ({"model": ModelSpec("broken_models:build")}, UsageError, "ZeroDivisionError"),
    "a model that fails": ({"model": ModelSpec("odd_models:failing")}, UsageError, "KeyError.*no such layer"),
    "a model that is none": ({"model": ModelSpec("odd_models:number")}, UsageError, "expected an nn.Module, got int"),
    "an argument too many": ({"model": ModelSpec("odd_models:Odd", {"x": 1})}, UsageError, "cannot be built.*'x'"),
    "an unknown fact": ({"model": ModelSpec("odd_models:Odd", {"x": "@size"})}, UsageError, "data property @size"),
    "an unknown operation": ({"model": ModelSpec("odd_models:Odd")}, UnsupportedError, r"svd.*odd_models\.py"),
    "an unknown loss": ({"loss": LossSpec("hinge")}, UsageError, "cross_entropy.*hinge"),
    "another PyTorch": ({"torch": "1.13.1"}, UsageError, r"the recipe names 1\.13\.1, and .* is installed"),
    "a group of no parameter": (
        {"optimizer": {"name": "sgd", "lr": 0.1, "groups": [{"match": ["body.*"]}]}},
        UsageError,
        r"no parameter is called 'body\.\*'",
    ),
    "an unknown optimiser": ({"optimizer": {"name": "lion"}}, UsageError, "sgd, adam, adamw.*lion"),
    "an optimiser's field": ({"optimizer": {"name": "sgd", "lr": 0.1, "beta": 1}}, UsageError, "beta"),
    "epochs beyond count": ({"training": TrainingSpec(epochs=10**9)}, UsageError, r"at most 20,000,000.*fewer epochs"),
    "an infinite rate": ({"optimizer": {"name": "sgd", "lr": float("inf")}}, UsageError, "finite"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_cannot_be_used_is_named_before_anything_is_made(folder: Path, fault: str) -> None:
    fields, kind, message = WRONG[fault]
    with pytest.raises(kind, match="(?s)" + message) as caught:
        podlt.api.train(changed(**fields), run=folder / "run", processes=1)
    assert caught.value.exit_code == 2
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nworkers = 0\n", "workers"),
        ("[training]\nworkers = 2\n[protocol]\npreset = 'classic'\n", "at least 3"),
        ("[protocol]\npreset = 'classic'\nclip = 3\n", "protocol: classic"),
        ("[training]\nworkers = 12\nworkerz = 3\n", "workerz"),
        ("[training]\nbatch_size = 0\n", "batch_size"),
        ("[training]\nbatch_size = 10\nshard_size = 11\n", "shard_size: expected at most"),
        ("[training]\nlocal_steps = 3\n", "local_lr"),
        ("[training]\nlocal_optimizer = {name = 'adamw'}\n", "local_steps above 1"),
        ("[protocol]\npreset = 'lenient'\n", "lenient|preset"),
        ("[speed]\nfast = true\n", "speed"),
        ("[training\n", "not TOML"),
    ],
)
def test_a_recipe_that_no_run_could_follow_is_refused_with_the_field(folder: Path, text: str, message: str) -> None:
    head = "[data]\nsource = 'digits'\n[model]\nname = 'podlt.models:mlp'\n[model.args]\ninputs = 64\n"
    (folder / "recipe.toml").write_text(head + text)
    with pytest.raises(UsageError, match=message) as caught:
        load_recipe(folder / "recipe.toml")
    assert "recipe.toml" in str(caught.value)


def test_a_file_that_is_no_recipe_is_refused(folder: Path) -> None:
    (folder / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name, message in [("gone.toml", "cannot be read"), ("binary.toml", "not a text file")]:
        with pytest.raises(UsageError, match=message):
            podlt.api.train(name)


def test_a_directory_that_holds_something_else_is_left_alone(folder: Path) -> None:
    with pytest.raises(UsageError, match="it is no run"):
        podlt.api.train(tiny_recipe(), run=folder)
    with pytest.raises(UsageError, match="no run here"):
        podlt.api.resume(folder)


@pytest.mark.slow
def test_a_class_that_the_model_does_not_have_is_refused_where_the_tried_examples_show_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Target \d is out of bounds"):
        train(tmp_path / "run", tiny_recipe(model={"outputs": 5}), processes=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_class_that_the_model_does_not_have_stops_the_run_with_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harmless(recipe: Recipe, train: Dataset) -> dict[str, torch.Tensor]:
        examples = tried_examples(recipe, train)
        (labels,) = (value for value in examples.values() if value.dtype == torch.int64)
        return {name: value[labels < 5] for name, value in examples.items()}

    monkeypatch.setattr("podlt.manager.setup.tried_examples", harmless)
    monkeypatch.setattr("podlt.manager.setup.try_inputs", lambda *_: None)
    with pytest.raises(UsageError, match=r"round 0: the training step fails on \d+ examples of epoch 0"):
        train(tmp_path / "run", tiny_recipe(model={"outputs": 5}), processes=1)
    last = entries(tmp_path / "run")[-1]
    assert isinstance(last, e.Close) and last.outcome == "stopped" and "training step fails" in last.reason
    assert verify(tmp_path / "run", jobs=1).ok


@pytest.mark.slow
def test_a_loss_that_diverges_stops_the_run_every_time_and_the_log_holds(tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(tiny_recipe(), optimizer={"name": "sgd", "lr": 1e30})
    with pytest.raises(DivergedError, match="not finite") as first:
        train(tmp_path / "run", recipe, processes=1, entropy=seeded(4))
    whole = [entry for entry in entries(tmp_path / "run") if isinstance(entry, e.Apply)]
    with pytest.raises(DivergedError) as second:
        podlt.api.resume(tmp_path / "run", processes=1)
    assert str(first.value) == str(second.value)
    assert [entry for entry in entries(tmp_path / "run") if isinstance(entry, e.Apply)] == whole
    assert not any(isinstance(entry, e.Verdict) and entry.convicted for entry in entries(tmp_path / "run"))
    assert verify(tmp_path / "run", jobs=1).ok
