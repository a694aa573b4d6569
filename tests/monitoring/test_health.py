"""Is the run alive: decided from events and a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.manager import events as ev
from podlt.monitoring.health import AWAITING, LEAST, STARTING, TIMES, HealthCheck

STARTED = ev.Started(
    run="ab", path="runs/x", workers=10, processes=2, parameters=1234, examples=1000, epochs=1, rounds=10, resumed=False
)


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def done(number: int, seconds: float = 1.0) -> ev.RoundDone:
    return ev.RoundDone(round=number, rounds=10, epoch=0, loss=1.0, examples=100, seconds=seconds, workers=9, checked=1)


def test_a_start_may_take_long_but_not_for_ever() -> None:
    check = HealthCheck(clock := Clock())
    check(ev.Preparing(what="fetching"))
    clock.now += STARTING
    assert check.alive().ok and not check.ready().ok
    clock.now += 1
    health = check.alive()
    assert not health.ok and "fetching" in health.reason and health.state == "starting"


def test_whoever_awaits_workers_is_alive_as_long_as_it_says_so_and_not_ready() -> None:
    check = HealthCheck(clock := Clock())
    for _ in range(1000):
        check(ev.Waiting(workers=1, wanted=3))
        clock.now += AWAITING
        assert check.alive().ok
        health = check.ready()
        assert not health.ok and health.reason == "1 of 3 workers are there"
    clock.now += 1
    assert not check.alive().ok


def test_a_run_that_trains_is_ready_until_no_round_comes() -> None:
    check = HealthCheck(clock := Clock())
    check(STARTED)
    assert check.ready().ok
    check(done(0))
    clock.now += LEAST
    assert check.ready().ok and check.ready().round == 0 and check.ready().run == "ab"
    clock.now += 1
    for health in (check.alive(), check.ready()):
        assert not health.ok and health.reason == "no round for 301 s (round 0 is done)"
    check(done(1))
    assert check.ready().ok


def test_a_run_that_waits_for_workers_again_is_alive_and_not_ready() -> None:
    check = HealthCheck(Clock())
    for event in (STARTED, done(0), ev.Waiting(workers=2, wanted=3)):
        check(event)
    assert check.alive().ok and not check.ready().ok
    check(done(1))
    assert check.ready().ok


def test_a_run_that_has_waited_for_workers_has_as_long_for_its_next_round_as_any_other() -> None:
    check = HealthCheck(clock := Clock())
    for event in (STARTED, done(0, 120.0), ev.Waiting(workers=2, wanted=3), ev.Gathered(workers=3)):
        check(event)
    clock.now += TIMES * 120
    assert check.ready().ok and check.alive().reason == "3 workers are there"
    clock.now += 1
    assert not check.alive().ok


def test_a_start_that_has_waited_for_workers_may_take_long_again() -> None:
    check = HealthCheck(clock := Clock())
    for event in (ev.Waiting(workers=2, wanted=3), ev.Gathered(workers=3)):
        check(event)
    clock.now += AWAITING + 1  # figures are measured before a run goes on
    assert check.alive().ok and not check.ready().ok and check.alive().state == "starting"


def test_a_worker_that_goes_is_no_sign_of_life() -> None:
    check = HealthCheck(clock := Clock())
    check(STARTED)
    check(done(0))
    clock.now += LEAST + 1
    check(ev.Withdrawn(worker=1, round=1, reason="gone"))
    assert not check.alive().ok


def test_a_finished_run_is_alive_and_trains_no_more() -> None:
    check = HealthCheck(clock := Clock())
    for event in (STARTED, done(0), ev.Finished(rounds=1, seconds=1.0)):
        check(event)
    clock.now += 10**6
    assert check.alive().ok and not check.ready().ok


@given(st.lists(st.floats(0.001, 10_000), min_size=1, max_size=40), st.floats(0, 10**6))
def test_the_limit_follows_the_longest_of_the_last_rounds(seconds: list[float], pause: float) -> None:
    check = HealthCheck(clock := Clock())
    check(STARTED)
    for number, each in enumerate(seconds):
        clock.now += each
        check(done(number, each))
    clock.now += pause
    health = check.alive()
    assert health.limit == pytest.approx(max(LEAST, TIMES * max(seconds[-20:])))
    assert health.ok == (clock.now - (clock.now - pause) <= health.limit) or pause == pytest.approx(health.limit)
