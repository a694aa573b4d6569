"""What servers tell of connections, added up over connections that come and go."""

from __future__ import annotations

import pytest

from podlt.network.nats import connections
from podlt.network.nats.connections import Traffic, WorkerConnection


def connection(number: int, nbytes: int, taken: int, key: bytes = b"k" * 32) -> WorkerConnection:
    return WorkerConnection("N1", number, key, "10.0.0.1", 1, nbytes, taken, 1.0)


def test_traffic_goes_on_where_it_was_when_a_connection_is_lost_and_made_again() -> None:
    told: list[tuple[int, int, int]] = []
    traffic = Traffic(lambda *counted: told.append(counted))
    traffic.take([connection(1, 100, 10)], 1)
    traffic.take([connection(1, 150, 15), connection(2, 7, 0)], 2)
    traffic.take([connection(2, 9, 1)], 1)
    traffic.take([], 0)
    traffic.take([connection(3, 5, 5)], 1)
    assert told == [(1, 100, 10), (2, 157, 15), (1, 159, 16), (0, 159, 16), (1, 164, 21)]


def test_what_is_no_news_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [100.0], []
    monkeypatch.setattr("podlt.network.nats.connections.time.monotonic", lambda: now[0])
    traffic = Traffic(lambda *counted: told.append(counted))
    for nbytes in (10, 20, 30):
        traffic.take([connection(1, nbytes, 0)], 1)
        now[0] += connections.COUNT_SECONDS / 2
    now[0] += 10 * connections.COUNT_SECONDS
    traffic.take([connection(1, 30, 0)], 1)
    assert told == [(1, 10, 0), (1, 30, 0)]
