"""Data that a Python program holds: issue 11, point 1."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import TensorDataset

from podlt.data.objects import as_source
from podlt.data.prepare import prepare
from podlt.errors import DataError, UsageError

X, Y = np.arange(30, dtype=np.float32).reshape(10, 3), np.arange(10) % 2


@pytest.fixture
def ready(tmp_path):
    def run(data, **options):
        return prepare(as_source(data, tmp_path / "objects", **options), cache=tmp_path / "cache").train

    return run


class Items:
    """A map-style data set of what a function makes of a number."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return self.make(index)


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        (torch.tensor(X, requires_grad=True), torch.tensor(Y)),
        {"x": X, "y": Y},
        TensorDataset(torch.tensor(X), torch.tensor(Y)),
        Items(lambda index: (X[index], Y[index])),
        Items(lambda index: {"x": X[index], "y": int(Y[index])}),
        Items(lambda index: [torch.tensor(X[index]), Y[index]]),
    ],
    ids=range(7),
)
def test_arrays_tensors_and_data_sets_of_the_same_examples_have_the_same_root(ready, data):
    train = ready(data)
    examples = train.read(np.arange(10))
    assert (examples["x"] == X).all() and (examples["y"] == Y).all()
    assert [(field.name, field.role) for field in train.fields] == [("x", "input"), ("y", "label")]


def test_several_inputs_are_numbered_and_items_may_be_of_any_shape(ready):
    train = ready(Items(lambda index: (np.full((2, 2), index, np.uint8), X[index], Y[index])))
    assert [(field.name, field.dtype, field.shape) for field in train.fields] == [
        ("x0", "u8", (2, 2)),
        ("x1", "f32", (3,)),
        ("y", "i64", ()),
    ]


def test_a_frame_is_a_table(ready):
    frame = pd.DataFrame({"age": [1.0, 2.0, None], "town": ["a", None, "b"], "y": [True, False, True]}, index=[5, 6, 7])
    train = ready(frame, label="y", categorical=("town",), missing="mean", standardise=False)
    examples = train.read(np.arange(3))
    assert examples["numeric"][:, 0].tolist() == [1, 2, 1.5] and examples["label"].tolist() == [1, 0, 1]
    assert train.info["categorical"][0]["values"] == ["", "a", "b"]


def test_the_same_object_is_the_same_file(tmp_path):
    first, again = (as_source((X, Y), tmp_path, label="y") for _ in range(2))
    assert first == again and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (7, UsageError, "expected a path, a frame, arrays, or a data set .*got int"),
        ({"x": np.array(["a"])}, UsageError, "'x': expected numbers, got <U1"),
        ((X, 3), UsageError, "'y': expected an array of examples"),
        (Items(lambda i: X[: i + 1]), DataError, r"Items, line 2: expected x float32 \(1, 3\) in every item"),
        (TensorDataset(torch.zeros(0, 3)), DataError, "expected at least one item, got none"),
    ],
    ids=range(5),
)
def test_what_is_no_data_is_refused_by_name(tmp_path, data, kind, message):
    with pytest.raises(kind, match=message):
        as_source(data, tmp_path)
