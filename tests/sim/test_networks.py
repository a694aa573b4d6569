"""Runs of the real manager and workers over simulated networks: whatever goes wrong, what must hold does."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from podlt.protocol.answers import RoundAnswers
from podlt.sim.faults import NetworkFaults
from podlt.sim.networked import NetworkedWorld
from podlt.sim.networks import NetworkReport, play_networks


def sound(reports: list[NetworkReport], runs: int) -> None:
    assert len(reports) == runs
    assert [(report.seed, report.failure) for report in reports if report.failure] == []


def test_a_hundred_worlds_come_to_a_sound_end() -> None:
    reports = list(play_networks(0, 100, rounds=4))
    sound(reports, 100)
    assert sum(report.kills for report in reports) > 5 and sum(report.withdrawn for report in reports) > 50


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(10))
def test_a_thousand_worlds_of_a_hundred_rounds_come_to_a_sound_end(hundred: int) -> None:
    reports = list(play_networks(100 * hundred, 100, rounds=100))
    sound(reports, 100)
    assert sum(report.rounds for report in reports) >= 10_000


def test_where_nothing_goes_wrong_nobody_is_let_go_and_nothing_is_sent_twice() -> None:
    (report,) = play_networks(7, rounds=20, faults=NetworkFaults())
    sound([report], 1)
    assert report.withdrawn == report.kills == 0
    assert report.seconds < 20
    assert report.messages < 21 * 6 * 12


def test_the_same_seed_gives_the_same_log_byte_for_byte() -> None:
    heads = []
    for _ in range(2):
        world = NetworkedWorld([2, 2, 1], 5, 11)
        world.run()
        heads.append((world.head, world.packets.carried, world.schedule.now))
    assert heads[0] == heads[1]


def test_a_seed_is_repeated_in_another_process() -> None:
    """Sets of bytes have another order in each."""
    code = "from podlt.sim.networks import play_networks; print([*play_networks(92, workers=30, rounds=2)])"
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([*play_networks(92, workers=30, rounds=2)])
    assert "failure=''" in done.stdout


@pytest.mark.parametrize(
    "faults",
    [
        NetworkFaults(loss=0.3),
        NetworkFaults(duplication=1.0),
        NetworkFaults(reordering=1.0, delay=0.3),
        NetworkFaults(partition=0.05),
        NetworkFaults(crash=0.05),
        NetworkFaults(manager_crash=0.05),
        NetworkFaults(failure=0.2),
        NetworkFaults(liars=2),
    ],
    ids=["loss", "duplication", "reordering", "partition", "crash", "manager-crash", "failure", "liars"],
)
def test_each_kind_of_fault_alone_does_no_harm(faults: NetworkFaults) -> None:
    sound(list(play_networks(40, 3, rounds=8, faults=faults)), 3)


def test_a_fault_of_the_manager_is_found_and_says_by_which_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who fails one of its tasks, and answered another, is let go: its commitments must not be written any more."""
    honest = RoundAnswers.release

    def release(self: RoundAnswers, worker: int) -> list[int]:
        waiting = {copy for copy in self.unlogged if copy[1] == worker}
        lost = honest(self, worker)
        self.unlogged |= waiting
        return lost

    monkeypatch.setattr(RoundAnswers, "release", release)
    reports = play_networks(0, 60, rounds=6, faults=NetworkFaults(failure=0.3, duplication=1.0, compute=2.0, slow=0.3))
    found = next(report for report in reports if report.failure)
    assert "KeyError" in found.failure and "protocol/answers.py" in found.failure
    (again,) = play_networks(found.seed, rounds=6, faults=found.faults)
    assert again == found


def test_worlds_are_as_bad_as_their_seed_says() -> None:
    worlds = [NetworkFaults.drawn(random.Random(seed)) for seed in range(200)]
    for name in (
        "loss",
        "duplication",
        "reordering",
        "partition",
        "crash",
        "manager_crash",
        "slow",
        "failure",
        "liars",
    ):
        having = sum(bool(getattr(world, name)) for world in worlds)
        assert 30 < having < 180, name


def test_it_needs_no_pytorch() -> None:
    code = "import sys, podlt.sim.networks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
