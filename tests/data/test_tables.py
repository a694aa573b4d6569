"""CSV, JSONL and Parquet as examples: issue 2, items 3 and 12."""

import csv
import gc
import json
import math
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec
from podlt.errors import DataError, UsageError

ROWS = [
    ("34", "red", "1.5", "yes"),
    ("-2", "blue", "0", "no"),
    ("7", "red", "1e3", "no"),
    ("9", "green", "-4.25", "yes"),
]
NAMES = ("age", "colour", "size", "bought")
OPTIONS = {"label": "bought", "categorical": ("colour",)}


def csv_of(rows, names=NAMES):
    return "".join(",".join(row) + "\n" for row in ([names] if names else []) + list(rows))


@pytest.fixture
def ready(tmp_path):
    """Writes data (and test) files of a kind, and prepares them."""

    def run(data, test=None, suffix=".csv", **options):
        for name, content in (("data", data), ("test", test)):
            if content is not None:
                raw = content if isinstance(content, bytes) else content.encode()
                (tmp_path / f"{name}{suffix}").write_bytes(raw)
        if test is not None:
            options["test"] = f"test{suffix}"
        return prepare(DataSpec(f"data{suffix}", **(OPTIONS | options)), cache=tmp_path / "cache", base=tmp_path)

    return run


def everything(dataset):
    return dataset.read(np.arange(dataset.examples, dtype=np.int64))


def test_numbers_are_standardised_and_texts_get_codes(ready):
    prepared = ready(csv_of(ROWS))
    examples, info = everything(prepared.train), prepared.train.info
    ages = np.array([34, -2, 7, 9.0])
    assert np.allclose(examples["numeric"][:, 0], (ages - ages.mean()) / ages.std(), atol=1e-6)
    assert info["numeric"][0] == {"column": "age", "mean": 12.0, "std": math.sqrt(178.5)}
    assert info["categorical"] == [{"column": "colour", "values": ["blue", "green", "red"]}]
    assert info["cardinalities"] == [4]
    assert examples["category"][:, 0].tolist() == [3, 1, 3, 2]
    assert info["classes"] == ["no", "yes"]
    assert examples["label"].tolist() == [1, 0, 0, 1]
    assert [(f.name, f.dtype, f.shape) for f in prepared.train.fields] == [
        ("numeric", "f32", (2,)),
        ("category", "i64", (1,)),
        ("label", "i64", ()),
    ]


def test_csv_jsonl_and_parquet_of_the_same_table_have_the_same_root(tmp_path, ready):
    numbers = [float(row[0]) for row in ROWS], [float(row[2]) for row in ROWS]
    columns = {"age": numbers[0], "colour": [r[1] for r in ROWS], "size": numbers[1], "bought": [r[3] for r in ROWS]}
    records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    roots = {
        ready(csv_of(ROWS)).train.root,
        ready("\n".join(json.dumps(record) for record in records), suffix=".jsonl").train.root,
        ready((tmp_path / "p.parquet").read_bytes(), suffix=".parquet").train.root,
    }
    assert len(roots) == 1


@given(
    st.lists(
        st.tuples(
            st.floats(-1e30, 1e30, allow_nan=False), st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
        ),
        min_size=2,
        max_size=20,
    )
)
@settings(max_examples=15, deadline=None)
def test_whatever_csv_quoting_protects_comes_through(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("csv")
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([(repr(number), text, place % 2) for place, (number, text) in enumerate(rows)])
    spec = DataSpec("data.csv", header=False, label=2, categorical=(1,), standardise=False, missing="category")
    train = prepare(spec, cache=folder / "cache", base=folder).train
    examples = everything(train)
    assert (examples["numeric"][:, 0] == np.array([number for number, _ in rows], np.float32)).all()
    values = [None, *train.info["categorical"][0]["values"]]
    assert [values[code] for code in examples["category"][:, 0]] == [trimmed(text) for _, text in rows]


def trimmed(text):
    return pa.compute.utf8_trim_whitespace(pa.scalar(text)).as_py()


FAULTS = [
    (csv_of([*ROWS, ("1", "red", "2")]), {}, "line 6: expected 4 columns, got 3"),
    (csv_of([*ROWS, ("1", "red", "2", "no", "5")]), {}, "line 6: expected 4 columns, got 5"),
    (csv_of([("x", "red", "2", "no"), *ROWS]), {}, "line 2: column 'age': expected a number, got 'x'"),
    (csv_of([*ROWS, ("", "red", "2", "no")]), {}, "line 6: column 'age': expected a number, got ''"),
    (csv_of([*ROWS, ("1_0", "red", "2", "no")]), {}, "line 6: column 'age': expected a number"),
    (csv_of([*ROWS, ("1", "red", "nan", "no")]), {}, "line 6: column 'size': expected a finite number.*'nan'"),
    (csv_of([*ROWS, ("-inf", "red", "1", "no")]), {}, "line 6: column 'age': expected a finite number"),
    (csv_of([*ROWS, ("1e39", "red", "1", "no")]), {}, "line 6: column 'age': expected a finite.*range of float32"),
    (csv_of([*ROWS, ("1", "red", "1", " ")]), {}, "line 6: column 'bought': expected a label, got nothing"),
    (csv_of([*ROWS, ("1", "red", "1", "maybe")]), {"classes": ("no", "yes")}, "line 6: .*one of no, yes, got 'maybe'"),
    (csv_of(ROWS), {"classes": 2}, "line 2: column 'bought': expected one of 0, 1, got 'yes'"),
    (csv_of(ROWS), {"positive": "ja"}, "positive label 'ja', got none"),
    (csv_of([ROWS[0]]), {}, "at least two classes, got only 'yes'"),
    (csv_of(ROWS), {"target": "number"}, "line 2: column 'bought': expected a number, got 'yes'"),
    (csv_of([]), {}, "expected at least one example, got none"),
    ("\n\n", {}, "expected at least one example, got none"),
    ("", {}, "got an empty file"),
    (csv_of(ROWS, ("age", "colour", "age", "bought")), {}, "line 1: .*'age' twice"),
    (csv_of(ROWS), {"label": "sold"}, "expected a column 'sold', got age, colour, size, bought"),
    (csv_of(ROWS), {"label": "bougt"}, "expected a column 'bougt', got .*; was 'bought' meant"),
    (csv_of(ROWS), {"drop": (4,)}, "expected a column 4"),
    (csv_of(ROWS) + '1,"red', {}, "line 6: malformed"),
    (csv_of(ROWS).encode() + b"1,\xff,2,no\n", {}, "line 6: expected UTF-8, got byte 0xff"),
]


@pytest.mark.parametrize(("data", "options", "message"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_named_with_the_line_that_an_editor_shows(ready, data, options, message):
    with pytest.raises(DataError, match=message) as caught:
        ready(data, **options)
    assert caught.value.source == "data.csv" and caught.value.exit_code == 2


def test_line_numbers_count_blank_lines_and_quoted_line_ends(ready):
    data = 'age,colour,size,bought\n\n1,"dark\n\nred",2,yes\n3,blue,x,no\n'
    with pytest.raises(DataError, match="line 6: column 'size'"):
        ready(data)


def test_the_last_example_may_lack_its_end_and_the_first_may_carry_a_mark(ready):
    plain = ready(csv_of(ROWS)).train.root
    assert ready(csv_of(ROWS).rstrip("\n")).train.root == plain
    assert ready(b"\xef\xbb\xbf" + csv_of(ROWS).replace("\n", "\r\n").encode()).train.root == plain


def test_spaces_around_values_and_a_plus_sign_mean_nothing(ready):
    spaced = [tuple(f"  {value} " for value in row) for row in ROWS]
    spaced[0] = (" +34", *spaced[0][1:])
    assert ready(csv_of(spaced)).train.root == ready(csv_of(ROWS)).train.root


def test_a_file_without_a_header_names_its_columns_by_number(ready):
    prepared = ready(csv_of(ROWS, None).replace(",", ";"), header=False, delimiter=";", label=3, categorical=(1,))
    assert prepared.train.root == ready(csv_of(ROWS)).train.root
    with pytest.raises(DataError, match="line 1: column 0: expected a number"):
        ready(csv_of([("x", "red", "2", "no"), *ROWS], None), header=False, label=3, categorical=(1,))


def test_only_named_columns_are_used(ready):
    prepared = ready(csv_of([("any", *row[1:]) for row in ROWS]), numeric=("size",), categorical=())
    assert [field.name for field in prepared.train.fields] == ["numeric", "label"]
    prepared = ready(csv_of(ROWS), drop=("size", "age"))
    assert [field.name for field in prepared.train.fields] == ["category", "label"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": None}, "name the column to predict"),
        ({"numeric": ("age", "colour")}, "'colour': expected as one of"),
        ({"numeric": (), "categorical": ()}, "no input columns"),
        ({"classes": ("no", "yes"), "positive": "yes"}, "only one of classes and positive"),
        ({"target": "number", "positive": "yes"}, "only one of positive and target"),
        ({"test_fraction": 0.1}, "test_fraction 0.1 of 4 examples is no example"),
    ],
)
def test_a_choice_of_columns_that_makes_no_sense_is_a_usage_error(ready, options, message):
    with pytest.raises(UsageError, match=message):
        ready(csv_of(ROWS), **options)


def test_the_test_file_is_encoded_by_the_training_examples_and_new_categories_are_code_0(ready):
    prepared = ready(csv_of(ROWS), csv_of([("34", "violet", "1.5", "no"), ("9", "red", "-4.25", "yes")]))
    train, test = everything(prepared.train), everything(prepared.test)
    assert test["category"][:, 0].tolist() == [0, 3]
    assert test["label"].tolist() == [0, 1]
    assert (test["numeric"][0] == train["numeric"][0]).all() and (test["numeric"][1] == train["numeric"][3]).all()
    assert prepared.test.info == prepared.train.info


def test_a_class_that_the_training_examples_lack_is_refused_in_the_test_file(ready):
    with pytest.raises(DataError, match=r"test.csv, line 3: column 'bought': expected one of no, yes, got 'maybe'"):
        ready(csv_of(ROWS), csv_of([ROWS[0], ("1", "red", "1", "maybe")]))


def test_what_is_held_out_has_no_say_in_the_encoding(ready):
    prepared = ready(csv_of([*ROWS, ("1000", "violet", "1", "no")]), test_fraction=0.2, split="last")
    assert (prepared.train.examples, prepared.test.examples) == (4, 1)
    assert prepared.train.info["numeric"][0]["mean"] == 12.0
    assert everything(prepared.test)["category"][0, 0] == 0
    assert prepared.train.root == ready(csv_of(ROWS)).train.root


def test_positive_makes_two_classes_of_many_labels(ready):
    rows = [(*row[:3], label) for row, label in zip(ROWS, "abca", strict=True)]
    prepared = ready(csv_of(rows), csv_of([(*ROWS[0][:3], "z")]), positive="a")
    assert everything(prepared.train)["label"].tolist() == [1, 0, 0, 1]
    assert everything(prepared.test)["label"].tolist() == [0]
    assert prepared.train.info["classes"] == ["not a", "a"]


def test_whole_number_labels_are_ordered_as_numbers(ready):
    rows = [(*row[:3], label) for row, label in zip(ROWS, ("10", "9", "-1", "9"), strict=True)]
    prepared = ready(csv_of(rows))
    assert prepared.train.info["classes"] == ["-1", "9", "10"]
    assert everything(prepared.train)["label"].tolist() == [2, 1, 0, 1]


def test_a_number_as_target_is_kept_as_it_is(ready):
    rows = [(*row[:3], label) for row, label in zip(ROWS, ("0.5", "1", "-2", "3"), strict=True)]
    prepared = ready(csv_of(rows), target="number")
    assert everything(prepared.train)["label"].tolist() == [0.5, 1, -2, 3]
    assert everything(prepared.train)["label"].dtype == np.float32
    assert prepared.train.info["classes"] is None


def test_a_limit_stops_reading_before_a_later_fault(ready):
    assert ready(csv_of([*ROWS, ("x", "red", "2", "no")]), limit=4).train.root == ready(csv_of(ROWS)).train.root


def test_a_category_with_too_many_values_is_refused_at_the_example_that_is_one_too_many(ready, monkeypatch):
    monkeypatch.setattr("podlt.data.spool.MAX_CLASSES", 2)
    with pytest.raises(DataError, match="line 5: column 'colour': expected at most 2 different values, got 'green'"):
        ready(csv_of(ROWS))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"age": 1, "colour": "red", "bought": "no"}', "line 3: expected a value for 'size', got none"),
        ('{"age": null, "colour": "red", "size": 1, "bought": "no"}', "line 3: column 'age': .*got null"),
        ('{"age": [1], "colour": "red", "size": 1, "bought": "no"}', "line 3: column 'age': .*got list"),
        ('{"age": NaN, "colour": "red", "size": 1, "bought": "no"}', "line 3: expected a JSON object"),
        ('{"age": 1e39, "colour": "red", "size": 1, "bought": "no"}', "line 3: column 'age': expected a finite"),
        ("[1]", "line 3: expected a JSON object"),
        ('{"age": 1', "line 3: expected a JSON object"),
        ("[" * 100_000, "line 3: expected a JSON object"),
    ],
)
def test_a_malformed_jsonl_line_is_named(ready, line, message):
    good = '{"age": 1, "colour": "red", "size": 2, "bought": "no"}\n\n'
    with pytest.raises(DataError, match=message):
        ready(good + line, suffix=".jsonl")


def test_keys_that_the_first_jsonl_line_lacks_are_left_out(ready):
    lines = [json.dumps(dict(zip(NAMES, row, strict=True)) | more) for row, more in zip(ROWS, [{}, *MORE], strict=True)]
    assert ready("\n".join(lines), suffix=".jsonl").train.root == ready(csv_of(ROWS)).train.root


MORE = [{"more": {}}, {"more": None}, {"most": 1}]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, None, 2.0], "line 2: column 'age': expected a value, got null"),
        ([1.0, 2.0, math.nan], "line 3: column 'age': expected a finite number"),
        ([{"a": 1}] * 3, "column 'age': expected texts or numbers, got struct"),
        (["1", "x", "2"], "line 2: column 'age': expected a number, got 'x'"),
    ],
)
def test_a_malformed_parquet_row_is_named(tmp_path, ready, column, message):
    table = pa.table({"age": pa.array(column), "colour": ["a", "b", "c"], "bought": [0, 1, 0]})
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(DataError, match=message):
        ready((tmp_path / "p.parquet").read_bytes(), suffix=".parquet")


@pytest.mark.parametrize("harm", ["head", "tail", "middle"])
def test_a_damaged_parquet_file_is_refused(tmp_path, ready, harm):
    table = pa.table({"age": np.arange(5000.0), "colour": ["a"] * 5000, "bought": [0, 1] * 2500})
    pq.write_table(table, tmp_path / "p.parquet", compression="snappy")
    data = bytearray((tmp_path / "p.parquet").read_bytes())
    if harm == "middle":
        data[60:2000] = bytes(1940)
    with pytest.raises(DataError, match=r"data\.parquet"):
        ready(bytes(data[:-100] if harm == "tail" else data[9:] if harm == "head" else data), suffix=".parquet")


def test_parquet_keeps_dictionaries_booleans_and_decimals(tmp_path, ready):
    table = pa.table(
        {
            "age": pa.array(["1.5", "2.5", "3.5"]).cast(pa.decimal128(5, 2)),
            "colour": pa.array(["a", "b", "a"]).dictionary_encode(),
            "bought": pa.array([True, False, True]),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    prepared = ready((tmp_path / "p.parquet").read_bytes(), suffix=".parquet", standardise=False)
    examples = everything(prepared.train)
    assert examples["numeric"][:, 0].tolist() == [1.5, 2.5, 3.5]
    assert examples["category"][:, 0].tolist() == [1, 2, 1]
    assert examples["label"].tolist() == [1, 0, 1]


def many_rows(count):
    return ((str(place % 97), f"c{place % 7}", repr(place / 3), "no" if place % 3 else "yes") for place in range(count))


def test_many_chunks_give_the_same_root_as_one(ready, monkeypatch):
    whole = ready(csv_of(many_rows(1000)), test_fraction=0.3)
    monkeypatch.setattr("podlt.data.tables.CHUNK_EXAMPLES", 17)
    monkeypatch.setattr("podlt.data.spool.STEP", 13)
    monkeypatch.setattr("podlt.data.dataset._CHUNK_BYTES", 100)
    parts = ready(csv_of(many_rows(1000)), test_fraction=0.3, classes=("no", "yes"))
    assert (whole.train.root, whole.test.root) == (parts.train.root, parts.test.root)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("podlt.data.tables.CHUNK_EXAMPLES", 200)
    monkeypatch.setattr("podlt.data.spool.STEP", 200)
    monkeypatch.setattr("podlt.data.dataset._CHUNK_BYTES", 10_000)

    def peak(count):
        path = tmp_path / f"{count}{suffix}"
        rows = list(many_rows(count))
        if suffix == ".csv":
            path.write_text(csv_of(rows))
        elif suffix == ".jsonl":
            path.write_text("".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in rows))
        else:
            columns = dict(zip(NAMES, zip(*rows, strict=True), strict=True))
            pq.write_table(pa.table(columns), path, row_group_size=200)
        del rows
        spec = DataSpec(path.name, **OPTIONS)
        gc.collect()
        arrow = [pa.total_allocated_bytes()]  # Arrow's own memory, which tracemalloc does not see
        tracemalloc.start()
        prepare(
            spec,
            cache=tmp_path / "cache",
            base=tmp_path,
            progress=lambda *_: arrow.append(pa.total_allocated_bytes()),
        )
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest + max(arrow) - arrow[0]

    peak(300)  # the first use imports and caches things that stay
    assert peak(6000) < 1.5 * peak(750) + 50_000  # eight times the examples (and of the Parquet footer)


@pytest.mark.parametrize(("labels", "classes"), [(["0", "", "1"], ["0", "1"]), (["a", "", "b"], ["a", "b"])])
def test_the_label_of_a_dropped_example_is_no_class(tmp_path, labels, classes):
    (tmp_path / "d.csv").write_text("x,y\n" + "".join(f"{place},{label}\n" for place, label in enumerate(labels)))
    spec = DataSpec(str(tmp_path / "d.csv"), label="y", missing="drop")
    assert prepare(spec, tmp_path / "cache").train.info["classes"] == classes
