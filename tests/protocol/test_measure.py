"""Figures on the test set: one entry after each epoch, of the parameters after it, and none otherwise."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from scripted import CLASSIC, failing, scripted_world, verified

from podlt.protocol import entries as e
from podlt.protocol.claims import Claim
from podlt.protocol.rules import RunState
from podlt.sim.world import MemoryLog, Scenario, World

from .steps_of_a_round import refused

TESTED = Scenario(examples=12, epochs=2, batch_size=6, tested=True, protocol=CLASSIC)


def entries_of(log: MemoryLog) -> list[e.AnyEntry]:
    return [e.decode(body) for _, _, body in log.entries()]


WORLD, LOG = scripted_world(TESTED, 4)
while WORLD.step():
    pass
ENTRIES = entries_of(LOG)
FIRST, SECOND = [i for i, entry in enumerate(ENTRIES) if isinstance(entry, e.Measure)]


def state_before(number: int) -> RunState:
    state = RunState()
    for entry in ENTRIES[:number]:
        state.apply(entry)
    return state


def test_figures_stand_after_each_epoch_and_name_what_they_are_of() -> None:
    assert not failing(verified(WORLD, LOG))
    for number, epoch in ((FIRST, 0), (SECOND, 1)):
        found, applied = ENTRIES[number], ENTRIES[number - 2]
        assert isinstance(found, e.Measure) and isinstance(applied, e.Apply)
        assert found.epoch == epoch and found.parameters == applied.parameters
        assert found.test == WORLD.state.begin.test != e.NO_TEST  # type: ignore[union-attr]
    assert WORLD.state.measured == 2 and WORLD.state.last_measure == ENTRIES[SECOND]


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 1},
        {"test": e.NO_TEST},
        {"test": bytes([1]) * 32},
        {"parameters": bytes(32)},
        {"figures": [e.Figure("loss", 1.0), e.Figure("accuracy", 0.5)]},
        {"figures": [e.Figure("loss", 1.0), e.Figure("loss", 1.0)]},
        {"figures": [e.Figure("loss", 1.0), e.Figure("loss", 2.0)]},
        {"figures": [e.Figure("loss", math.nan)]},
        {"figures": [e.Figure("loss", math.inf)]},
        {"figures": [e.Figure("loss", -math.inf)]},
    ],
)
def test_figures_of_something_else_out_of_order_or_not_finite_are_refused(change: dict[str, Any]) -> None:
    entry = msgspec.structs.replace(ENTRIES[FIRST], **change)
    assert refused(state_before(FIRST), entry).step == Claim.PROGRESS


def test_figures_are_logged_once() -> None:
    again = refused(state_before(FIRST + 1), ENTRIES[FIRST])
    assert again.step == Claim.PROGRESS and "no figures are due" in again.reason


def test_no_round_opens_and_no_run_is_complete_while_figures_are_due() -> None:
    opening = refused(state_before(FIRST), ENTRIES[FIRST + 1])
    assert isinstance(ENTRIES[FIRST + 1], e.Open)
    assert opening.step == Claim.PROGRESS and "figures of the epoch before are missing" in opening.reason
    state = state_before(SECOND)
    close = e.Close(at=state.at, outcome="complete", reason="")
    assert refused(state, close).step == Claim.OUTCOME


def test_a_run_stops_and_goes_on_and_workers_come_and_go_while_figures_are_due() -> None:
    state = state_before(FIRST)
    at = state.at
    state.apply(e.Withdraw(at=at, worker=0, reason=""))
    state.apply(e.Close(at=at, outcome="stopped", reason=""))
    state.apply(e.Resume(at=at))
    assert state.measure_due
    state.apply(msgspec.structs.replace(ENTRIES[FIRST], at=at))
    assert not state.measure_due


def test_figures_are_refused_within_a_round_before_an_epoch_ends_and_without_a_test_set() -> None:
    middle = next(i for i, entry in enumerate(ENTRIES) if isinstance(entry, e.Pay)) + 1
    assert middle < FIRST and refused(state_before(middle), at_state(middle)).step == Claim.PROGRESS
    inside = next(i for i, entry in enumerate(ENTRIES) if isinstance(entry, e.Reveal))
    assert refused(state_before(inside), at_state(inside)).step == Claim.PROGRESS
    untested, _ = scripted_world(msgspec.structs.replace(TESTED, tested=False), 4)
    while untested.state.epoch == 0:
        untested.step()
    entry = msgspec.structs.replace(ENTRIES[FIRST], at=untested.state.at, parameters=untested.state.parameters)
    for test in (entry.test, e.NO_TEST):
        assert refused(untested.state, msgspec.structs.replace(entry, test=test)).step == Claim.PROGRESS


def at_state(number: int) -> e.Entry:
    return msgspec.structs.replace(ENTRIES[FIRST], at=ENTRIES[number].at)


def without_test() -> World:
    world, _ = scripted_world(msgspec.structs.replace(TESTED, tested=False), 4)
    while world.step():
        pass
    return world


def test_without_a_test_set_a_run_is_complete_without_figures() -> None:
    world = without_test()
    assert world.state.closed is not None and world.state.closed.outcome == "complete"
    assert world.state.measured == 0 and world.state.last_measure is None


def test_the_manager_leaves_out_what_is_not_finite_and_sorts_the_rest() -> None:
    world, _ = scripted_world(msgspec.structs.replace(TESTED, epochs=1), 4)
    world.manager.take()
    state = state_before(FIRST)
    world.manager.state = state
    found = world.manager.measure({"loss": math.nan, "b": 2.0, "a": 1.0, "c": math.inf})
    assert found.figures == [e.Figure("a", 1.0), e.Figure("b", 2.0)]
    assert world.manager.take() == [found]


def test_a_run_whose_figures_are_none_is_still_a_run() -> None:
    state = state_before(FIRST)
    state.apply(msgspec.structs.replace(ENTRIES[FIRST], figures=[]))
    assert state.measured == 1
