"""Frames of polars and data sets of Hugging Face, as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podlt.data.objects import as_source
from podlt.data.prepare import Prepared, prepare

COLUMNS: dict[str, list[Any]] = {"a": [1.0, 2.0, 3.5, 4.0] * 5, "c": ["x", "y", "x", "z"] * 5, "y": [0, 1, 0, 1] * 5}


def prepared(tmp_path: Path, data: Any, **options: Any) -> Prepared:
    return prepare(as_source(data, tmp_path / "objects", **options), tmp_path / "cache")


@pytest.mark.parametrize("form", ["eager", "lazy", "categories"])
def test_a_frame_of_polars_gives_what_one_of_pandas_gives(tmp_path: Path, form: str) -> None:
    pl, pd = pytest.importorskip("polars"), pytest.importorskip("pandas")
    frame = pl.DataFrame(COLUMNS)
    if form == "categories":
        frame = frame.with_columns(pl.col("c").cast(pl.Categorical))
    found = prepared(tmp_path, frame.lazy() if form == "lazy" else frame, label="y", categorical=("c",))
    other = prepared(tmp_path, pd.DataFrame(COLUMNS), label="y", categorical=("c",))
    assert found.train.root == other.train.root


def test_lists_in_a_frame_of_polars_are_tensors(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars")
    found = prepared(tmp_path, pl.DataFrame({"e": [[1.0, 2.0], [3.0, 4.0]], "y": [0, 1]}), label="y")
    assert found.train.fields[0].shape == (2,)


def test_classes_and_the_label_are_what_the_features_say(tmp_path: Path) -> None:
    ds = pytest.importorskip("datasets")
    features = {
        "a": ds.Value("float32"),
        "k": ds.ClassLabel(names=["u", "v"]),
        "label": ds.ClassLabel(names=["z", "a"]),
    }
    data = ds.Dataset.from_dict({"a": [1.0, 2.0], "k": [0, 1], "label": [1, 0]}, features=ds.Features(features))
    train = prepared(tmp_path, data).train
    assert train.info["classes"] == ["z", "a"]
    assert train.info["categorical"] == [{"column": "k", "values": ["u", "v"]}]
    assert train.read(np.arange(2))["label"].tolist() == [1, 0]


def test_selected_and_shuffled_examples_are_those_that_are_taken(tmp_path: Path) -> None:
    ds = pytest.importorskip("datasets")
    data = ds.Dataset.from_dict({"a": [float(i) for i in range(10)], "y": [0, 1] * 5})
    chosen = data.shuffle(seed=1).select(range(4))
    train = prepared(tmp_path, chosen, label="y", standardise=False).train
    assert train.read(np.arange(4))["numeric"][:, 0].tolist() == list(chosen["a"])


def test_sequences_are_tensors_and_transforms_are_applied(tmp_path: Path) -> None:
    ds = pytest.importorskip("datasets")
    data = ds.Dataset.from_dict({"input_ids": [[1, 2, 3], [4, 5, 6]], "labels": [0, 1]})
    assert prepared(tmp_path, data).train.read(np.arange(2))["input_ids"].tolist() == [[1, 2, 3], [4, 5, 6]]
    plain = ds.Dataset.from_dict({"a": [1.0, 2.0], "y": [0, 1]})
    plain.set_transform(lambda batch: {"a": [np.float32(a * 10) for a in batch["a"]], "y": batch["y"]})
    assert prepared(tmp_path, plain).train.read(np.arange(2))["a"].tolist() == [10.0, 20.0]


def test_the_parts_of_a_dataset_dict_are_trained_and_tested_on(tmp_path: Path) -> None:
    ds = pytest.importorskip("datasets")
    data = ds.Dataset.from_dict(COLUMNS)
    found = prepared(
        tmp_path, ds.DatasetDict(train=data, validation=data.select(range(6))), label="y", categorical=("c",)
    )
    assert found.test is not None and (found.train.examples, found.test.examples) == (20, 6)
    three = ds.DatasetDict(train=data, validation=data.select(range(6)), test=data.select(range(4)))
    with pytest.warns(UserWarning, match="'test' is used to test on; validation is left out"):
        assert as_source(three, tmp_path / "objects", label="y", categorical=("c",)).test is not None


def test_images_are_pixels_with_their_classes_names(tmp_path: Path) -> None:
    ds, image = pytest.importorskip("datasets"), pytest.importorskip("PIL.Image")
    pixels = [np.full((4, 6, 3), i, np.uint8) for i in range(2)]
    features = ds.Features({"image": ds.Image(), "label": ds.ClassLabel(names=["no", "yes"])})
    data = ds.Dataset.from_dict({"image": [image.fromarray(p) for p in pixels], "label": [0, 1]}, features=features)
    train = prepared(tmp_path, data).train
    assert (train.fields[0].shape, train.fields[0].scale) == ((3, 4, 6), 1 / 255)
    assert train.info["classes"] == ["no", "yes"]
    assert (train.read(np.arange(2))["image"][1] == pixels[1].transpose(2, 0, 1)).all()


def test_a_data_loader_is_taken_for_its_dataset_with_a_word(tmp_path: Path) -> None:
    from torch.utils.data import DataLoader

    items = [(np.arange(3, dtype=np.float32) + i, i % 2) for i in range(4)]
    with pytest.warns(UserWarning, match="only its dataset is used"):
        found = as_source(DataLoader(items, batch_size=2), tmp_path / "objects")  # type: ignore[arg-type]
    assert found == as_source(items, tmp_path / "objects")
