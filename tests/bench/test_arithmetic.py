"""The bench of exact arithmetic: contenders take turns, ratios are of one turn, no step is left out silently."""

import json

import pytest

from podlt.bench import arithmetic
from podlt.errors import UsageError


def test_contenders_take_turns_after_one_that_does_not_count():
    order, now = [], [0.0]
    cost = {"stock": 2.0, "program": 1.0, "exact 2": 3.0}

    def run(name):
        order.append(name)
        now[0] += cost[name]

    runs = {name: (lambda name=name: run(name)) for name in cost}
    assert arithmetic.times(runs, 2, lambda: now[0]) == {name: [each] * 2 for name, each in cost.items()}
    assert order == list(cost) * 3


def test_a_step_is_measured_over_both_stocks_and_stands_in_the_table(monkeypatch, capsys):
    runs = {name: (lambda: None) for name in ("stock", "program", "exact 1", "exact 2")}
    monkeypatch.setattr(arithmetic, "STEPS", {"nothing": (0.9, lambda: runs)})
    clock = iter([0, 2, 0, 1, 0, 3, 0, 4] * 3)
    monkeypatch.setattr(arithmetic.time, "thread_time", lambda: float(next(clock)))
    arithmetic.main(["--repeats", "3", "--json"])
    row = json.loads(capsys.readouterr().out)
    assert row["stock_ms"] == 2000.0 and row["exact 2 / stock"] == [2.0] * 3 and row["exact 2 / program"] == [4.0] * 3
    assert "stock / stock" not in row and "exact 3 / stock" not in row
    assert "| nothing | 0.9 | 2000.00 ms | 0.50 (0.50 to 0.50) |" in "\n".join(arithmetic.as_table([row], [1.0]))


def test_unknown_steps_are_refused():
    with pytest.raises(UsageError, match="product 1024"):
        arithmetic.main(["--only", "no such step"])
