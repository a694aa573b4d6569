"""The table of where the same bits were seen: what a row must be, and what is refused."""

import json
from pathlib import Path

import msgspec
import pytest

from podlt.errors import UsageError
from podlt.execution.conformance_table import FIELDS, HEAD, RULE, Sighting, append, cell, read_sighting, read_table

GOLDEN = "ab" * 32
SEEN = Sighting(
    date="2026-11-29",
    processor="Some CPU",
    instructions="torch AVX2, Numba haswell",
    threads="2",
    system="Linux x86_64",
    python="3.11.7",
    numpy="2.4.6",
    torch="2.13.0",
    numba="0.68.1",
    podlt="0.1.0",
    device="cpu",
    settings="-",
    note="-",
    digest=GOLDEN,
    result="PASS",
)
DOCUMENT = Path(__file__).parents[2] / "docs" / "CONFORMANCE.md"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "CONFORMANCE.md"
    path.write_text(f"# Title\n\n{HEAD}\n{RULE}\n\nWhat follows.\n")
    return path


def changed(**fields):
    return msgspec.structs.replace(SEEN, **fields)


def test_a_row_and_its_json_say_the_same():
    assert read_sighting(SEEN.row()) == SEEN
    assert read_sighting(msgspec.json.encode(SEEN).decode()) == SEEN


def test_rows_are_added_at_the_end_of_the_table_and_nothing_else_changes(table):
    append(table, SEEN, GOLDEN)
    append(table, changed(threads="1"), GOLDEN)
    text = table.read_text()
    assert text == f"# Title\n\n{HEAD}\n{RULE}\n{SEEN.row()}\n{changed(threads='1').row()}\n\nWhat follows.\n"
    assert read_table(text) == [SEEN, changed(threads="1")]


def test_a_row_that_the_table_has_is_refused_whatever_its_date(table):
    append(table, SEEN, GOLDEN)
    with pytest.raises(UsageError, match="has this line already, of 2026-11-29"):
        append(table, changed(date="2026-12-01"), GOLDEN)


def test_a_row_that_passes_with_an_unknown_digest_is_refused(table):
    stranger = changed(digest="cd" * 32)
    with pytest.raises(UsageError, match="claims to pass with digest cdcdcdcd"):
        append(table, stranger, GOLDEN)
    append(table, changed(digest="cd" * 32, result="FAIL: softmax 1"), GOLDEN)
    with pytest.raises(UsageError, match="claims to pass"):
        append(table, stranger, GOLDEN)  # a digest that failed is not known to be right
    append(table, SEEN, GOLDEN)
    append(table, changed(threads="9"), "ef" * 32)  # of the day before an operation was added


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"date": "yesterday"}, "date: expected YYYY-MM-DD"),
        ({"threads": "two"}, "threads: expected a number"),
        ({"digest": "ab" * 8}, "digest: expected 64 hexadecimal digits"),
        ({"result": "fine"}, "result: expected 'PASS'"),
        ({"processor": ""}, "processor: expected 1 to"),
        ({"note": "a\nb"}, "note: expected 1 to"),
        ({"note": "<img src=x>"}, "note: expected 1 to"),
        ({"note": "[look](here)"}, "note: expected 1 to"),
        ({"note": "x" * 500}, "note: expected 1 to"),
    ],
)
def test_malformed_fields_are_refused_by_name(fields, message):
    document = json.dumps({**msgspec.to_builtins(SEEN), **fields})
    with pytest.raises(UsageError, match=message):
        read_sighting(document)


@pytest.mark.parametrize("line", ["", "PASS", "| a | b |", '{"date": 3}', SEEN.row() + " more |", "{" * 100])
def test_lines_of_another_form_are_refused(line):
    with pytest.raises(UsageError, match="conformance line: "):
        read_sighting(line)


def test_a_document_without_the_table_is_refused(tmp_path):
    path = tmp_path / "other.md"
    path.write_text("# Other\n")
    with pytest.raises(UsageError, match="expected a document with the table"):
        append(path, SEEN, GOLDEN)


def test_any_text_becomes_a_cell():
    assert cell("a | b\n\tc\x00é<") == "a   b c"
    assert cell(" ") == "-"
    assert len(cell("x" * 9000)) == 400


def test_the_table_of_this_project_is_well_formed_and_without_duplicates():
    rows = read_table(DOCUMENT.read_text(encoding="utf-8"))
    assert len({row.cells()[1:] for row in rows}) == len(rows)
    assert all(len(row.cells()) == len(FIELDS) for row in rows)
