"""Predictions: new examples are encoded as the training examples were, and what comes out has names."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from nets import tied
from people import COLUMNS, people, people_spec, write_csv
from torch import nn

import podlt
from podlt.data.field import Field
from podlt.data.prepare import prepare
from podlt.inference.continuation import continued
from podlt.inference.description import Description, ModelCall, describe_run, read_description
from podlt.inference.output_files import write_predictions
from podlt.inference.outputs import named_outputs
from podlt.inference.predictor import Predictor
from podlt.inference.tables import TableReader
from podlt.manager.result import Result
from podlt.recipe import ModelSpec, Recipe


def described(loss: str = "cross_entropy", classes: list[str] | None = None, **data: object) -> Description:
    """A description of arrays x f32[2]."""
    fields = (Field("x", "f32", (2,), "input"), Field("y", "i64", (), "label"))
    info: dict[str, object] = {"kind": "arrays", "classes": classes, **data}
    return Description("podlt-inference/1", "00", "00", ModelCall("m:f", {}), loss, fields, ",", info)


def test_the_run_s_own_accuracy_comes_back_to_the_last_example(of_people: Result, folder: Path) -> None:
    found = of_people.predict(folder / "test.csv")
    truth = np.array([row[-1] for row in people(80, 2)])
    assert float((found["prediction"] == truth).mean()) == of_people.metrics["accuracy"]
    assert np.allclose(found["probability_high"] + found["probability_low"], 1)
    assert found["example"].tolist() == list(range(2, 82))


def test_arrays_give_the_run_s_own_accuracy(of_arrays: Result, folder: Path) -> None:
    with np.load(folder / "arrays.npz") as file:
        x, kind = file["x"], file["kind"]
    everywhere = of_arrays.predict({"x": x})
    assert np.array_equal(everywhere["prediction"], of_arrays.predict(torch.from_numpy(x))["prediction"])
    assert np.array_equal(everywhere["prediction"], of_arrays.predict(folder / "arrays.npz")["prediction"])
    assert (everywhere["prediction"] == kind.astype(str)).mean() > 0.4


def test_examples_are_encoded_to_the_bits_of_the_prepared_ones(of_people: Result, folder: Path) -> None:
    prepared = prepare(people_spec(folder), folder / "cache")
    assert prepared.test is not None
    expected = prepared.test.read(np.arange(prepared.test.examples))
    reader = TableReader(read_description(of_people.run), [("test.csv", folder / "test.csv")])
    (examples,) = list(reader.examples())
    for name, values in examples.arrays.items():
        assert values.tobytes() == expected[name].tobytes(), name


def test_no_label_other_order_parquet_and_a_frame_give_the_same(
    of_people: Result, folder: Path, tmp_path: Path
) -> None:
    expected = of_people.predict(folder / "test.csv")
    rows = people(80, 2)
    shuffled = write_csv(tmp_path / "new.csv", rows, ["member", "joined", "age", "job", "id"])
    found = of_people.predict(shuffled, id="id")
    assert found["id"].tolist() == [row[0] for row in rows]
    table = pa.table({name: [str(row[place]) for row in rows] for place, name in enumerate(COLUMNS[:-1])})
    pq.write_table(table, tmp_path / "new.parquet")
    for other in (found, of_people.predict(tmp_path / "new.parquet"), of_people.predict(table)):
        assert np.array_equal(other["probability_high"], expected["probability_high"])


def test_unknown_categories_are_counted_and_missing_columns_named(of_people: Result, tmp_path: Path) -> None:
    rows = [["a", 30, "pilot", "2020-01-01", "true", ""], ["b", 30, "astronaut", "2020-01-01", "TRUE", ""]]
    found = of_people.predict(write_csv(tmp_path / "new.csv", rows))
    assert found.notes == ["column 'job': 2 values that the training examples do not have, taken as unknown"]
    assert found["probability_high"][0] == pytest.approx(found["probability_high"][1], rel=1e-6)  # rows of a batch
    with pytest.raises(podlt.UsageError, match="expected a column 'age', as the run's data have it, got job"):
        of_people.predict(write_csv(tmp_path / "less.csv", rows, ["job", "joined", "member"]))


def test_a_column_of_identifiers_that_is_not_there_is_not_said_to_be_the_runs(
    of_people: Result, tmp_path: Path
) -> None:
    new = write_csv(tmp_path / "new.csv", [["a", 30, "pilot", "2020-01-01", "true", ""]])
    with pytest.raises(podlt.UsageError, match=r"id 'job_': expected a column of this file .*; was 'job' meant"):
        of_people.predict(new, id="job_")


def test_every_fault_of_a_file_is_named(of_people: Result, tmp_path: Path) -> None:
    rows = [["a", "old", "cook", "2020-01-01", "true", ""], ["b", 3, "cook", "soon", "true", ""]]
    with pytest.raises(podlt.UsageError, match=r"line 2: column 'age': expected a number, got 'old'") as caught:
        of_people.predict(write_csv(tmp_path / "new.csv", rows))
    assert "line 3: column 'joined': expected a date" in str(caught.value)


@pytest.mark.parametrize(("rule", "told"), [("drop", "2 examples lack a value"), ("error", "line 2: column 'age'")])
def test_missing_values_are_what_the_recipe_says(folder: Path, tmp_path: Path, rule: str, told: str) -> None:
    rows = [row for row in people(60, 4) if row[1] != "" and row[2] != ""]
    write_csv(tmp_path / "people.csv", rows)
    spec = people_spec(tmp_path, test=None, test_fraction=0.2, missing=rule)
    train = prepare(spec, tmp_path / "cache").train
    recipe = Recipe(data=spec, model=ModelSpec("m:f"))
    description = describe_run(recipe, train.fields, train.info, run=b"", parameters=b"")

    class Two(nn.Module):
        def forward(self, numeric: torch.Tensor, category: torch.Tensor) -> torch.Tensor:
            return numeric

    predictor = Predictor(description, Two())
    path = write_csv(tmp_path / "new.csv", [["a", "", *rows[0][2:]], rows[1], ["c", 3, "", *rows[0][3:]]])
    if rule == "error":
        with pytest.raises(podlt.UsageError, match=told):
            predictor.predict(path)
        return
    found = predictor.predict(path)
    assert [value is None for value in found.table.column("prediction").to_pylist()] == [True, False, True]
    assert told in found.notes[0]
    alone = predictor.predict(write_csv(tmp_path / "one.csv", [["a", "", *rows[0][2:]]]))
    assert alone.table.column("prediction").to_pylist() == [None]


def test_a_model_of_numbers_gives_numbers() -> None:
    module = nn.Linear(2, 1)
    x = np.array([[1, 2], [3, 4]], np.float32)
    found = Predictor(described("mse"), module).predict(x)
    with torch.no_grad():
        assert np.array_equal(found["prediction"], module(torch.from_numpy(x))[:, 0].numpy())
    assert "probability" not in found.table.column_names


@pytest.mark.parametrize(
    ("loss", "output", "columns"),
    [
        ("bce", [[0.0], [2.0]], {"prediction": ["no", "yes"], "probability": [0.5, 0.880797]}),
        ("nll", [[-0.1, -2.0], [-2.0, -0.1]], {"prediction": ["no", "yes"], "probability_no": [0.904837, 0.135335]}),
        ("m:own", [[1.0, 2.0], [3.0, 0.0]], {"prediction": ["yes", "no"], "output_no": [1.0, 3.0]}),
        ("huber", [[1.0, 2.0]], {"prediction_0": [1.0], "prediction_1": [2.0]}),
        ("token_cross_entropy", [[[0.0, 1.0], [1.0, 0.0]]], {"prediction": [["yes", "no"]]}),
    ],
)
def test_outputs_are_named_by_the_loss(loss: str, output: list[object], columns: dict[str, list[object]]) -> None:
    found = named_outputs(described(loss, ["no", "yes"]), torch.tensor(output))
    for name, expected in columns.items():
        values = found[name].to_pylist()
        assert values == (expected if isinstance(expected[0], (str, list)) else pytest.approx(expected, abs=1e-6))


def test_arrays_of_another_shape_or_with_other_values_are_refused() -> None:
    predictor = Predictor(described("mse"), nn.Linear(2, 1))
    with pytest.raises(podlt.UsageError, match=r"expected examples of shape \(2,\) as in training, got \(3,\)"):
        predictor.predict(np.zeros((4, 3), np.float32))
    with pytest.raises(podlt.UsageError, match="line 2: array 'x': expected a finite number"):
        predictor.predict(np.array([[0, 1], [np.nan, 1]]))
    with pytest.raises(podlt.UsageError, match="expected an array 'x', got y"):
        predictor.predict({"y": np.zeros((4, 2))})


def test_inputs_that_are_encoded_already_are_taken_as_arrays(of_people: Result, folder: Path) -> None:
    (examples,) = TableReader(read_description(of_people.run), [("test.csv", folder / "test.csv")]).examples()
    found, expected = of_people.predict(dict(examples.arrays)), of_people.predict(folder / "test.csv")
    assert np.array_equal(found["prediction"], expected["prediction"])


def test_a_table_with_columns_of_lists_asks_for_arrays(folder: Path) -> None:
    predictor = Predictor(described("mse", kind="table"), nn.Linear(2, 1))
    with pytest.raises(podlt.UsageError, match=r"lists and tokens are not read here \('x'\): give all"):
        predictor.predict(folder / "test.csv")


def test_a_text_is_continued_by_the_model() -> None:
    class Next(nn.Module):
        """Takes the next letter to follow each."""

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot(tokens % 3 + 1, 4).to(torch.float32)

    fields = (Field("tokens", "i64", (4,), "input"), Field("label", "i64", (4,), "label"))
    said = {"kind": "text", "classes": None, "vocabulary": "abc"}
    description = msgspec.structs.replace(described("token_cross_entropy"), fields=fields, data=said)
    predictor = Predictor(description, Next())
    assert continued(predictor, "ca", 5) == "cabcabc"
    assert continued(predictor, "ca", 5, temperature=1.0) == continued(predictor, "ca", 5, temperature=1.0)
    with pytest.raises(podlt.UsageError, match="the run's data are text: expected a prompt"):
        predictor.predict("some.csv")


def test_an_argument_that_is_a_path_of_this_machine_keeps_its_last_part() -> None:
    arguments = {"weights": "/home/me/mini", "sizes": ["~/a/b", "@sizes"], "n": "@sizes"}
    recipe = Recipe(data=podlt.DataSpec("x.csv"), model=ModelSpec("m:f", arguments))
    found = describe_run(recipe, (), {"sizes": [1, 2]}, run=b"\1", parameters=b"\2")
    assert found.model.args == {"weights": "mini", "sizes": ["b", "@sizes"], "n": [1, 2]}


def test_a_run_of_an_object_is_predicted_with_the_object(of_arrays: Result, folder: Path) -> None:
    found = podlt.predict(of_arrays.run, folder / "arrays.npz", model=tied(9))
    assert np.array_equal(found["prediction"], of_arrays.predict(folder / "arrays.npz")["prediction"])


def test_csv_and_json_lines_are_what_was_predicted(of_people: Result, folder: Path, tmp_path: Path) -> None:
    predictor = Predictor(read_description(of_people.run), of_people.model)
    expected = of_people.predict(folder / "test.csv")["probability_high"]
    for form in (".csv", ".jsonl", ".parquet"):
        batches = predictor.batches(predictor.open(folder / "test.csv"))
        assert write_predictions(tmp_path / f"out{form}", batches) == 80
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert np.array_equal(np.array([row["probability_high"] for row in rows], np.float32), expected)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert np.array_equal(np.array([line["probability_high"] for line in lines], np.float32), expected)
    assert np.array_equal(pq.read_table(tmp_path / "out.parquet")["probability_high"].to_numpy(), expected)
    with pytest.raises(podlt.UsageError, match=r"expected one of \.csv"):
        write_predictions(tmp_path / "out.xlsx", [])
