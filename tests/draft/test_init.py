"""`podlt init`: a recipe for the user's data that `podlt train` takes as it is."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer

import podlt
from podlt.cli import init, main
from podlt.data.spec import DataSpec
from podlt.draft.columns import delimiter_of, has_header
from podlt.draft.source import look
from podlt.draft.text import toml
from podlt.recipe import load_recipe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, where the command is called."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*argv: str) -> int:
    """The exit code of `podlt init ARGV`."""
    with pytest.raises(SystemExit) as end:
        main(["init", *argv])
    assert isinstance(end.value.code, int)
    return end.value.code


def table(path: Path, header: list[str], rows: Iterator[list[object]], delimiter: str = ",") -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(header)
        writer.writerows(rows)


def people(examples: int = 400) -> Iterator[list[object]]:
    dice = random.Random(1)
    for number in range(examples):
        age, job = dice.randint(18, 70), dice.choice(["nurse", "cook", "clerk"])
        joined = f"20{dice.randint(10, 24)}-0{dice.randint(1, 9)}-11"
        income = "high" if age / 70 + (job == "nurse") * 0.4 > 0.9 else "low"
        yield [number, age if number % 50 else "", job, joined, "constant", f"note {number}", income]


PEOPLE = ["id", "age", "job", "joined", "country", "note", "income"]


def houses(examples: int = 300) -> Iterator[list[object]]:
    dice = random.Random(2)
    for _ in range(examples):
        rooms = dice.randint(1, 6)
        yield [rooms, rooms * 25 + dice.gauss(0, 10), 100_000 * rooms + dice.gauss(0, 9_000)]


@pytest.mark.slow
def test_a_table_of_people_becomes_a_recipe_that_trains_as_it_is(folder: Path) -> None:
    table(folder / "people.csv", PEOPLE, people())
    assert call("my.toml", "--data", "people.csv", "--label", "income", "--epochs", "2", "--workers", "4") == 0
    data = load_recipe(Path("my.toml")).data
    assert data == DataSpec(
        "people.csv",
        label="income",
        categorical=("job",),
        dates=("joined",),
        drop=("id", "country", "note"),
        missing="mean",
        test_fraction=0.2,
    )
    result = podlt.train("my.toml", run="runs/mine", progress=False)
    assert result.metrics["accuracy"] > 0.5
    assert podlt.verify(result.run).ok


@pytest.mark.slow
def test_a_number_is_predicted_in_its_own_unit(folder: Path) -> None:
    table(folder / "houses.csv", ["rooms", "area", "price"], houses(), delimiter=";")
    assert call("my.toml", "--data", "houses.csv", "--label", "price") == 0
    recipe = load_recipe(Path("my.toml"))
    assert (recipe.data.delimiter, recipe.data.target, recipe.loss.name) == (";", "number", "mse")
    assert recipe.model.args["mean"] > 100_000 and recipe.model.args["deviation"] > 10_000
    assert podlt.train("my.toml", run="runs/mine", set={"training.epochs": 8}, progress=False).metrics["r2"] > 0.5


def test_arrays_texts_and_named_sets_need_no_more_than_their_name(folder: Path) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3, 4)).astype(np.float32)
    np.savez("arrays.npz", x=x, y=(x[:, 0, 0] > 0).astype(np.int64))
    assert call("arrays.toml", "--data", "arrays.npz", "--label", "y") == 0
    assert load_recipe(Path("arrays.toml")).model.args == {"inputs": 12, "hidden": 64, "outputs": 2}
    Path("cats.txt").write_text("the cat sat on the mat, and the dog did not. " * 300)
    assert call("cats.toml", "--data", "cats.txt") == 0
    assert load_recipe(Path("cats.toml")).loss.name == "token_cross_entropy"
    assert call("digits.toml", "--data", "digits") == 0
    assert load_recipe(Path("digits.toml")).model.args == {"inputs": 64, "hidden": 64, "outputs": 10}


def test_a_table_of_categories_alone_has_a_model_too(folder: Path) -> None:
    dice = random.Random(3)
    table(
        folder / "c.csv", ["a", "b", "y"], ([*(dice.choice("xyz") for _ in "ab"), dice.choice("nm")] for _ in range(90))
    )
    assert call("c.toml", "--data", "c.csv", "--label", "y") == 0
    assert load_recipe(Path("c.toml")).model.name == "podlt.models:category_mlp"


def test_a_model_of_ones_own_is_called_with_what_the_data_say(folder: Path) -> None:
    table(folder / "people.csv", PEOPLE, people())
    Path("drafted_net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, cardinalities, numeric_columns, classes, width=8):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(numeric_columns, classes)\n"
        "    def forward(self, numeric, category):\n"
        "        return self.layer(numeric)\n"
    )
    given = ["--data", "people.csv", "--label", "income", "--model", "drafted_net:Net"]
    assert call("my.toml", *given) == 2  # numeric_columns is said by nobody
    assert call("my.toml", *given, "--arg", "numeric_columns=2") == 0
    args = load_recipe(Path("my.toml")).model.args
    assert args == {"cardinalities": "@cardinalities", "numeric_columns": 2, "classes": 2}
    assert call("other.toml", *given, "--arg", "numeric_columns=3") == 2 and not Path("other.toml").exists()


def test_a_model_may_ask_for_the_width_of_an_input_by_its_name_and_for_what_the_data_say(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(folder / "people.csv", PEOPLE, people())
    Path("widths_net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, numeric, classes, sizes):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(numeric, classes)\n"
        "        self.tables = nn.ModuleList(nn.Embedding(n, 2) for n in sizes)\n"
        "    def forward(self, numeric, category):\n"
        "        return self.layer(numeric)\n"
    )
    given = ["--data", "people.csv", "--label", "income", "--model", "widths_net:Net"]
    assert call("my.toml", *given) == 2
    err = capsys.readouterr().err
    assert "must be given sizes" in err and "--arg sizes=@NAME takes what the data say: @cardinalities [" in err
    assert call("my.toml", *given, "--arg", "sizes=@cardinalities") == 0
    args = load_recipe(Path("my.toml")).model.args
    assert args == {"numeric": 2, "classes": 2, "sizes": "@cardinalities"}
    assert "note: left out: id, country, note: constant, or texts of their own" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "no terminal to ask on: say --data PATH"),
        (["--data", "absent.csv"], "absent.csv: no such file"),
        (["--data", "people.csv"], "say what to predict; people.csv has: age, job, income"),
        (["--data", "people.csv", "--label", "note"], "expected one of the columns that can be predicted"),
        (["--data", "people.csv", "--label", "incom"], "job, income; was 'income' meant?"),
        (["--data", "people.csv", "--label", "income", "--model", "absent"], "expected module:callable"),
        (["--data", "people.csv", "--label", "income", "--arg", "hidden"], "--arg hidden: expected NAME=VALUE"),
        (["--data", "people.json"], "JSON: one object a line, as .jsonl"),
        (["--data", "digits", "--label", "x"], "is for tables and arrays"),
        (["--data", "digits", "--workers", "2000"], "too few for 2000 workers"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    argv: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(folder / "people.csv", PEOPLE, people())
    (folder / "people.json").write_text("[]")
    assert call("my.toml", *argv) == 2
    assert words in capsys.readouterr().err.replace("\n", " ")
    assert not (folder / "my.toml").exists()


def test_a_file_that_is_there_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "my.toml").write_text("mine")
    assert call("my.toml", "--data", "digits") == 2
    assert (folder / "my.toml").read_text() == "mine"
    assert "there is a file already" in capsys.readouterr().err


def test_three_questions_are_asked_on_a_terminal_again_where_the_answer_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table(folder / "people.csv", PEOPLE, people())
    answers = iter(["peple.csv", "people.csv", "pay", "income", ""])
    asked = []

    def prompt(question: str, **_: object) -> str:
        asked.append(question[0])
        return next(answers)

    monkeypatch.setattr(init, "is_terminal", lambda: True)
    monkeypatch.setattr(typer, "prompt", prompt)
    assert call("my.toml") == 0
    assert asked == ["1", "1", "2", "2", "3"]
    out = capsys.readouterr().out
    assert "peple.csv: no such file" in out and "next: podlt train my.toml" in out


def test_a_recipe_in_another_folder_names_the_data_from_there(folder: Path) -> None:
    (folder / "recipes").mkdir()
    table(folder / "people.csv", PEOPLE, people())
    assert call("recipes/my.toml", "--data", "people.csv", "--label", "income") == 0
    assert load_recipe(Path("recipes/my.toml")).data.source == "../people.csv"


@pytest.mark.parametrize(
    ("text", "delimiter", "header"),
    [
        ("a,b\n1,2\n", ",", True),
        ("1,2\n3,4\n", ",", False),
        ("39, State-gov, 77516\n50, Private, 83311\n", ",", False),
        ("name;place\nx;y\n", ";", True),
        ("2019\t2020\nx\ty\n", "\t", False),
        ("a\n", ",", True),
    ],
)
def test_delimiter_and_header_are_seen(text: str, delimiter: str, header: bool, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert (delimiter_of(path), has_header(path, delimiter)) == (delimiter, header)


def test_labels_are_suggested_by_their_usual_names(folder: Path) -> None:
    table(folder / "t.csv", ["target", "x"], ([n % 2, n] for n in range(50)))
    table(folder / "u.csv", ["x", "which"], ([n, n % 2] for n in range(50)))
    assert look("t.csv", folder).likely == "target"
    assert look("u.csv", folder).likely == "which"


def test_texts_of_any_kind_are_toml() -> None:
    import tomllib

    value = {"a b": ['quote " and \\', "example\nend \x7f \U0001f600", "[x]"], "n": 1.5, "yes": True}
    assert tomllib.loads(f"value = {toml(value)}")["value"] == value
