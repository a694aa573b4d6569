"""Leaves, roots and reading: issue 2, item 3 (one Merkle root over all examples)."""

import hashlib

import numpy as np
import pytest
from examples_drawn import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from podlt.crypto import blob_digest, digest
from podlt.data.dataset import DTYPES, Dataset, leaf_hashes, shard_digest_of
from podlt.data.field import Field
from podlt.data.writer import DatasetWriter
from podlt.errors import DataError, StorageError, UsageError
from podlt.log.merkle import inclusion_proof, is_included, root_of

FIELDS = (Field("image", "u8", (2, 3), "input", 0.5), Field("label", "i64", (), "label"))


def arrays_of(examples, seed=0):
    rng = np.random.default_rng(seed)
    return {"image": rng.integers(0, 256, (examples, 2, 3), np.uint8), "label": rng.integers(0, 10, examples, np.int64)}


@pytest.fixture
def dataset(tmp_path):
    writer = DatasetWriter(tmp_path / "train", FIELDS)
    arrays = arrays_of(10)
    writer.write({name: values[:7] for name, values in arrays.items()})
    writer.write({name: values[7:] for name, values in arrays.items()})
    return writer.finish({"classes": ["a"]})


@st.composite
def examples_of_any_fields(draw):
    count = draw(st.integers(0, 5))
    fields, arrays = [], {}
    for place in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(sorted(DTYPES)))
        shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
        fields.append(Field(f"f{place}", dtype, shape, "input"))
        arrays[f"f{place}"] = draw(hnp.arrays(DTYPES[dtype], (count, *shape)))
    return fields, arrays


@given(examples_of_any_fields())
@examples(150)
def test_the_leaf_of_an_example_is_the_hash_of_a_zero_byte_and_its_fields_in_order(examples):
    fields, arrays = examples
    count = len(arrays["f0"])
    expected = [
        hashlib.sha256(b"\x00" + b"".join(arrays[field.name][row].tobytes() for field in fields)).digest()
        for row in range(count)
    ]
    assert [leaf.tobytes() for leaf in leaf_hashes(fields, arrays)] == expected


def test_the_root_is_that_of_rfc_6962_over_all_leaves(dataset):
    leaves = [leaf.tobytes() for leaf in leaf_hashes(FIELDS, arrays_of(10))]
    assert dataset.root == root_of(leaves)
    assert is_included(leaves[4], 4, 10, inclusion_proof(leaves, 4), dataset.root)


def test_what_was_written_is_read_back_in_any_order_and_as_often_as_asked(dataset):
    ids, arrays = np.array([9, 0, 0, 4], np.int64), arrays_of(10)
    read = dataset.read(ids)
    for name, values in arrays.items():
        assert (read[name] == values[ids]).all()
        assert read[name].dtype == values.dtype
        assert read[name].flags.c_contiguous and read[name].flags.writeable
    assert dataset.examples == 10 and dataset.fields == FIELDS and dataset.info == {"classes": ["a"]}


def test_a_worker_derives_the_shard_digest_from_what_it_received(dataset):
    ids = np.array([3, 1, 8], np.int64)
    examples = dataset.read(ids)
    mine = shard_digest_of(dataset.fields, examples)
    assert mine == dataset.shard_digest(ids)
    columns = [blob_digest(examples[field.name].tobytes()) for field in dataset.fields]
    assert mine == digest("shard/2", (3).to_bytes(8, "big"), *columns)
    assert mine != dataset.shard_digest(ids[::-1].copy())


def test_a_changed_value_or_label_changes_the_shard_digest(dataset):
    ids = np.arange(5, dtype=np.int64)
    for name in ("image", "label"):
        received = dataset.read(ids)
        received[name].reshape(5, -1)[3, 0] += 1
        assert shard_digest_of(dataset.fields, received) != dataset.shard_digest(ids)


def test_examples_are_read_into_given_memory(dataset):
    ids = np.array([7, 7, 2], np.int64)
    out = {name: np.zeros_like(values) for name, values in dataset.read(ids).items()}
    dataset.read_into(ids, out)
    assert all((out[name] == values).all() for name, values in dataset.read(ids).items())
    with pytest.raises(UsageError, match="example numbers: expected"):
        dataset.read_into(np.array([10]), out)


def test_no_examples_are_no_leaves(dataset):
    nothing = np.empty(0, np.int64)
    assert dataset.read(nothing)["image"].shape == (0, 2, 3)
    assert dataset.leaves(nothing).shape == (0, 32)


@pytest.mark.parametrize("ids", [np.array([10]), np.array([-1]), np.array([0], np.int32), np.zeros((1, 1), np.int64)])
def test_numbers_that_name_no_example_are_refused(dataset, ids):
    with pytest.raises(UsageError, match="example numbers: expected"):
        dataset.read(ids)
    with pytest.raises(UsageError, match="example numbers: expected"):
        dataset.leaves(ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, "expected field 'label'"),
        ({"label": np.zeros(2, np.int32)}, "expected i64"),
        ({"image": np.zeros((2, 3, 2), np.uint8)}, "expected u8"),
        ({"image": np.zeros((3, 2, 3), np.uint8)}, "expected 3 examples in every field"),
        ({"label": np.zeros((), np.int64)}, "expected i64"),
    ],
)
def test_arrays_that_are_not_examples_of_these_fields_are_refused(change, message):
    arrays = {name: values for name, values in (arrays_of(2) | change).items() if values is not None}
    with pytest.raises(DataError, match=message):
        leaf_hashes(FIELDS, arrays)


@pytest.mark.parametrize("name", ["image.bin", "label.bin", "leaves.bin", "meta.json"])
def test_any_flipped_bit_is_found(dataset, name):
    path = dataset.folder / name
    data = bytearray(path.read_bytes())
    place = data.index(b'"root":"') + 8 if name == "meta.json" else len(data) // 2
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError):
        Dataset(dataset.folder).check()


@pytest.mark.parametrize("name", ["image.bin", "leaves.bin", "meta.json"])
@pytest.mark.parametrize("harm", ["shorter", "longer", "gone"])
def test_a_file_of_another_size_is_refused_before_it_is_mapped(dataset, name, harm):
    path = dataset.folder / name
    data = path.read_bytes()
    path.unlink()
    if harm != "gone":
        path.write_bytes(data[:-1] if harm == "shorter" else data + b"\x00")
    with pytest.raises(StorageError, match=name):
        Dataset(dataset.folder)


def test_a_part_that_was_not_finished_does_not_open(tmp_path):
    writer = DatasetWriter(tmp_path / "train", FIELDS)
    writer.write(arrays_of(3))
    writer.close()
    with pytest.raises(StorageError, match=r"meta\.json"):
        Dataset(tmp_path / "train")


def test_a_part_without_examples_cannot_be_finished(tmp_path):
    with pytest.raises(DataError, match="at least one example"):
        DatasetWriter(tmp_path / "train", FIELDS).finish({})
