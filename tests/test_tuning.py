"""Processes of podlt's own are tuned; those of others, which only import it, are left as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from podlt import tuning

SAYS = """
import gc, json, os, sys
{first}
print(json.dumps([gc.get_threshold(), sys.getswitchinterval(), os.getpriority(os.PRIO_PROCESS, 0),
                  os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else 0]))
"""


def after(first: str) -> list[object]:
    """Garbage thresholds, switch interval, niceness and scheduling policy of a process that has done something."""
    done = subprocess.run([sys.executable, "-c", SAYS.format(first=first)], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def test_a_process_of_podlts_own_is_tuned_and_keeps_its_priority() -> None:
    untouched = after("pass")
    assert after("from podlt.tuning import tune_process; tune_process()") == [
        list(tuning.GARBAGE),
        tuning.SWITCH_SECONDS,
        *untouched[2:],
    ]


def test_importing_podlt_changes_nothing() -> None:
    assert after("import podlt.api, podlt.tuning") == after("pass")


def test_slices_are_asked_for_again_by_whoever_has_them() -> None:
    """What the system took once it takes again, in this process and in one that it starts."""
    ask = "from podlt.tuning import take_long_slices; print(take_long_slices())"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    again = subprocess.run([sys.executable, "-c", f"{ask}; {ask}"], capture_output=True, text=True, check=True)
    assert again.stdout.split() == said * 2
    if sys.platform != "linux":
        assert said == ["False"]


def test_a_realtime_policy_is_left_alone() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, PermissionError):
        return
    try:
        assert not tuning.take_long_slices() and os.sched_getscheduler(0) == os.SCHED_FIFO
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
