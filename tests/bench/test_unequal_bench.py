"""What `podlt bench unequal` prints."""

from __future__ import annotations

import pytest

from podlt.bench import unequal


def test_a_short_bench_of_unequal_machines_prints_all_of_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    unequal.main(["--workers", "4", "--rounds", "8", "--vice-rounds", "8"])
    text = capsys.readouterr().out
    assert "3 workers of 0.1 s a task and one of 2 s" in text and text.count("examples/s") == 2
    assert 'with shares = "equal"' in text and "less than without it" in text
