"""Which levels pay, and who is let go, by how long workers took: no run, only figures."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given

from podlt.engine.interface import WorkerPace
from podlt.manager.pace import HARM, MIN_GAIN, CutLimits, PaceJudge
from podlt.protocol.shares import SHARES_EVERY, SeatWeights

EXAMPLES = 800


class Fleet:
    """Workers that take their time, and a judge of their pace.

    Args:
        speeds: examples a second of each worker.
        idle: seconds of a round besides.
        a_task: and for each of its tasks.
        own: seconds that each task takes its worker besides.
    """

    def __init__(self, *speeds: float, idle: float = 0.01, a_task: float = 0.0, own: float = 0.0) -> None:
        self.own = own
        self.speeds, self.idle, self.a_task = dict(enumerate(speeds)), idle, a_task
        self.levels = dict.fromkeys(self.speeds, 0)
        self.held: dict[int, float] = {}
        self.judge, self.gone, self.shared, self.now = PaceJudge(), dict[int, int](), -SHARES_EVERY, 0
        self.pending: Mapping[int, int] = {}
        self.seconds: list[float] = []

    def round(self, noise: Mapping[int, float] | None = None) -> float:
        weights = SeatWeights(Counter(self.levels.values()))
        each = EXAMPLES / weights.total
        paces = [
            WorkerPace(
                worker=worker,
                tasks=weights.of(level),
                examples=round(weights.of(level) * each),
                seconds=max(
                    self.held.get(worker, 0.0),
                    weights.of(level) * (self.own + each / self.speeds[worker]) * (noise or {}).get(worker, 1.0),
                ),
                missed=0,
            )
            for worker, level in self.levels.items()
        ]
        seconds = max(pace.seconds for pace in paces) + self.idle + self.a_task * weights.total
        self.judge.round(paces, seconds, self.levels)
        self.levels |= self.pending
        self.pending = {}
        self.now += 1
        self.seconds.append(seconds)
        return seconds

    def decide(self) -> None:
        for worker in self.judge.costly(CutLimits(EXAMPLES)):
            self.judge.released(worker)
            self.gone[worker] = self.now
            del self.levels[worker]
        if self.now >= self.shared + SHARES_EVERY and (better := self.judge.better(CutLimits(EXAMPLES))):
            self.pending, self.shared = {w: lv for w, lv in better.items() if w in self.levels}, self.now

    def play(self, rounds: int) -> Fleet:
        for _ in range(rounds):
            self.decide()
            self.round()
        return self


def test_machines_that_are_about_alike_stay_as_they_are() -> None:
    fleet = Fleet(100, 104, 97, 100, 95, 103, 100, 99).play(50)
    assert set(fleet.levels.values()) == {0} and fleet.shared < 0 and not fleet.gone


@given(st.lists(st.floats(0.97, 1.03), min_size=24, max_size=24))
def test_noise_changes_no_level_and_lets_nobody_go(noise: list[float]) -> None:
    fleet = Fleet(*[100.0] * 4)
    for start in range(0, len(noise), 4):
        fleet.decide()
        fleet.round(dict(enumerate(noise[start : start + 4])))
    assert set(fleet.levels.values()) == {0} and not fleet.gone


def test_one_that_is_twenty_times_slower_gets_far_less_and_stays() -> None:
    fleet = Fleet(*[1000.0] * 7, 50.0).play(20)
    assert fleet.levels[7] <= -4 and set(list(fleet.levels.values())[:7]) == {0} and not fleet.gone
    assert fleet.seconds[-1] < fleet.seconds[0] / 10
    assert EXAMPLES / fleet.seconds[-1] > 0.75 * EXAMPLES / (EXAMPLES / 7050 + fleet.idle)
    slower = Fleet(*[100.0] * 7, 5.0).play(30)
    assert slower.levels[7] == -5 and EXAMPLES / slower.seconds[-1] > 0.9 * EXAMPLES / (EXAMPLES / 705 + slower.idle)


def test_half_of_the_workers_stay_usual_and_the_faster_ones_rise_a_step_at_a_time() -> None:
    fleet = Fleet(*[100.0] * 5, 400.0, 400.0)
    seen = []
    for _ in range(4 * SHARES_EVERY):
        fleet.decide()
        fleet.round()
        seen.append(fleet.levels[6])
    assert seen[-1] == 2 and all(after - before <= 1 for before, after in pairwise(seen))
    assert set(list(fleet.levels.values())[:5]) == {0}


def test_a_cut_that_costs_the_manager_more_than_it_brings_is_taken_back() -> None:
    fleet = Fleet(*[1000.0] * 7, 400.0, a_task=0.01, idle=0.0).play(60)
    assert fleet.seconds[-1] <= min(fleet.seconds) * 1.1


def test_who_takes_as_long_whatever_it_is_given_is_let_go() -> None:
    fleet = Fleet(*[1000.0] * 8)
    fleet.held[3] = 0.9
    fleet.play(12)
    assert list(fleet.gone) == [3] and fleet.seconds[-1] < 0.2
    assert not {0, 1, 2, 4, 5, 6, 7} - set(fleet.levels)


def test_who_was_let_go_and_is_no_better_is_let_go_after_one_round() -> None:
    fleet = Fleet(*[1000.0] * 8)
    fleet.held[3] = 0.9
    fleet.play(12)
    fleet.levels[3] = -3
    fleet.play(2)
    assert 3 not in fleet.levels
    fleet.held.clear()
    fleet.levels[3] = 0
    fleet.play(20)
    assert 3 in fleet.levels


def test_two_that_hold_each_other_s_place_are_let_go_together() -> None:
    fleet = Fleet(*[1000.0] * 8)
    fleet.held |= {3: 0.9, 5: 0.9}
    fleet.play(16)
    assert sorted(fleet.gone) == [3, 5]


def test_the_bounds_are_those_that_the_decision_names() -> None:
    assert (MIN_GAIN, HARM) == (0.10, 0.04)


def test_machines_whose_speed_wanders_mostly_keep_their_levels() -> None:
    changed = 0
    for seed in range(20):
        dice, fleet = random.Random(seed), Fleet(*[100.0] * 3)
        for _ in range(40):
            fleet.decide()
            fleet.round({worker: dice.uniform(0.6, 1.6) for worker in range(3)})
        assert not fleet.gone
        changed += fleet.shared >= 0
    assert changed <= 2


def test_no_task_gets_fewer_examples_than_the_program_needs() -> None:
    for least, tail, finest in ((1, EXAMPLES, -4), (50, EXAMPLES, -1), (1, 20, -4), (2, 20, 0)):
        fleet = Fleet(*[1000.0] * 7, 50.0)
        for _ in range(8):
            fleet.round()
        assert fleet.judge.better(CutLimits(tail, least)).get(7, 0) == finest, (least, tail)


def test_no_worker_gets_more_tasks_than_it_can_keep() -> None:
    for most, finest in ((32, -4), (8, -3), (1, 0)):
        fleet = Fleet(*[1000.0] * 7, 50.0)
        for _ in range(8):
            fleet.round()
        assert fleet.judge.better(CutLimits(EXAMPLES, most_tasks=most)).get(7, 0) == finest


def test_who_only_seemed_slow_comes_back_step_by_step() -> None:
    fleet = Fleet(*[1000.0] * 3)
    fleet.levels[1] = -3
    fleet.play(5 * SHARES_EVERY)
    assert set(fleet.levels.values()) == {0}


def test_a_machine_that_becomes_slow_gets_less_and_is_not_let_go() -> None:
    fleet = Fleet(*[1000.0] * 4).play(10)
    fleet.speeds[2] = 100.0
    fleet.play(20)
    assert not fleet.gone and fleet.levels[2] <= -3


def test_tasks_that_cost_their_workers_much_besides_their_examples_are_cut_no_finer() -> None:
    fleet = Fleet(4000.0, 4000.0, 400.0, own=0.2).play(60)
    assert max(fleet.seconds[-20:]) <= 1.05 * fleet.seconds[0] and not fleet.gone
