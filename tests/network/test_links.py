"""What engine and workers expect of any link, over real sockets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from links import Place, worker_key

from podlt.wire import messages as m

ONE, TWO = worker_key(1), worker_key(2)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path / "run")
    yield found
    found.close()


def test_manager_and_identities_hear_each_other_and_what_is_for_members_comes_once_a_process(place: Place) -> None:
    first, second = place.join(ONE, TWO), place.join(worker_key(3))
    place.until(lambda: first.has(ONE.public, b"") and first.has(TWO.public, b"") and bool(second.take()))
    assert first.link.connected and place.link.connected
    large = os.urandom(500_000)
    first.link.send(ONE.public, large)
    first.link.send(TWO.public, b"up")
    place.until(lambda: {(ONE.public, large), (TWO.public, b"up")} <= set(place.came))
    place.link.send(ONE.public, large)
    place.link.send(TWO.public, b"down")
    place.until(lambda: first.has(ONE.public, large) and first.has(TWO.public, b"down"))
    for key in (ONE, TWO):
        place.link.subscribe(key.public, True)
    place.link.publish(b"to members")
    place.link.announce(b"to all")
    place.until(lambda: first.has(None, b"to all") and second.has(None, b"to all"))
    for key in (ONE, TWO):
        place.link.subscribe(key.public, False)
    place.link.publish(b"to nobody")
    place.link.announce(b"last")
    place.until(lambda: first.has(None, b"last") and second.has(None, b"last"))
    assert [message for key, message in first.take() if key is None] == [b"to members", b"to all", b"last"]
    assert [message for key, message in second.take() if key is None] == [b"to all", b"last"]
    assert b"down" not in second.messages()
    assert place.link.room > 0 and place.link.room_for(ONE.public) > 0


def test_messages_of_one_identity_come_in_order_however_many_they_are(place: Place) -> None:
    worker, sent = place.join(ONE), [b"%06d" % n + bytes(n % 7 * 10_000) for n in range(200)]
    place.until(lambda: bool(worker.take()))
    for message in sent:
        worker.link.send(ONE.public, message)
        place.take()
    place.until(lambda: len(place.came) >= len(sent))
    assert [message for _, message in place.came] == sent


def test_who_is_not_invited_learns_why(place: Place) -> None:
    invitation = place.invite(uses=1)
    guest = place.join(ONE, invitation=invitation)
    place.until(lambda: bool(guest.take()))
    stranger = place.join(TWO, invitation=invitation)
    place.until(lambda: bool(stranger.messages()))
    told = m.from_manager(stranger.messages()[0])
    assert isinstance(told, m.JoinRefused) and "used already" in told.reason
    assert not any(key == TWO.public for key, _ in place.came)


def test_who_is_revoked_is_cut_off_reported_and_told_why(place: Place) -> None:
    invitation = place.invite()
    worker, other = place.join(ONE, invitation=invitation), place.join(TWO, invitation=invitation)
    place.until(lambda: bool(worker.take()) and bool(other.take()))
    place.change("revoke", ONE.public.hex(), "its results were wrong")
    place.until(lambda: any(key == ONE.public for key, _ in place.came))
    (left,) = [m.from_worker(message) for key, message in place.came if key == ONE.public]
    assert isinstance(left, m.Leave) and "wrong" in left.reason
    place.until(lambda: bool(worker.messages()))
    told = m.from_manager(worker.messages()[0])
    assert isinstance(told, m.JoinRefused) and "its results were wrong" in told.reason
    other.link.send(TWO.public, b"still here")
    place.until(lambda: (TWO.public, b"still here") in place.came)


def test_who_sends_far_too_many_messages_is_shut_out_and_the_others_go_on(place: Place) -> None:
    hostile, honest = place.join(ONE), place.join(TWO)
    place.until(lambda: bool(hostile.take()) and bool(honest.take()))

    def flooded() -> bool:
        for _ in range(500):
            hostile.link.send(ONE.public, b"x")
        return any(key == ONE.public and len(message) > 1 for key, message in place.came)

    place.until(flooded)
    honest.link.send(TWO.public, b"still here")
    place.until(lambda: (TWO.public, b"still here") in place.came)
    place.until(lambda: bool(hostile.messages()))
    told = m.from_manager(hostile.messages()[0])
    assert isinstance(told, m.Dismissed) and "messages" in told.reason


def test_what_is_dropped_is_heard_no_more(place: Place) -> None:
    worker = place.join(ONE, TWO)
    place.until(lambda: worker.has(ONE.public, b"") and worker.has(TWO.public, b""))
    place.link.drop(ONE.public)
    place.until(lambda: any(key == ONE.public for key, _ in place.came))
    before = len(place.came)
    worker.link.send(ONE.public, b"again")
    worker.link.send(TWO.public, b"and I")
    place.until(lambda: (TWO.public, b"and I") in place.came)
    assert (ONE.public, b"again") not in place.came[before:]


def test_workers_come_back_to_a_manager_that_was_started_again(place: Place) -> None:
    worker = place.join(ONE, TWO)
    place.until(lambda: worker.has(ONE.public, b"") and worker.has(TWO.public, b""))
    place.link.close()
    worker.came.clear()
    place.start()
    place.until(lambda: worker.has(ONE.public, b"") and worker.has(TWO.public, b""))
    worker.link.send(ONE.public, b"here")
    place.until(lambda: (ONE.public, b"here") in place.came)
