"""Cells mean what pandas takes them for: issue 11, point 5."""

import io
import json
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from podlt.data import cells
from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec
from podlt.errors import DataError, UsageError


@pytest.fixture
def ready(tmp_path):
    """Writes data (and test) files, and prepares them; the label is the column y."""

    def run(data, test=None, suffix=".csv", **options):
        for name, content in (("data", data), ("test", test)):
            if content is not None:
                raw = content if isinstance(content, bytes) else content.encode()
                (tmp_path / f"{name}{suffix}").write_bytes(raw)
        if test is not None:
            options["test"] = f"test{suffix}"
        return prepare(DataSpec(f"data{suffix}", **({"label": "y"} | options)), cache=tmp_path / "cache", base=tmp_path)

    return run


def examples_of(part):
    return part.read(np.arange(part.examples, dtype=np.int64))


def labels_of(part):
    return examples_of(part)["label"].tolist()


def table(column, name="y"):
    return f"x,{name}\n" + "".join(f"{place},{cell}\n" for place, cell in enumerate(column, 1))


@pytest.mark.parametrize(
    ("column", "classes", "labels"),
    [
        (["1", "1.0", "01", "1e0", "+1", "0", "0.0", "-0"], ["0", "1"], [1, 1, 1, 1, 1, 0, 0, 0]),
        (["TRUE", "true", "False", "FALSE"], ["false", "true"], [1, 1, 0, 0]),
        (["10", "9", "-1", "9.0"], ["-1", "9", "10"], [2, 1, 0, 1]),
        (["01", "1", "a"], ["01", "1", "a"], [0, 1, 2]),
        (["TRUE", "true", "yes"], ["TRUE", "true", "yes"], [0, 1, 2]),
        (["9007199254740993", "9007199254740992"], ["9007199254740992", "9007199254740993"], [1, 0]),
        (["None", "Mild"], ["Mild", "None"], [1, 0]),
    ],
)
def test_labels_that_are_one_number_or_boolean_are_one_class(ready, column, classes, labels):
    train = ready(table(column)).train
    assert (train.info["classes"], labels_of(train)) == (classes, labels)


def test_json_booleans_and_numbers_are_the_same_classes_as_in_csv(ready):
    rows = [{"x": 1, "y": 1}, {"x": 2, "y": 1.0}, {"x": 3, "y": 0}]
    train = ready("".join(json.dumps(row) + "\n" for row in rows), suffix=".jsonl", positive="1").train
    assert (train.info["classes"], labels_of(train)) == (["not 1", "1"], [1, 1, 0])


def test_a_positive_label_and_named_classes_are_found_however_they_are_spelled(ready):
    assert labels_of(ready(table(["1.0", "0", "01"]), positive="1").train) == [1, 0, 1]
    assert labels_of(ready(table(["TRUE", "false"]), positive="true").train) == [1, 0]
    assert labels_of(ready(table(["1.0", "0", "01"]), classes=2).train) == [1, 0, 1]
    assert labels_of(ready(table(["7.0", "5", "07"]), classes=("7", "5")).train) == [0, 1, 0]


def test_a_test_file_may_spell_classes_and_categories_otherwise(ready):
    prepared = ready("x,k,y\n1,1,1\n2,2,0\n", "x,k,y\n1,2.0,1.0\n2,01,0.0\n", categorical=("k",))
    test = examples_of(prepared.test)
    assert test["label"].tolist() == [1, 0] and test["category"][:, 0].tolist() == [2, 1]


def test_categories_that_are_one_number_are_one_category(ready):
    train = ready("x,k,y\n1,1,a\n2,1.0,b\n3,02,b\n", categorical=("k",)).train
    assert examples_of(train)["category"][:, 0].tolist() == [1, 1, 2]
    assert train.info["categorical"] == [{"column": "k", "values": ["1", "2"]}]


def test_fractions_as_classes_are_refused_with_the_example_and_the_cure(ready):
    with pytest.raises(DataError, match=r"line 3: column 'y': expected whole numbers as classes, got '0.5'; target ="):
        ready(table(["1", "0.5", "2"]))
    assert labels_of(ready(table(["0.5", "1.5", "0.50"]), classes=("0.5", "1.5")).train) == [0, 1, 0]


def test_a_label_that_is_no_number_among_numbers_is_told_with_its_example(ready):
    prepared = ready(table(["--1", "1"]))
    assert prepared.train.info["classes"] == ["--1", "1"]
    assert prepared.notes == ("labels are texts, as not all are numbers: '--1' in line 2 is one of 1 that are none",)
    with pytest.raises(DataError, match="line 2: column 'y': expected a number, got '--1'"):
        ready(table(["--1", "1"]), target="number")


def test_booleans_are_numbers_in_a_column_of_inputs(ready):
    train = ready("x,y\nTRUE,a\nfalse,b\nTrue,a\n", standardise=False).train
    assert examples_of(train)["numeric"][:, 0].tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="line 3: column 'x': expected true or false, got '2'"):
        ready("x,y\nTRUE,a\n2,b\n")
    with pytest.raises(DataError, match="line 3: column 'x': expected a number, got 'true'"):
        ready("x,y\n2,a\ntrue,b\n")


NUMBERS = ["1", "-1.5", "+2", "1e3", ".5", "5.", "-0", "1E-2", "007"]


@pytest.mark.parametrize("others", [[], ["true"], [""], ["x"]], ids=str)
def test_a_number_is_what_pandas_reads_whatever_is_beside_it(others):
    found = cells.numbers_of(pa.array(NUMBERS + others))
    expected = pd.read_csv(io.StringIO("x\n" + "\n".join(NUMBERS)))["x"]
    assert found.values[: len(NUMBERS)].tolist() == expected.tolist()
    assert not (found.missing | found.wrong | found.boolean)[: len(NUMBERS)].any()


@pytest.mark.parametrize("text", sorted(cells.MISSING_NUMBERS - {"none"}))
def test_a_missing_number_is_what_pandas_takes_for_one(text):
    assert pd.read_csv(io.StringIO(f'x,z\n1,1\n"{text}",1\n'))["x"].isna().tolist() == [False, True]
    found = cells.numbers_of(pa.array(["1", text]))
    assert found.missing.tolist() == [False, True] and math.isnan(found.values[1])


MISSING = "x,k,y\n1,a,p\n,a,q\n4,NA,q\n7,b,\n"


def test_a_missing_value_is_refused_with_its_example_and_the_cure(ready):
    with pytest.raises(DataError) as caught:
        ready(MISSING, categorical=("k",))
    assert str(caught.value).splitlines() == [
        "data.csv, line 3: column 'x': expected a number, got ''; missing = \"drop\" or \"mean\" takes missing values "
        "(the first of 3 faults)",
        "  line 4: column 'k': expected a value, got 'NA'; missing = \"drop\" or \"category\" takes missing values",
        "  line 5: column 'y': expected a label, got nothing; missing = \"drop\" leaves such examples out",
    ]


def test_examples_that_lack_a_value_are_left_out_if_the_recipe_says_so(ready):
    prepared = ready(MISSING.replace("7,b,", "7,b,q"), categorical=("k",), missing="drop")
    assert labels_of(prepared.train) == [0, 1]
    assert prepared.notes == ("left out: 2 examples that lack a value",)
    assert prepared.train.info["categorical"][0]["values"] == ["a", "b"]
    with pytest.raises(DataError, match="expected at least one example, got 4 that all lack a value"):
        ready("x,y\n" + ",a\n" * 4, missing="drop")


def test_missing_numbers_become_the_mean_of_the_training_examples(ready):
    prepared = ready("x,y\n1,p\n,q\n4,q\n", "x,y\n,p\n", missing="mean", standardise=False)
    assert examples_of(prepared.train)["numeric"][:, 0].tolist() == [1, 2.5, 4]
    assert examples_of(prepared.test)["numeric"][:, 0].tolist() == [2.5]
    assert prepared.notes == ("column 'x': 1 missing numbers become the mean",)
    assert examples_of(ready("x,y\n1,p\n,q\n4,q\n", missing="mean").train)["numeric"][1, 0] == 0
    with pytest.raises(DataError, match="column 'x': every value is missing"):
        ready("x,y\n,p\n,q\n", missing="mean")


def test_missing_texts_become_a_category_of_their_own(ready):
    train = ready("x,k,y\n1,a,p\n2,,q\n3,b,q\n", categorical=("k",), missing="category").train
    assert examples_of(train)["category"][:, 0].tolist() == [2, 1, 3]
    with pytest.raises(DataError, match="line 3: column 'x': expected a number, got ''; missing = \"drop\" or"):
        ready("x,y\n1,p\n,q\n", missing="category")


def test_nulls_of_parquet_and_absent_keys_of_jsonl_are_missing_values(tmp_path, ready):
    pd.DataFrame({"x": [1.0, None, 4.0], "y": ["p", "q", "q"]}).to_parquet(tmp_path / "p.parquet")
    train = ready((tmp_path / "p.parquet").read_bytes(), suffix=".parquet", missing="mean", standardise=False).train
    assert examples_of(train)["numeric"][:, 0].tolist() == [1, 2.5, 4]
    text = '{"x": 1, "y": "p"}\n{"y": "q"}\n{"x": null, "y": "q"}\n{"x": 4, "y": "p"}\n'
    train = ready(text, suffix=".jsonl", missing="mean", standardise=False).train
    assert examples_of(train)["numeric"][:, 0].tolist() == [1, 2.5, 2.5, 4]


def test_dates_are_refused_with_the_cure_and_are_days_since_1970_if_asked(ready):
    text = "x,when,y\n1,1970-01-02,a\n2,1970-01-03T12:00:00,b\n3,1970-01-03T12:00:00+12:00,b\n"
    with pytest.raises(DataError, match=r"line 2: column 'when': .*got the date '1970-01-02'; name the column in"):
        ready(text)
    train = ready(text, dates=("when",), standardise=False).train
    assert examples_of(train)["numeric"][:, 1].tolist() == [1, 2.5, 2]
    assert examples_of(ready(text, numeric=(), dates=("when",), standardise=False).train)["numeric"].shape == (3, 1)
    with pytest.raises(DataError, match="line 3: column 'when': expected a date such as 2026-01-31, got '1970-02-30'"):
        ready("when,y\n1970-01-02,a\n1970-02-30,b\n", dates=("when",))
    with pytest.raises(UsageError, match=r"column 'when': expected as one of .* got two"):
        ready(text, dates=("when",), drop=("when",))


def test_arrows_own_dates_are_days_too(tmp_path, ready):
    stamps = pd.to_datetime(["1970-01-02 00:00", "1970-01-03 12:00"])
    pd.DataFrame({"x": [1, 2], "when": stamps, "y": ["a", "b"]}).to_parquet(tmp_path / "p.parquet")
    raw = (tmp_path / "p.parquet").read_bytes()
    with pytest.raises(DataError, match="column 'when': expected a number, got a date; name the column in `dates`"):
        ready(raw, suffix=".parquet")
    train = ready(raw, suffix=".parquet", dates=("when",), standardise=False).train
    assert examples_of(train)["numeric"][:, 1].tolist() == [1, 2.5]


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_an_index_of_pandas_is_no_input(tmp_path, ready, suffix):
    frame = pd.DataFrame({"a": [0.3, 0.1, 0.2, 0.4], "y": [0, 0, 1, 1]}).sample(frac=1, random_state=1)
    write = frame.to_parquet if suffix == ".parquet" else frame.reset_index(drop=True).to_feather
    write(tmp_path / f"p{suffix}")
    prepared = ready((tmp_path / f"p{suffix}").read_bytes(), suffix=suffix)
    assert [column["column"] for column in prepared.train.info["numeric"]] == ["a"]
    if suffix == ".parquet":
        assert "index of pandas" in prepared.notes[0]
        options = {"suffix": suffix, "numeric": ("a", "__index_level_0__")}
        named = ready((tmp_path / f"p{suffix}").read_bytes(), **options)
        assert len(named.train.info["numeric"]) == 2


def test_the_index_that_pandas_writes_to_csv_is_no_input(ready):
    frame = pd.DataFrame({"a": [0.3, 0.1], "y": [0, 1]})
    prepared = ready(frame.to_csv())
    assert [column["column"] for column in prepared.train.info["numeric"]] == ["a"]
    assert "left out: ''" in prepared.notes[0]


@pytest.mark.parametrize("value", ["123456.789", "1e30", "0.1", "0"])
def test_a_constant_column_is_zero_and_a_value_beside_it_keeps_its_distance(ready, value):
    prepared = ready(
        "c,x,y\n" + "".join(f"{value},{n},{n % 2}\n" for n in range(10)), f"c,x,y\n{float(value) + 0.25},1,0\n"
    )
    assert (examples_of(prepared.train)["numeric"][:, 0] == 0).all()
    assert examples_of(prepared.test)["numeric"][0, 0] == np.float32(float(value) + 0.25 - float(value))
    assert prepared.train.info["numeric"][0] == {"column": "c", "mean": float(value), "std": 1.0}


def test_a_column_that_differs_by_rounding_alone_is_constant_and_a_small_real_difference_is_not(ready):
    noise = [0.1 + 0.2, 0.3] * 5
    assert examples_of(ready(table_of(noise)).train)["numeric"].std() < 1e-6
    small = [1e9, 1e9 + 1e-3] * 5
    assert np.allclose(np.abs(examples_of(ready(table_of(small)).train)["numeric"][:, 0]), 1, atol=1e-3)


def table_of(numbers):
    return "c,y\n" + "".join(f"{number!r},{place % 2}\n" for place, number in enumerate(numbers))


def test_means_and_deviations_are_those_of_pandas(ready):
    rng = np.random.default_rng(0)
    values = rng.normal(1e6, 1e-2, 1000)
    info = ready(table_of(values.tolist())).train.info["numeric"][0]
    exact = [math.fsum(values) / 1000]
    exact.append(math.sqrt(math.fsum((value - exact[0]) ** 2 for value in values.tolist()) / 1000))
    assert info["mean"] == pytest.approx(exact[0], rel=1e-15)
    assert info["std"] == pytest.approx(exact[1], rel=1e-7)
    assert info["std"] == pytest.approx(pd.Series(values).std(ddof=0), rel=1e-6)


def test_a_test_value_that_overflows_once_it_is_standardised_is_named(ready):
    with pytest.raises(DataError, match=r"test\.csv, line 3: column 'x': expected a number of a size that float32 can"):
        ready("x,y\n1e-30,1\n2e-30,0\n", "x,y\n1,1\n3e38,1\n")
    with pytest.raises(DataError, match=r"test\.csv, line 2: column 'x': expected a finite number in the range"):
        ready("x,y\n1,1\n2,0\n", "x,y\n1e39,1\n")


def test_all_faults_of_a_file_are_in_one_report(ready):
    bad = "a,b,y\n" + "x,1,p\n" + "1,2\n" + "1,1e39,q\n" + "1,-inf,\n" + "2,3,q\n"
    with pytest.raises(DataError) as caught:
        ready(bad)
    report = str(caught.value).splitlines()
    assert report[0] == "data.csv, line 2: column 'a': expected a number, got 'x' (the first of 5 faults)"
    assert [line.split(":")[0] for line in report[1:5]] == ["  line 3", "  line 4", "  line 5", "  line 5"]
    assert report[5:] == ["  hint: column 'a': a column of texts belongs in `categorical`, or in `drop`"]


def test_of_many_faults_the_first_twenty_are_shown_and_the_rest_counted(ready):
    with pytest.raises(DataError) as caught:
        ready("a,y\n" + "x,p\n" * 50)
    report = str(caught.value).splitlines()
    assert report[0].endswith("(the first of 50 faults)") and report[20] == "  and 30 more" and len(report) == 22


def test_many_faults_of_one_kind_do_not_hide_another(ready):
    with pytest.raises(DataError) as caught:
        ready("a,b,y\n" + "x,1,p\n" * 50 + "1,,q\n")
    report = str(caught.value)
    assert "(the first of 51 faults)" in report and "line 52: column 'b': expected a number, got ''" in report


def test_faults_of_jsonl_and_of_bytes_that_are_no_text_are_in_the_report_too(ready):
    with pytest.raises(DataError, match=r"line 2: expected a JSON object.*\n  line 3: column 'x': expected a number"):
        ready('{"x": 1, "y": 1}\n[]\n{"x": "u", "y": 0}\n', suffix=".jsonl")
    with pytest.raises(DataError, match=r"line 2: expected UTF-8, got byte 0xe9 .*\n  line 3: column 'x'"):
        ready("x,y\n1,é\nu,p\n".encode("latin-1"))


@pytest.mark.parametrize(
    ("text", "options", "hint"),
    [
        ("a;y\n1;p\n", {}, "hint: delimiter = ';'"),
        ('a,y\n"1,5",p\n', {}, "hint: column 'a': numbers are written as 1234.5, without commas"),
        ("a,y\nred,p\n", {}, "hint: column 'a': a column of texts belongs in `categorical`"),
        ("a,y\n1,é\n".encode("latin-1"), {}, "hint: iconv -f latin1"),
    ],
)
def test_a_usual_mistake_is_told_with_its_cure(ready, text, options, hint):
    with pytest.raises(DataError, match=hint):
        ready(text, **options)
