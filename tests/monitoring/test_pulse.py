"""Is the run alive: decided from events and a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.manager import events as ev
from podlt.monitoring.health import AWAITING, LEAST, STARTING, TIMES, Pulse

STARTED = ev.Started(
    run="ab", path="runs/x", workers=10, processes=2, parameters=1234, lines=1000, epochs=1, rounds=10, resumed=False
)


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def done(number: int, seconds: float = 1.0) -> ev.RoundDone:
    return ev.RoundDone(round=number, rounds=10, epoch=0, loss=1.0, lines=100, seconds=seconds, workers=9, checked=1)


def test_a_start_may_take_long_but_not_for_ever() -> None:
    pulse = Pulse(clock := Clock())
    pulse(ev.Preparing(what="fetching"))
    clock.now += STARTING
    assert pulse.alive().ok and not pulse.ready().ok
    clock.now += 1
    health = pulse.alive()
    assert not health.ok and "fetching" in health.reason and health.state == "starting"


def test_whoever_awaits_workers_is_alive_as_long_as_it_says_so_and_not_ready() -> None:
    pulse = Pulse(clock := Clock())
    for _ in range(1000):
        pulse(ev.Waiting(workers=1, wanted=3))
        clock.now += AWAITING
        assert pulse.alive().ok
        health = pulse.ready()
        assert not health.ok and health.reason == "1 of 3 workers are there"
    clock.now += 1
    assert not pulse.alive().ok


def test_a_run_that_trains_is_ready_until_no_round_comes() -> None:
    pulse = Pulse(clock := Clock())
    pulse(STARTED)
    assert pulse.ready().ok
    pulse(done(0))
    clock.now += LEAST
    assert pulse.ready().ok and pulse.ready().round == 0 and pulse.ready().run == "ab"
    clock.now += 1
    for health in (pulse.alive(), pulse.ready()):
        assert not health.ok and health.reason == "no round for 301 s (round 0 is done)"
    pulse(done(1))
    assert pulse.ready().ok


def test_a_run_that_waits_for_workers_again_is_alive_and_not_ready() -> None:
    pulse = Pulse(Clock())
    for event in (STARTED, done(0), ev.Waiting(workers=2, wanted=3)):
        pulse(event)
    assert pulse.alive().ok and not pulse.ready().ok
    pulse(done(1))
    assert pulse.ready().ok


def test_a_run_that_has_waited_for_workers_has_as_long_for_its_next_round_as_any_other() -> None:
    pulse = Pulse(clock := Clock())
    for event in (STARTED, done(0, 120.0), ev.Waiting(workers=2, wanted=3), ev.Gathered(workers=3)):
        pulse(event)
    clock.now += TIMES * 120
    assert pulse.ready().ok and pulse.alive().reason == "3 workers are there"
    clock.now += 1
    assert not pulse.alive().ok


def test_a_start_that_has_waited_for_workers_may_take_long_again() -> None:
    pulse = Pulse(clock := Clock())
    for event in (ev.Waiting(workers=2, wanted=3), ev.Gathered(workers=3)):
        pulse(event)
    clock.now += AWAITING + 1  # figures are measured before a run goes on
    assert pulse.alive().ok and not pulse.ready().ok and pulse.alive().state == "starting"


def test_a_worker_that_goes_is_no_sign_of_life() -> None:
    pulse = Pulse(clock := Clock())
    pulse(STARTED)
    pulse(done(0))
    clock.now += LEAST + 1
    pulse(ev.Withdrawn(worker=1, round=1, reason="gone"))
    assert not pulse.alive().ok


def test_a_finished_run_is_alive_and_trains_no_more() -> None:
    pulse = Pulse(clock := Clock())
    for event in (STARTED, done(0), ev.Finished(rounds=1, seconds=1.0)):
        pulse(event)
    clock.now += 10**6
    assert pulse.alive().ok and not pulse.ready().ok


@given(st.lists(st.floats(0.001, 10_000), min_size=1, max_size=40), st.floats(0, 10**6))
def test_the_limit_follows_the_longest_of_the_last_rounds(seconds: list[float], pause: float) -> None:
    pulse = Pulse(clock := Clock())
    pulse(STARTED)
    for number, each in enumerate(seconds):
        clock.now += each
        pulse(done(number, each))
    clock.now += pause
    health = pulse.alive()
    assert health.limit == pytest.approx(max(LEAST, TIMES * max(seconds[-20:])))
    assert health.ok == (clock.now - (clock.now - pause) <= health.limit) or pause == pytest.approx(health.limit)
