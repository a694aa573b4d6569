"""What a run's metrics say of its events. Those that come from its log: test_log_totals.py, test_operated_runs.py."""

from __future__ import annotations

from podlt.manager import events as ev
from podlt.monitoring.metrics import Metrics


def test_nobody_is_awaited_any_more_once_enough_are_there_long_before_the_next_round_is_done() -> None:
    metrics = Metrics()
    metrics(ev.Waiting(workers=2, wanted=3))
    assert "podlt_workers_awaited 3.0" in metrics.text().decode()
    metrics(ev.Gathered(workers=3))
    assert "podlt_workers_awaited 0.0" in metrics.text().decode()
