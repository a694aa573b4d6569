"""What a round takes from an engine, whatever the engine is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from small_runs import OFTEN, seeded, small_recipe, train

from podlt.canonical import to_json
from podlt.crypto import HashChain
from podlt.engine.local import frames
from podlt.errors import PeerError
from podlt.manager import events as ev
from podlt.manager.round_driver import LITTLE, SAMPLE, RoundDriver
from podlt.manager.weights import Weights
from podlt.protocol.manager import Manager
from podlt.protocol.messages import Committed
from podlt.protocol.rules import RunState
from podlt.units import MOST_SECONDS


class Recording:
    """A manager that takes what it is told, and engine and weights that have nothing else to say."""

    def __init__(self, bad: int | None = None) -> None:
        self.state, self.trusted, self._bad = RunState(), True, bad
        self.checked: list[int] = []
        self.taken: list[int] = []

    def committed(self, message: Committed, *, trusted: bool = False) -> None:
        if not trusted and message.seat == self._bad:
            raise PeerError(message.holder, "commitment", "the signature does not hold")
        (self.taken if trusted else self.checked).append(message.seat)


def weights_of(nbytes: int) -> Any:
    """Of a program whose updates have so many bytes."""
    return SimpleNamespace(update_layout=SimpleNamespace(nbytes=nbytes))


def answers(engine: Recording, count: int, nbytes: int = 64) -> RoundDriver:
    driver = RoundDriver(cast(Any, engine), cast(Any, engine), cast(Any, None), weights_of(nbytes), ev.ignore)
    driver._tasks = {(seat, seat): cast(Any, None) for seat in range(count)}
    committed = [Committed(seat, seat, bytes(32), bytes(64)) for seat in range(count)]
    driver._executed(
        frames.Results(round=0, committed=committed, done=[], faked=[], proof_seconds=0.0, compute_seconds=0.0)
    )
    driver.close()
    return driver


def test_of_what_a_process_of_this_machine_signed_one_in_sixteen_is_checked_again_and_each_seat_in_its_turn() -> None:
    seats, looked_at = list(range(50)), set[int]()
    for round in range(SAMPLE):
        own = Recording()
        own.state.round = round
        answers(own, len(seats))
        assert 3 <= len(own.checked) <= 4 and sorted(own.checked + own.taken) == seats
        looked_at |= set(own.checked)
    assert looked_at == set(seats)


@pytest.mark.parametrize("nbytes", [64, LITTLE])
def test_of_what_a_stranger_signed_all_is_checked_on_one_thread_or_two(nbytes: int) -> None:
    strange = Recording()
    strange.trusted = False
    answers(strange, 50, nbytes)
    assert (sorted(strange.checked), strange.taken) == (list(range(50)), [])


def test_a_process_of_this_machine_whose_sample_does_not_hold_loses_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[tuple[int, str]] = []
    monkeypatch.setattr(RoundDriver, "_lose", lambda _, worker, reason: lost.append((worker, reason)))
    answers(Recording(bad=0), 3)
    assert [worker for worker, _ in lost] == [0] and "does not hold" in lost[0][1]


class Saying:
    """An engine whose processes say that they took so many seconds."""

    trusted = False

    def __init__(self, *seconds: float) -> None:
        self._seconds = seconds

    def events(self) -> list[frames.Results]:
        return [
            frames.Results(round=0, committed=[], done=[], faked=[], proof_seconds=said, compute_seconds=said)
            for said in self._seconds
        ]


@pytest.mark.parametrize("lie", [float("nan"), float("inf"), -float("inf"), -1e300, 1e300])
def test_seconds_that_cannot_be_are_not_added_to_what_a_round_took(lie: float) -> None:
    manager = Manager(RunState(), HashChain(bytes(32), 10), lambda: 0)
    driver = RoundDriver(manager, cast(Any, Saying(0.5, lie, 0.25)), cast(Any, None), weights_of(64), ev.ignore)
    try:
        driver._pump()
    finally:
        driver.close()
    assert driver.figures.compute == 0.75 and 0.75 <= driver.figures.proof < MOST_SECONDS
    to_json([driver.figures.compute, driver.figures.proof])  # must not raise


def test_a_round_is_averaged_once_and_again_only_where_something_else_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaged: list[int] = []
    average = Weights.average

    def counted(self: Weights, *given: Any) -> Any:
        averaged.append(self.steps)
        return average(self, *given)

    monkeypatch.setattr(Weights, "average", counted)
    recipe = small_recipe(epochs=1, protocol=OFTEN)
    honest = train(tmp_path / "honest", recipe, entropy=seeded(4))
    assert averaged == list(range(honest.result.rounds))
    averaged.clear()
    cheated = train(tmp_path / "cheated", recipe, cheats=["2:sign-flip"], entropy=seeded(4))
    assert len(cheated.result.convicted) == 2
    again = {step for step in averaged if averaged.count(step) > 1}
    assert 1 <= len(again) < cheated.result.rounds == len(set(averaged))
