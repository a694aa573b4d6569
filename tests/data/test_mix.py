"""Large parts are laid out in a drawn order: issue 11, point 4."""

import numpy as np
import pytest

from podlt.data import mix
from podlt.data.field import Field
from podlt.data.mix import MixingWriter, training_writer
from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec
from podlt.data.writer import DatasetWriter

FIELDS = [Field("x", "f32", (2, 3), "input"), Field("y", "i64", (), "label")]


def written(folder, examples=1000, chunk=1000, seed=b"s"):
    writer = MixingWriter(folder, FIELDS, examples, seed)
    x = np.arange(examples * 6, dtype=np.float32).reshape(examples, 2, 3)
    for at in range(0, examples, chunk):
        writer.write({"x": x[at : at + chunk], "y": np.arange(examples)[at : at + chunk]})
    return writer.finish({})


def test_every_example_is_stored_once_and_whole(tmp_path):
    dataset = written(tmp_path / "train")
    examples = dataset.read(np.arange(1000))
    assert sorted(examples["y"].tolist()) == list(range(1000)) != examples["y"].tolist()
    assert (examples["x"][:, 0, 0] == examples["y"] * 6).all()
    dataset.check()
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


@pytest.mark.parametrize("bucket", [100, 5000, 2**25])
def test_the_order_depends_on_the_seed_and_not_on_chunks_and_buckets(tmp_path, monkeypatch, bucket):
    whole = written(tmp_path / "whole").root
    monkeypatch.setattr(mix, "BUCKET_BYTES", bucket)
    assert written(tmp_path / "train", chunk=17).root == whole
    assert written(tmp_path / "other", seed=b"t").root != whole


def test_a_writer_that_is_given_up_leaves_no_bucket(tmp_path):
    writer = MixingWriter(tmp_path / "train", FIELDS, 10, b"")
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_a_part_of_one_window_keeps_the_order_of_its_source(tmp_path):
    assert isinstance(training_writer(tmp_path / "a", FIELDS, mix.WINDOW_EXAMPLES, b""), DatasetWriter)
    assert isinstance(training_writer(tmp_path / "b", FIELDS, mix.WINDOW_EXAMPLES + 1, b""), MixingWriter)


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".txt"])
def test_every_kind_of_source_is_mixed_once_it_is_large(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(mix, "WINDOW_EXAMPLES", 100)
    path = tmp_path / f"data{suffix}"
    if suffix == ".npz":
        np.savez(path, x=np.arange(300.0), y=np.arange(300) // 100)
        spec = DataSpec(path.name, inputs=("x",), label="y")
    elif suffix == ".csv":
        path.write_text("x,y\n" + "".join(f"{place},{place // 100}\n" for place in range(300)))
        spec = DataSpec(path.name, label="y", standardise=False)
    else:
        path.write_text("".join(chr(1000 + place) * 2 for place in range(300)))
        spec = DataSpec(path.name, context=1)
    train = prepare(spec, cache=tmp_path / "cache", base=tmp_path).train
    first = train.read(np.arange(300))[train.fields[0].name].reshape(-1)
    assert len(set(first.tolist())) == 300 and (np.diff(first) != 1).any()
