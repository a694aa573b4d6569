"""A run's history as a table for pandas: a line a round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podlt.extras import needed_by
from podlt.report.figures import read_round_figures
from podlt.report.history import read_history

if TYPE_CHECKING:
    from pandas import DataFrame


def history_table(run: Path) -> DataFrame:
    """The rounds that were trained, by their numbers.

    Columns are `epoch` (from 0), `loss` (the mean over the round's examples), `examples`, `workers`, `convicted` (how
    many were), `seconds` (NaN where they were not measured), and the figures of held-out examples, such as `test_loss`
    and `val_loss`: in the example of the round after which they were taken, NaN in the others.

    Args:
        run: its directory or bundle.

    Raises:
        MissingPackageError: pandas is not installed.
        UsageError: there is no run.
        InvalidProofError: its log breaks the rules.
        StorageError: a file cannot be read.
    """
    try:
        from pandas import DataFrame, Index
    except ImportError as error:
        raise needed_by("result.history", error) from error
    history = read_history(run)
    rows: dict[int, dict[str, Any]] = {}
    last: dict[int, int] = {}
    for row in history.rounds:
        rows[row.number] = {
            "epoch": row.epoch,
            "loss": row.loss,
            "examples": row.examples,
            "workers": row.workers,
            "convicted": len(row.convicted),
            "seconds": float("nan"),
        }
        last[row.epoch] = row.number
    for one in read_round_figures(run):
        if one.round in rows:
            rows[one.round] |= {"seconds": one.seconds, **_columns(one.metrics)}
    for measured in history.measured:
        rows[last[measured.epoch]] |= _columns(measured.metrics)
    return DataFrame(list(rows.values()), index=Index(rows, name="round"))


def _columns(metrics: Mapping[str, float]) -> dict[str, float]:
    """Figures under names that no round's own have."""
    return {name if name.startswith("val_") else f"test_{name}": value for name, value in metrics.items()}
