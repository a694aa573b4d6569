"""What a round takes from an engine, whatever the engine is."""

from __future__ import annotations

from typing import Any, cast

import pytest

from podlt.canonical import to_json
from podlt.crypto import HashChain
from podlt.engine.local import frames
from podlt.manager import events as ev
from podlt.manager.round_driver import RoundDriver
from podlt.protocol.manager import Manager
from podlt.protocol.rules import RunState
from podlt.units import MOST_SECONDS


class Saying:
    """An engine whose processes say that they took so many seconds."""

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
    driver = RoundDriver(manager, cast(Any, Saying(0.5, lie, 0.25)), cast(Any, None), cast(Any, None), ev.ignore)
    try:
        driver._pump()
    finally:
        driver.close()
    assert driver.figures.compute == 0.75 and 0.75 <= driver.figures.proof < MOST_SECONDS
    to_json([driver.figures.compute, driver.figures.proof])  # must not raise
