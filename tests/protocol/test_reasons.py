"""Reasons in the log: the manager's words, without what they would tell strangers of its machine."""

from __future__ import annotations

import pytest

from podlt.protocol import entries as e
from podlt.protocol.reasons import without_paths

from .steps_of_a_round import fresh


@pytest.mark.parametrize(
    ("reason", "logged"),
    [
        ("", ""),
        ("no answer in 40 s", "no answer in 40 s"),
        ("stopped by hand", "stopped by hand"),
        ("/home/anna/runs/first/log.db: disk full", "log.db: disk full"),
        ("cannot write '/home/anna/a.bin'", "cannot write 'a.bin'"),
        ("~/runs/first is full", "first is full"),
        ("/data/", "data"),
        ("/", "/"),
        ("from /a/b to /c/d", "from b to d"),
        ("(/opt/podlt/x.py:12)", "(x.py:12)"),
        ("2/3 agree, 1/2 left", "2/3 agree, 1/2 left"),
        ("3 credits/example", "3 credits/example"),
        ("./here/there", "./here/there"),
        ("sqlite:////home/anna/log.db is locked", "sqlite:log.db is locked"),
        ("file:///home/anna/log.db", "file:log.db"),
        ("/home//anna/x", "x"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
    ],
)
def test_of_a_path_only_its_last_part_is_logged(reason: str, logged: str) -> None:
    assert without_paths(reason) == logged
    assert without_paths(logged) == logged


def test_what_the_manager_logs_goes_through_it() -> None:
    world = fresh()
    world.manager.withdraw(1, "/home/anna/worker died")
    world.manager.close("stopped", "disk full: /home/anna/runs")
    left, closed = world.manager.take()[-2:]
    assert isinstance(left, e.Withdraw) and left.reason == "worker died"
    assert isinstance(closed, e.Close) and closed.reason == "disk full: runs"
