"""The study of accuracy: resumable, and its table says what was measured."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from podlt.bench import accuracy
from podlt.bench.table import write_between
from podlt.data.spec import DataSpec
from podlt.errors import UsageError
from podlt.recipe import ModelSpec


def finished(arithmetic: str, seed: int, value: float, steps: int = 300) -> accuracy.StudyResult:
    """A run that is said to have been made."""
    recipe = accuracy.recipe_of("mnist-mlp", arithmetic, seed).digest().hex()
    return accuracy.StudyResult("mnist-mlp", arithmetic, seed, recipe, steps, value, {"accuracy": value}, 1.0)


def results(values: dict[str, list[float]]) -> dict[tuple[str, str, int], accuracy.StudyResult]:
    """By study, arithmetic and seed."""
    made = [finished(a, seed, value) for a, each in values.items() for seed, value in enumerate(each, 1)]
    return {(run.study, run.arithmetic, run.seed): run for run in made}


def test_a_difference_below_the_deviation_of_the_seeds_is_within_it_and_a_larger_one_is_not() -> None:
    stock = [0.95, 0.97, 0.96]
    found = results({"stock": stock, "exact/1": [0.90, 0.92, 0.91], "exact/2": stock, "exact/3": [0.951, 0.969, 0.96]})
    found |= results({"exact/auto": stock})
    rows = {row["arithmetic"]: row for row in accuracy.summary(found, "mnist-mlp", [1, 2, 3])}
    assert not rows["exact/1"]["within"]
    assert rows["exact/2"]["within"] and rows["exact/2"]["difference"] == 0
    assert rows["exact/3"]["within"] and rows["exact/3"]["largest_difference"] == pytest.approx(0.001)
    assert "**no**" in accuracy.as_table(list(rows.values()))[3]


def test_a_study_goes_on_after_a_half_line_and_forgets_what_was_trained_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    other = msgspec.structs.replace(finished("stock", 3, 0.7), recipe="00" * 32)
    lines = [finished("stock", 1, 0.9), finished("stock", 2, 0.8, steps=7), other]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines) + b'{"study": "mni')
    assert list(accuracy.read_results(path)) == [("mnist-mlp", "stock", 1)]


@pytest.mark.slow
def test_a_study_that_is_interrupted_trains_only_what_is_missing_and_exact_runs_come_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ModelSpec("podlt.models:mlp", {"inputs": 64, "hidden": 16, "outputs": 10})
    study = accuracy._study(DataSpec("digits"), small, 0.03, 30, 120, "loss")
    monkeypatch.setattr(accuracy, "STUDIES", {"small": study})
    monkeypatch.setattr(accuracy, "ARITHMETICS", ("stock", "exact/2"))
    monkeypatch.setenv("PODLT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "results.jsonl"
    accuracy.main(["--seeds", "1", "--results", str(path)])
    table, whole = capsys.readouterr().out, path.read_bytes().splitlines()
    assert len(whole) == 2 and table.count("| small, loss |") == 2
    stock, exact = (run.value for run in accuracy.read_results(path).values())
    assert stock != exact and stock == pytest.approx(exact, rel=0.05)
    path.write_bytes(whole[0] + b"\n" + whole[1][:40])
    accuracy.main(["--seeds", "1", "--results", str(path)])
    again = capsys.readouterr()
    assert again.out == table and again.err.startswith("1/1 ")
    assert len(accuracy.read_results(path)) == 2


def test_a_table_goes_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x:begin -->\nold\n<!-- x:end -->\nafter\n")
    write_between(page, "x", ["| new |"])
    assert page.read_text() == "before\n<!-- x:begin -->\n| new |\n<!-- x:end -->\nafter\n"
    page.write_text("<!-- x:end -->\n<!-- x:begin -->\n")
    with pytest.raises(UsageError, match="expected the lines"):
        write_between(page, "x", [])
    assert page.read_text() == "<!-- x:end -->\n<!-- x:begin -->\n"
