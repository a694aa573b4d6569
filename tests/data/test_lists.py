"""Columns of lists in JSONL and Parquet: tensors of one shape, and ragged ones refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from podlt.data import tables
from podlt.data.prepare import Prepared, prepare
from podlt.data.spec import DataSpec
from podlt.errors import DataError, UsageError

GRID = [[[1.5, 2.0], [3.0, 4.0], [5.0, 6.0]], [[0.5, 1.0], [2.0, 3.0], [4.0, 9.0]]]


def jsonl(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def prepared(path: Path, **options: Any) -> Prepared:
    return prepare(DataSpec(str(path), label="y", **options), path.parent / "cache")


def rows(path: Path, **options: Any) -> dict[str, Any]:
    train = prepared(path, **options).train
    return train.read(np.arange(train.examples))


@pytest.fixture(params=["jsonl", "parquet"])
def nested(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with a grid of floats, a list of whole numbers and a number for each of two examples."""
    lines = [{"grid": GRID[i], "ids": [7, i], "n": i, "y": i} for i in range(2)]
    if request.param == "jsonl":
        return jsonl(tmp_path / "examples.jsonl", lines)
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "examples.parquet")
    return tmp_path / "examples.parquet"


def test_nested_lists_are_tensors_and_whole_numbers_stay_whole(nested: Path) -> None:
    train = prepared(nested, standardise=False).train
    found = train.read(np.arange(2))
    assert [(f.name, f.dtype, f.shape) for f in train.fields] == [
        ("numeric", "f32", (1,)),
        ("grid", "f32", (3, 2)),
        ("ids", "i64", (2,)),
        ("label", "i64", ()),
    ]
    assert found["grid"].tolist() == GRID and found["ids"].tolist() == [[7, 0], [7, 1]]


def test_lists_of_floats_are_standardised_place_by_place_and_the_moments_are_kept(nested: Path) -> None:
    train = prepared(nested).train
    assert np.allclose(train.read(np.arange(2))["grid"][:, 0, 0], [1, -1])
    grid, ids = train.info["lists"]
    assert grid["mean"][0] == 1.0 and grid["std"][0] == 0.5 and "mean" not in ids


def test_ragged_lists_and_other_values_are_refused_with_every_example(tmp_path: Path) -> None:
    bad = [[1.0, 2.0], [1.0], [1.0, "a"], [], 3, [1.0, None]]
    path = jsonl(tmp_path / "d.jsonl", [{"x": x, "y": i % 2} for i, x in enumerate(bad)])
    with pytest.raises(DataError) as caught:
        rows(path)
    said = str(caught.value)
    assert "line 2: column 'x': expected a list of shape [2], got [1]" in said and "5 faults" in said
    assert all(f"line {line}: column 'x'" in said for line in (3, 4, 5, 6))


def test_ragged_lists_in_parquet_are_refused_with_the_row(tmp_path: Path) -> None:
    table = pa.table({"x": [[1.0, 2.0], [3.0, 4.0], [5.0]], "y": [0, 1, 0]})
    pq.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"line 3: column 'x': expected a list of shape \[2\], got \[1\]"):
        rows(tmp_path / "d.parquet")


def test_a_missing_list_is_refused_or_its_example_dropped(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"x": [1.0], "y": 0}, {"x": None, "y": 1}, {"x": [2.0], "y": 1}])
    with pytest.raises(DataError, match="line 2: column 'x': expected a list, got null"):
        rows(path)
    assert rows(path, missing="drop", standardise=False)["x"].tolist() == [[1.0], [2.0]]


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [[1.0], [float("nan")]], "y": [0, 1]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="line 2: column 'x': expected finite numbers"):
        rows(tmp_path / "d.parquet")


def test_whole_numbers_of_the_training_examples_bind_the_test_examples(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "d.jsonl", [{"x": [1, 2], "y": 0}, {"x": [3, 4], "y": 1}])
    test = jsonl(tmp_path / "t.jsonl", [{"x": [1.5, 2], "y": 0}])
    with pytest.raises(DataError, match="expected whole numbers, as in the training examples"):
        rows(train, test=str(test))


def test_a_list_is_no_label(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"x": 1.0, "y": [1]}, {"x": 2.0, "y": [2]}])
    with pytest.raises(UsageError, match="column 'y': expected texts or numbers, got lists"):
        rows(path)


def test_chunks_of_any_size_give_the_same_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"x": [i / 7, i * 3.0], "y": i % 2} for i in range(40)])
    whole = prepared(path).train.root
    monkeypatch.setattr(tables, "LIST_EXAMPLES", 3)
    assert prepare(DataSpec(str(path), label="y"), tmp_path / "other").train.root == whole
