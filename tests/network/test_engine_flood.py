"""Floods of requests: who is not admitted gets the setup and the program, and no worker gets more than it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from flood import measure
from hub import CrewLink, Hub
from near_hosts import train_near
from small_runs import Trained, seeded, small_recipe
from test_engine import crews, keys, whole

import podlt.api
from podlt.manager import events as ev
from podlt.network.blobs.allowance import SMALLEST_NEED, TIMES
from podlt.remote.workplace import RemoteMachines
from podlt.wire import messages as m

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same recipe on one machine."""
    return train_near(tmp_path_factory.mktemp("local") / "run", small_recipe(epochs=1), entropy=seeded(1))


class Open(Hub):
    """A hub on which it is known what the manager sends to whom."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[bytes, int] = {}
        self.to: dict[bytes, list[m.Down]] = {}
        self.bytes_to: dict[bytes, int] = {}

    def send(self, key: bytes, message: bytes) -> None:
        said = m.from_manager(message)
        if isinstance(said, m.Setup):
            self.known[said.program_blob] = said.program_size
        self.to.setdefault(key, []).append(said)
        self.bytes_to[key] = self.bytes_to.get(key, 0) + len(message)
        super().send(key, message)

    def publish(self, message: bytes) -> None:
        said = m.from_manager(message)
        if isinstance(said, m.Parameters):
            self.known[said.digest] = said.size
        super().publish(message)

    def flood(self, key: bytes) -> None:
        """Asks for everything that there is, many times."""
        for _ in range(20):
            self.up.put(key, m.record(m.Hello(version=m.VERSION)))
            self.up.put(key, m.record(m.GetReceipts(first=0)))
            self.up.put(key, m.record(m.Heartbeat(deal_id=bytes(8), in_hand=[])))
            for digest in list(self.known):
                self.up.put(key, m.record(m.GetParameters(digest=digest)))


class Stranger(CrewLink):
    """Knows the channel, and never joins."""

    def begin(self, manager: bytes) -> None:
        pass


def flooded(hub: Open, path: Path, key: bytes) -> Trained:
    """Trains, with a flood from a key after each round."""
    events: list[ev.Event] = []

    def listen(event: ev.Event) -> None:
        events.append(event)
        if isinstance(event, ev.RoundDone):
            hub.flood(key)

    place = RemoteMachines(hub.connect, heartbeat_seconds=hub.beat)
    result = podlt.api.train(small_recipe(epochs=1), run=path, listener=listen, place=place, entropy=seeded(1))
    return Trained(result, events)


def test_who_is_not_admitted_gets_the_setup_and_the_program_and_nothing_else(tmp_path: Path, local: Trained) -> None:
    hub = Open()
    crews(hub, tmp_path, 3, 3, 2)
    key = keys(1, 90)[0]
    Stranger(hub, [key], tmp_path / "stranger")
    trained = flooded(hub, tmp_path / "run", key.public)
    whole(trained)
    assert trained.result.parameters == local.result.parameters
    assert not trained.result.evicted and not trained.of(ev.Withdrawn)
    said = hub.to[key.public]
    setup = next(one for one in said if isinstance(one, m.Setup))
    assert len(hub.known) > 5
    assert {type(one) for one in said} <= {m.Setup, m.ManagerHello, m.JoinRefused}
    assert hub.bytes_to[key.public] <= (TIMES + 1) * (SMALLEST_NEED + setup.program_size) + MEGABYTE


def test_a_worker_that_asks_for_all_again_and_again_gets_it_about_once_a_round(tmp_path: Path, local: Trained) -> None:
    hub = Open()
    crews(hub, tmp_path, 3, 3, 2)
    key = keys(1)[0].public
    trained = flooded(hub, tmp_path / "run", key)
    whole(trained)
    assert trained.result.parameters == local.result.parameters
    assert not trained.result.evicted and not trained.of(ev.Withdrawn)
    others = max(nbytes for other, nbytes in hub.bytes_to.items() if other != key)
    rounds = len(trained.of(ev.RoundDone))
    assert hub.bytes_to[key] - others <= (TIMES + rounds + 1) * (SMALLEST_NEED + max(hub.known.values())) + MEGABYTE


@pytest.mark.slow
@pytest.mark.parametrize(("who", "factor"), [("stranger", 0.0), ("member", 2.0)])
def test_a_flood_of_requests_takes_neither_memory_nor_the_line_of_a_real_manager(
    tmp_path: Path, who: str, factor: float
) -> None:
    found = measure(tmp_path, who, rate=40.0, seconds=8.0)
    assert found["asked_MB"] > 10 and found["rounds_during"] > 0
    needed = found["parameters_MB"] + 0.5  # and setup, program, tasks
    assert found["sent_MB"] < needed * (TIMES + 2 + factor * found["rounds_during"])
    assert found["manager_peak_MB"] < found["manager_before_MB"] + 100
