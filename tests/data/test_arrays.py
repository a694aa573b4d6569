"""Arrays (.npz and idx) as examples: issue 2, items 3 and 12."""

import gzip
import zipfile

import numpy as np
import pytest

from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec
from podlt.data.streams import idx_stream
from podlt.errors import DataError, UsageError

X = np.arange(60, dtype=np.float32).reshape(10, 2, 3)
Y = np.arange(10) % 3


@pytest.fixture
def ready(tmp_path):
    """Saves arrays as data.npz (and test arrays as test.npz) and prepares them."""

    def run(arrays, test=None, save=np.savez, **options):
        save(tmp_path / "data.npz", **arrays)
        if test is not None:
            save(tmp_path / "test.npz", **test)
            options["test"] = "test.npz"
        spec = DataSpec("data.npz", **({"inputs": ("x",), "label": "y"} | options))
        return prepare(spec, cache=tmp_path / "cache", base=tmp_path)

    return run


def everything(dataset):
    return dataset.read(np.arange(dataset.examples, dtype=np.int64))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_become_fields_of_the_same_values(ready, save):
    prepared = ready({"x": X, "y": Y}, save=save)
    examples = everything(prepared.train)
    assert (examples["x"] == X).all() and (examples["y"] == Y).all()
    assert [(f.name, f.dtype, f.shape, f.role) for f in prepared.train.fields] == [
        ("x", "f32", (2, 3), "input"),
        ("y", "i64", (), "label"),
    ]
    assert prepared.train.info["classes"] == ["0", "1", "2"]
    assert prepared.test is None


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        ("?", "u8"),
        ("u1", "u8"),
        ("<f2", "f32"),
        (">f4", "f32"),
        ("<f8", "f32"),
        ("i1", "i32"),
        (">i4", "i32"),
        ("u4", "i64"),
    ],
)
def test_every_dtype_has_one_exact_store(ready, stored, dtype):
    values = (np.arange(10) % 2).astype(stored)
    prepared = ready({"x": values, "y": Y})
    assert prepared.train.fields[0].dtype == dtype
    assert (everything(prepared.train)["x"] == values).all()


def test_bytes_stay_bytes_and_carry_their_scale(ready):
    prepared = ready({"x": np.full((10, 4), 255, np.uint8), "y": Y}, scale=1 / 255)
    assert prepared.train.fields[0].scale == 1 / 255
    assert everything(prepared.train)["x"].dtype == np.uint8


def test_a_label_that_is_a_number_stays_one(ready):
    prepared = ready({"x": X, "y": np.linspace(-1, 1, 10)}, target="number")
    assert prepared.train.fields[1].dtype == "f32"
    assert prepared.train.info["classes"] is None


def test_the_last_part_is_held_out_and_nothing_is_lost(ready):
    prepared = ready({"x": X, "y": Y}, test_fraction=0.25, split="last")
    assert (prepared.train.examples, prepared.test.examples) == (8, 2)
    both = np.concatenate([everything(prepared.train)["x"], everything(prepared.test)["x"]])
    assert (both == X).all()


def test_limits_take_the_first_lines(ready):
    prepared = ready({"x": X, "y": Y}, {"x": X + 1, "y": Y}, limit=4, test_limit=2)
    assert (everything(prepared.train)["x"] == X[:4]).all()
    assert (everything(prepared.test)["x"] == X[:2] + 1).all()


def test_many_chunks_give_the_same_root_as_one(ready, monkeypatch):
    whole = ready({"x": X, "y": Y}, test_fraction=0.3)
    monkeypatch.setattr("podlt.data.arrays._CHUNK_BYTES", 50)
    parts = ready({"x": X, "y": Y}, test_fraction=0.3, classes=3)  # another key, so that it is built again
    assert parts.train.root == whole.train.root and parts.test.root == whole.test.root


def changed(values, place, value):
    values = values.copy()
    values[place] = value
    return values


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"x": changed(X, (6, 1, 2), np.nan), "y": Y}, {}, "data.npz, line 7: array 'x': expected a finite number"),
        ({"x": changed(X, (0, 0, 0), -np.inf), "y": Y}, {}, "line 1: array 'x'.*got -inf"),
        ({"x": X.astype(np.float64) * 1e300, "y": Y}, {}, "line 1: array 'x'.*range of float32"),
        ({"x": X, "y": changed(Y, 4, 7)}, {"classes": 3}, r"line 5: array 'y': expected a class in 0\.\.2, got 7"),
        ({"x": X, "y": changed(Y, 9, -1)}, {}, "line 10: array 'y': expected a class.*got -1"),
        (
            {"x": X, "y": changed(Y, 3, 2**40)},
            {},
            r"line 4: array 'y': expected a class in 0\.\.262143, got 1099511627776",
        ),
        ({"x": X, "y": Y.astype(np.float32)}, {}, "array 'y': expected whole numbers as classes, got float32"),
        ({"x": X, "y": Y[:9]}, {}, "array 'y': expected 10 examples, got 9"),
        ({"x": X[:0], "y": Y[:0]}, {}, "expected at least 1 examples, got 0"),
        ({"x": X, "z": Y}, {}, "expected an array 'y', got x, z"),
        ({"x": np.array(["a"] * 10), "y": Y}, {}, "array 'x': expected numbers, got dtype"),
        ({"x": X.astype(np.complex64), "y": Y}, {}, "array 'x': expected numbers"),
        ({"x": Y.astype(np.uint64), "y": Y}, {}, "unsupported dtype uint64"),
        ({"x": X.copy(order="F"), "y": Y}, {}, "in C order"),
        ({"x": np.float32(1), "y": Y}, {}, r"expected \[examples, ...\]"),
        ({"x": np.zeros((10, 0), np.float32), "y": Y}, {}, "expected examples of 1 to .* got shape"),
    ],
)
def test_a_fault_is_named_with_its_example(ready, arrays, options, message):
    with pytest.raises(DataError, match=message):
        ready(arrays, **options)


def test_a_class_that_only_the_test_part_has_is_refused(ready):
    with pytest.raises(DataError, match=r"test.npz, line 2: array 'y': expected a class in 0\.\.2, got 3"):
        ready({"x": X, "y": Y}, {"x": X[:2], "y": np.array([0, 3])})


def test_a_test_part_of_another_shape_is_refused(ready):
    with pytest.raises(DataError, match=r"test\.npz: expected fields"):
        ready({"x": X, "y": Y}, {"x": X[:, :1], "y": Y})


@pytest.mark.parametrize("name", ["leaves", "../x", "a b"])
def test_an_array_whose_name_cannot_be_a_files_is_refused(ready, tmp_path, name):
    with pytest.raises(DataError, match="expected a name of letters"):
        ready({name: X, "y": Y}, inputs=(name,))
    with pytest.raises(DataError, match="used once"):
        ready({"x": X, "y": Y}, inputs=("x", "x"))
    assert not list(tmp_path.rglob("*.bin"))


def test_objects_are_never_unpickled(ready):
    with pytest.raises(DataError, match="expected numbers, got dtype object"):
        ready({"x": np.array([{}] * 10, dtype=object), "y": Y})


def test_a_truncated_archive_is_refused(tmp_path, ready):
    ready({"x": X, "y": Y})
    data = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "data.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="not a readable npz archive"):
        prepare(DataSpec("data.npz", inputs=("x",)), cache=tmp_path / "cache", base=tmp_path)


def test_an_array_shorter_than_its_header_promises_is_refused_before_it_is_read(tmp_path, ready):
    ready({"x": X, "y": Y})
    with zipfile.ZipFile(tmp_path / "data.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("y.npy", members["y.npy"])
        archive.writestr("x.npy", members["x.npy"].replace(b"(10, 2, 3)", b"(10, 2**9)"))
    spec = DataSpec("data.npz", inputs=("x",), label="y")
    with pytest.raises(DataError, match="array 'x'"):
        prepare(spec, cache=tmp_path / "cache", base=tmp_path)
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("y.npy", members["y.npy"])
        archive.writestr("x.npy", members["x.npy"].replace(b"(10, 2, 3), }", b"(9999999, 9)}"))
    with pytest.raises(DataError, match="array 'x' is truncated: expected 359999964 bytes, got 240"):
        prepare(spec, cache=tmp_path / "cache", base=tmp_path)


def test_flipped_bytes_in_an_archive_are_found_by_its_checksum(tmp_path, ready):
    large = np.arange(100_000, dtype=np.float32)
    ready({"x": large, "y": np.zeros(100_000, np.int64)})
    data = (tmp_path / "data.npz").read_bytes()
    place = data.index(large.tobytes()) + 200_000
    (tmp_path / "data.npz").write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    with pytest.raises(DataError, match="array 'x' is damaged: Bad CRC"):
        prepare(DataSpec("data.npz", inputs=("x",)), cache=tmp_path / "cache", base=tmp_path)


def test_arrays_without_inputs_are_a_usage_error(ready):
    with pytest.raises(UsageError, match="name the arrays"):
        ready({"x": X, "y": Y}, inputs=())


@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_is_read_plain_or_packed(tmp_path, packed):
    data = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(range(8))
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(gzip.compress(data) if packed else data)
    stream = idx_stream("set", "image", path, (4,))
    assert np.concatenate(list(stream.chunks(1, 2))).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\x00\x00\x0d\x01", "expected an idx file of bytes"),
        (b"", "expected an idx file of bytes"),
        (b"\x00\x00\x08\x03\x00\x00\x00\x02", "expected examples of"),
        (b"\x00\x00\x08\x02\x00\x00\x00\x02\x00\x00\x00\x05", "expected examples of"),
    ],
)
def test_an_idx_file_of_another_kind_is_refused(tmp_path, head, message):
    (tmp_path / "images").write_bytes(head)
    with pytest.raises(DataError, match=message):
        idx_stream("set", "image", tmp_path / "images", (4,))


def test_a_truncated_idx_file_names_the_example(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + bytes(10))
    with pytest.raises(DataError, match="set, line 3: array 'image' is truncated: expected 3 examples"):
        list(idx_stream("set", "image", path, (4,)).chunks(2, 3))


def test_arrays_of_floats_are_standardised_by_the_training_examples_if_asked(ready):
    rng = np.random.default_rng(0)
    x, y = rng.normal(5, [1, 100, 1e-6], size=(50, 3)), np.arange(50) % 2
    prepared = ready({"x": x, "y": y}, {"x": x[:5] + 1, "y": y[:5]}, standardise=True)
    examples = everything(prepared.train)["x"]
    assert np.allclose(examples, (x - x.mean(axis=0)) / x.std(axis=0), atol=1e-4)
    assert np.allclose(everything(prepared.test)["x"], (x[:5] + 1 - x.mean(axis=0)) / x.std(axis=0), rtol=1e-4)
    assert prepared.train.info["standardised"]["x"]["mean"] == pytest.approx(x.mean(axis=0).tolist())
    held = ready({"x": x, "y": y}, standardise=True, test_fraction=0.2, split="last").train
    assert held.info["standardised"]["x"]["mean"] == pytest.approx(x[:40].mean(axis=0).tolist())


def test_a_constant_place_of_an_array_is_zero(ready):
    prepared = ready({"x": np.full((10, 2), 123456.789), "y": Y}, standardise=True)
    assert not everything(prepared.train)["x"].any()


def test_standardising_arrays_needs_floats_and_no_scale(ready):
    with pytest.raises(UsageError, match="no input is an array of floats"):
        ready({"x": np.zeros((10, 2), np.uint8), "y": Y}, standardise=True)
    with pytest.raises(UsageError, match="only one of scale and standardise"):
        ready({"x": X, "y": Y}, standardise=True, scale=0.5)


def test_a_test_value_that_overflows_once_it_is_standardised_is_named(ready):
    train, test = {"x": np.array([[1e-30], [2e-30]]), "y": Y[:2]}, {"x": np.array([[1.0], [3e38]]), "y": Y[:2]}
    with pytest.raises(DataError, match=r"test\.npz, line 2: array 'x': .*range of float32 once it is standardised"):
        ready(train, test, standardise=True)


def test_all_faults_of_arrays_are_in_one_report(ready):
    x = changed(changed(X, (6, 1, 2), np.nan), (2, 0, 0), np.inf)
    with pytest.raises(DataError) as caught:
        ready({"x": x, "y": changed(Y, 4, -1)})
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()] == [
        "data.npz, line 3",
        "line 5",
        "line 7",
    ]


def test_each_class_of_arrays_is_held_out_in_its_proportion(ready):
    x, y = np.arange(100.0), np.repeat([0, 1], [80, 20])
    prepared = ready({"x": x, "y": y}, test_fraction=0.2)
    train, test = everything(prepared.train), everything(prepared.test)
    assert np.bincount(test["y"]).tolist() == [16, 4]
    assert sorted([*train["x"], *test["x"]]) == x.tolist()
