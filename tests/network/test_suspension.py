"""A worker that is convicted once may come back, if it is started again; a second conviction is the last."""

from __future__ import annotations

from pathlib import Path

from hub import CrewLink, Hub
from small_runs import Trained, entries, tiny_recipe
from test_engine import crews, keys

import podlt.api
from podlt.errors import StopTraining
from podlt.manager import events as ev
from podlt.manager.roster import EVICTED, SUSPENDED
from podlt.protocol import entries as e
from podlt.recipe import ProtocolSpec
from podlt.remote.workplace import RemoteMachines
from podlt.verify import verify

CHEATER = 7


def test_a_suspended_worker_is_told_so_comes_back_once_and_is_evicted_the_second_time(tmp_path: Path) -> None:
    hub, key = Hub(), keys(1, CHEATER)
    honest = crews(hub, tmp_path, 2)
    lives = [CrewLink(hub, key, tmp_path / "cheater", "sign-flip")]
    told: list[ev.Event] = []

    def listen(event: ev.Event) -> None:
        told.append(event)
        if not isinstance(event, ev.RoundDone) or lives[-1].outcome is None:
            return
        if len(lives) == 3:
            raise StopTraining("seen enough")
        lives.append(CrewLink(hub, key, tmp_path / "cheater", "sign-flip"))
        lives[-1].begin(hub.manager)

    rules = ProtocolSpec(checked=0.0, own=1.0, own_most=9)
    recipe = tiny_recipe(epochs=2000, protocol=rules)
    place = RemoteMachines(hub.connect, heartbeat_seconds=hub.beat)
    result = podlt.api.train(recipe, run=tmp_path / "run", place=place, listener=listen)
    trained = Trained(result, told)
    assert all(crew.join() is not None for crew in honest)
    outcomes = [life.join() for life in lives]
    assert [(o.how, o.reason) for o in outcomes if o is not None] == [
        ("refused", SUSPENDED), ("refused", EVICTED), ("refused", EVICTED)
    ]  # fmt: skip
    (number,) = trained.result.evicted
    assert trained.result.convicted == [number]
    assert [event.status for event in trained.of(ev.Convicted)] == ["suspended", "evicted"]
    joins = [entry for entry in entries(tmp_path / "run") if isinstance(entry, e.Join) and entry.worker == number]
    assert len(joins) == 2 and joins[0].key == joins[1].key == key[0].public and joins[0].seen < joins[1].seen
    assert [event.again for event in trained.of(ev.Joined) if event.worker == number] == [False, True]
    assert trained.result.ledger[number].vested == 0 and verify(tmp_path / "run", jobs=1).ok
