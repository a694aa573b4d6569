"""What a run's metrics say of its events."""

from __future__ import annotations

from podlt.operations.metrics import Metrics
from podlt.training import events as ev


def test_a_figure_that_the_last_epoch_lacks_is_not_that_of_an_earlier_one() -> None:
    metrics = Metrics()
    metrics(ev.Measured(epoch=0, metrics={"accuracy": 0.5, "loss": 1.5}))
    assert 'podlt_test_figure{name="loss"} 1.5' in metrics.text().decode()
    metrics(ev.Measured(epoch=1, metrics={"accuracy": 0.25}))
    text = metrics.text().decode()
    assert 'podlt_test_figure{name="accuracy"} 0.25' in text and 'name="loss"' not in text


def test_nobody_is_awaited_any_more_once_enough_are_there_long_before_the_next_round_is_done() -> None:
    metrics = Metrics()
    metrics(ev.Waiting(workers=2, wanted=3))
    assert "podlt_workers_awaited 3.0" in metrics.text().decode()
    metrics(ev.Gathered(workers=3))
    assert "podlt_workers_awaited 0.0" in metrics.text().decode()
