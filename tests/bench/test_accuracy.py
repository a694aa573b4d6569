"""The study of accuracy: resumable, and its table says what was measured."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from podlt.bench import accuracy
from podlt.bench.table import write_between
from podlt.errors import UsageError


def finished(arithmetic: str, seed: int, value: float, steps: int = 300) -> accuracy.Finished:
    """A run that is said to have been made."""
    return accuracy.Finished("mnist-mlp", arithmetic, seed, steps, value, {"accuracy": value}, 1.0)


def results(values: dict[str, list[float]]) -> dict[tuple[str, str, int], accuracy.Finished]:
    """By study, arithmetic and seed."""
    made = [finished(a, seed, value) for a, each in values.items() for seed, value in enumerate(each, 1)]
    return {(run.study, run.arithmetic, run.seed): run for run in made}


def test_a_difference_below_the_deviation_of_the_seeds_is_within_it_and_a_larger_one_is_not() -> None:
    stock = [0.95, 0.97, 0.96]
    found = results({"stock": stock, "exact/1": [0.90, 0.92, 0.91], "exact/2": stock, "exact/3": [0.951, 0.969, 0.96]})
    rows = {row["arithmetic"]: row for row in accuracy.summary(found, "mnist-mlp", [1, 2, 3])}
    assert not rows["exact/1"]["within"]
    assert rows["exact/2"]["within"] and rows["exact/2"]["difference"] == 0
    assert rows["exact/3"]["within"] and rows["exact/3"]["largest_difference"] == pytest.approx(0.001)
    assert "**no**" in accuracy.as_table(list(rows.values()))[3]


def test_a_study_goes_on_after_a_half_line_and_forgets_runs_of_another_length(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    lines = [finished("stock", 1, 0.9), finished("stock", 2, 0.8, steps=7)]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines) + b'{"study": "mni')
    assert list(accuracy.read_results(path)) == [("mnist-mlp", "stock", 1)]


def test_a_table_goes_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x:begin -->\nold\n<!-- x:end -->\nafter\n")
    write_between(page, "x", ["| new |"])
    assert page.read_text() == "before\n<!-- x:begin -->\n| new |\n<!-- x:end -->\nafter\n"
    page.write_text("<!-- x:end -->\n<!-- x:begin -->\n")
    with pytest.raises(UsageError, match="expected the lines"):
        write_between(page, "x", [])
    assert page.read_text() == "<!-- x:end -->\n<!-- x:begin -->\n"
