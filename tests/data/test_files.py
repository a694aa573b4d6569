"""Folders and patterns as a source: issue 11, point 1."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec
from podlt.errors import DataError, UsageError


@pytest.fixture
def parts(tmp_path):
    """A folder with three CSV files of two examples each, and the same as Parquet with other orders of columns."""
    for suffix in ("csv", "parquet"):
        (tmp_path / suffix).mkdir()
    for number in range(3):
        x, y = [2.0 * number, 2.0 * number + 1], ["a", "b"]
        (tmp_path / "csv" / f"{number}.csv").write_text(f"x,y\n{x[0]},a\n{x[1]},b\n")
        columns = {"x": x, "y": y} if number != 1 else {"y": y, "x": x}
        pq.write_table(pa.table(columns), tmp_path / "parquet" / f"{number}.parquet")
    (tmp_path / "csv" / "_SUCCESS").write_text("")
    return tmp_path


def ready(folder, source, **options):
    return prepare(DataSpec(source, label="y", standardise=False, **options), cache=folder / "cache", base=folder)


@pytest.mark.parametrize("source", ["csv", "csv/*.csv", "parquet", "parquet/?.parquet", "p*/*"])
def test_a_folder_or_a_pattern_is_one_table(parts, source):
    train = ready(parts, source).train
    examples = train.read(np.arange(train.examples))
    assert examples["numeric"][:, 0].tolist() == [0, 1, 2, 3, 4, 5] and examples["label"].tolist() == [0, 1] * 3


def test_a_limit_and_a_fraction_count_examples_of_all_files(parts):
    assert ready(parts, "csv", limit=3).train.examples == 3
    prepared = ready(parts, "csv", test_fraction=0.5, split="last")
    assert prepared.test.read(np.arange(3))["numeric"][:, 0].tolist() == [3, 4, 5]


def test_a_fault_names_the_file_it_is_in(parts):
    (parts / "csv" / "1.csv").write_text("x,y\n1,a\n?,b\n")
    with pytest.raises(DataError, match=r"csv/1\.csv, line 3: column 'x': expected a number, got '\?'"):
        ready(parts, "csv")


def test_a_value_that_is_refused_only_at_the_end_names_its_file_too(parts):
    with pytest.raises(DataError, match=r"csv/0\.csv, line 3: column 'y': expected one of a, got 'b'"):
        ready(parts, "csv/*.csv", classes=("a",))


def test_files_with_other_columns_or_of_other_forms_are_refused(parts):
    (parts / "csv" / "1.csv").write_text("x,z\n1,a\n")
    with pytest.raises(DataError, match=r"csv/1\.csv: expected the columns of csv/0\.csv \(x, y\)"):
        ready(parts, "csv")
    with pytest.raises(UsageError, match=r"expected files of one form, got .csv, .parquet"):
        ready(parts, "*/0.*")
    with pytest.raises(DataError, match=r"none\*\.csv: no such file"):
        ready(parts, "none*.csv")


def test_only_tables_may_be_in_several_files(parts):
    for number in range(2):
        np.savez(parts / f"{number}.npz", x=np.zeros(3))
    with pytest.raises(UsageError, match=r"expected one \.npz file, got 2"):
        prepare(DataSpec("*.npz", inputs=("x",)), cache=parts / "cache", base=parts)
