"""Who is awaited before a run begins or goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from podlt.engine.interface import Member
from podlt.training import events as ev
from podlt.training.membership import RETURN_SECONDS, Membership


class World:
    """An engine, a manager and a clock: each key of `coming` arrives in a step of its own, a second later."""

    elastic = True

    def __init__(self, known: list[bytes], coming: list[bytes]) -> None:
        self.now, self.coming, self.told = 0.0, list(coming), list[ev.Event]()
        self.lost_workers: list[int] = []
        workers = {n: SimpleNamespace(key=key, status="active") for n, key in enumerate(known)}
        self.state = SimpleNamespace(
            run=b"",
            round=0,
            workers=workers,
            active=self._active,
            takes_deposits=False,
            begin=SimpleNamespace(spares=2),
        )

    def begin(self, wanted: int) -> None:
        here = cast(Any, self)
        Membership(here, here, self.told.append, clock=lambda: self.now).begin(wanted)

    def _active(self) -> list[int]:
        return [n for n, worker in self.state.workers.items() if worker.status == "active"]

    def members(self, run: bytes) -> list[Member]:
        return []

    def arrivals(self, seconds: float) -> list[Member]:
        self.now += 1.0
        assert self.now < 1000, "nobody comes any more"
        return [Member(self.coming.pop(0), b"")] if self.coming else []

    def departures(self) -> list[Any]:
        return []

    def admitted(self, member: Member, number: int) -> None:
        pass

    def join(self, key: bytes, sign: Any, deposit: int) -> int:
        number = len(self.state.workers)
        self.state.workers[number] = SimpleNamespace(key=key, status="active")
        return number

    def lost(self, number: int, reason: str) -> None:
        self.lost_workers.append(number)
        self.state.workers[number].status = "withdrawn"

    @property
    def waits(self) -> list[tuple[int, int]]:
        return [(event.workers, event.wanted) for event in self.told if isinstance(event, ev.Waiting)]


KNOWN = [b"a", b"b", b"c"]


def test_a_run_that_goes_on_waits_for_as_many_workers_as_are_asked_for() -> None:
    world = World(KNOWN, [*KNOWN, b"d", b"e", b"f"])
    world.begin(5)
    assert world._active() == [0, 1, 2, 3, 4] and world.coming == [b"f"]
    assert world.waits == [(n, 5) for n in range(5)]
    assert world.told[-1] == ev.Gathered(workers=5)


@pytest.mark.parametrize("wanted", [0, 3])
def test_a_run_that_goes_on_waits_for_those_who_were_in_it(wanted: int) -> None:
    world = World(KNOWN, [b"x", *KNOWN, b"y"])
    world.begin(wanted)
    assert world.coming == [b"y"] and not world.lost_workers


def test_who_does_not_come_back_in_time_withdraws_once_enough_others_are_there() -> None:
    world = World(KNOWN, [b"a", b"x", b"y", b"z"])
    world.begin(4)
    assert world.now > RETURN_SECONDS and world.lost_workers == [1, 2] and len(world._active()) == 4


def test_a_new_run_waits_for_nobody_else_than_those_asked_for() -> None:
    world = World([], [*KNOWN, b"d"])
    world.begin(3)
    assert world.coming == [b"d"] and world.waits == [(0, 3), (1, 3), (2, 3)]


def test_nothing_is_said_of_a_wait_where_nobody_had_to_wait() -> None:
    world = World([], [])
    world.begin(0)
    assert world.told == []
