"""A manager's own server: what ends, what is bounded, and what a client that means harm comes to."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from links import MANAGER, Place, Raw, resident, worker_key
from patience import Patience

from podlt.access.certificate import CERTIFICATE, PRIVATE_KEY, server_context
from podlt.access.first_invitation import read_invitation
from podlt.access.invitation import write
from podlt.crypto import SigningKey
from podlt.errors import EngineError
from podlt.network.client.link import GONE_SECONDS, ClientLink
from podlt.network.frames import BINARY, TEXT, head
from podlt.network.server.pages import connections_of
from podlt.store.run_names import INVITATION, SERVER
from podlt.wire import control
from podlt.wire import messages as m

ONE, TWO, HOSTILE = worker_key(1), worker_key(2), worker_key(666)

SPEAK = """
import sys, time
from podlt.crypto import SigningKey
from podlt.access.first_invitation import read_invitation
from podlt.network.client.link import ClientLink
link = ClientLink(read_invitation(sys.argv[1]), [SigningKey(int(n).to_bytes(32, "big")) for n in sys.argv[2:]])
came = []
link.listen(came.extend)
link.start()
while not came: time.sleep(0.01)
while True: time.sleep(1)
"""


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server looks more often, and waits for nobody as long as in earnest."""
    monkeypatch.setattr("podlt.network.server.manager_link.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("podlt.network.server.manager_link.AGAIN_SECONDS", 1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("shared") / "run")
    yield found
    found.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path / "run")
    yield found
    found.close()


def fresh() -> SigningKey:
    """A key of its own for each test that shares a server, which lets nobody log in too often."""
    return SigningKey(os.urandom(32))


def others_go_on(place: Place) -> None:
    """A worker that was not there before joins, and is heard."""
    key, said = fresh(), os.urandom(8)
    worker = place.join(key)
    place.until(lambda: bool(worker.take()))
    worker.link.send(key.public, said)
    place.until(lambda: (key.public, said) in place.came)
    worker.link.close()


def left(place: Place, key: bytes) -> list[str]:
    """Why a key left, each time that it did."""
    said = [m.from_worker(message) for one, message in place.came if one == key and message[:1] != b"x"]
    return [one.reason for one in said if isinstance(one, m.Leave)]


def test_the_first_invitation_is_for_as_many_workers_as_the_recipe_asks_for(shared: Place) -> None:
    first = read_invitation(str(shared.registry.run / INVITATION))
    issued = shared.registry.state.invitations[first.name]
    assert first.uses == issued.uses == 3 and issued.expires > issued.issued


def test_a_process_that_is_killed_is_reported_for_each_of_its_keys(place: Place) -> None:
    process = subprocess.Popen([sys.executable, "-c", SPEAK, write(place.invite()), "1", "2"])
    try:
        place.until(lambda: len(place.link.connections()) == 2)
    finally:
        process.kill()
        process.wait()
    place.until(lambda: bool(left(place, ONE.public)) and bool(left(place, TWO.public)))
    assert left(place, ONE.public) == ["connection lost"] == left(place, TWO.public)


def test_who_comes_back_in_time_and_who_takes_leave_is_not_reported_as_lost(place: Place) -> None:
    first = Raw(place.invite())
    first.upgrade()
    assert isinstance(first.log_in(ONE), control.LoggedIn)
    first.close()
    place.until(lambda: not place.link.connections())
    worker = place.join(ONE)
    place.until(lambda: bool(worker.take()))
    leaves = place.join(TWO)
    place.until(lambda: bool(leaves.take()))
    leaves.link.close()
    end = time.monotonic() + 1.5
    place.until(lambda: time.monotonic() > end)
    assert left(place, ONE.public) == [] == left(place, TWO.public)


def test_a_key_in_two_places_works_on_in_the_first_and_the_second_is_told(place: Place) -> None:
    first, second = place.join(ONE), place.join(ONE)
    place.until(lambda: bool(first.messages() or second.messages()))
    works, waits = (second, first) if first.messages() else (first, second)
    told = m.from_manager(waits.messages()[0])
    assert isinstance(told, m.Dismissed) and "another process with this key" in told.reason
    works.link.send(ONE.public, b"xhere")
    place.until(lambda: (ONE.public, b"xhere") in place.came)
    works.link.close()
    place.until(lambda: waits.has(ONE.public, b""))


def test_an_identity_that_is_dropped_leaves_the_others_their_connection(place: Place) -> None:
    worker = place.join(ONE, TWO)
    place.until(lambda: worker.has(ONE.public, b"") and worker.has(TWO.public, b""))
    worker.link.drop(ONE.public)
    place.until(lambda: [one.key for one in place.link.connections()] == [TWO.public.hex()])
    worker.link.send(TWO.public, b"xhere")
    place.until(lambda: (TWO.public, b"xhere") in place.came)


@pytest.mark.parametrize(
    "changed",
    [{"signature": bytes(64)}, {"key": TWO.public}, {"secret": b"s" * 16}, {"deposit": 5}],
    ids=lambda changed: next(iter(changed)),
)
def test_nobody_logs_in_by_what_was_not_signed(shared: Place, changed: dict[str, object]) -> None:
    raw = Raw(shared.invite())
    raw.upgrade()
    with pytest.raises(EOFError, match="not signed"):
        raw.log_in(HOSTILE, **changed)
    assert raw.is_closed() and HOSTILE.public.hex() not in {one.key for one in shared.link.connections()}


def test_a_signature_is_good_for_one_connection(shared: Place) -> None:
    first, second = Raw(shared.invite()), Raw(shared.invite())
    first.upgrade()
    second.upgrade()
    second.challenge = first.challenge
    with pytest.raises(EOFError, match="not signed"):
        second.log_in(HOSTILE)
    assert isinstance(first.log_in(fresh()), control.LoggedIn)
    first.close()


BODY = bytes(100)


@pytest.mark.parametrize(
    "frame",
    [
        b"\x82\xff" + (2**63 - 1).to_bytes(8, "big") + bytes(4),
        b"\x82\xff" + (control.LONGEST_FRAME + 1).to_bytes(8, "big") + bytes(4),
        head(TEXT, 100, masked=True) + BODY,
        head(BINARY, 100, masked=False) + BODY,
        head(BINARY, 1, masked=True) + b"x",
        b"\x89\xfe\x00\x80" + bytes(132),
        b"\xf2\x80" + bytes(4),
        b"\x80\x80" + bytes(4),
        head(BINARY, 4, masked=True) + b"\xff\xfe{}",
        os.urandom(20_000),
    ],
    ids=["endless", "long", "text", "unmasked", "short", "long ping", "reserved", "continued", "record", "rubbish"],
)
@pytest.mark.parametrize("inside", [False, True], ids=["stranger", "member"])
def test_a_malformed_frame_ends_its_own_connection_alone(shared: Place, frame: bytes, inside: bool) -> None:
    raw = Raw(shared.invite())
    raw.upgrade()
    if inside:
        assert isinstance(raw.log_in(fresh()), control.LoggedIn)
    raw.write(frame)
    assert raw.is_closed()
    others_go_on(shared)


def test_who_sends_more_than_it_was_granted_is_cut_off(place: Place) -> None:
    raw, before = Raw(place.invite()), resident()
    raw.upgrade()
    answer = raw.log_in(HOSTILE)
    assert isinstance(answer, control.LoggedIn)
    for _ in range(200):
        raw.send(answer.index, b"x" * 500_000)
    assert raw.is_closed()
    assert resident() - before < 64 * 2**20
    others_go_on(place)


def test_who_keeps_to_its_credit_may_send_any_amount(place: Place) -> None:
    worker = place.join(ONE)
    place.until(lambda: bool(worker.take()))
    for _ in range(60):
        worker.link.send(ONE.public, b"x" * 500_000)
    place.until(lambda: len(place.came) == 60)
    assert {len(message) for _, message in place.came} == {500_000}


def test_who_does_not_read_keeps_nobody_waiting_and_is_cut_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podlt.network.server.connection.STALL_SECONDS", 0.5)
    raw, before = Raw(place.invite()), resident()
    raw.upgrade()
    assert isinstance(raw.log_in(HOSTILE), control.LoggedIn)
    large = os.urandom(500_000)
    for _ in range(400):  # references to the same bytes, until there is no room
        if place.link.room_for(HOSTILE.public):
            place.link.send(HOSTILE.public, large)
    place.until(lambda: place.link.room_for(HOSTILE.public) == 0)
    others_go_on(place)
    place.until(lambda: bool(left(place, HOSTILE.public)))
    assert resident() - before < 64 * 2**20


def test_who_only_pings_is_cut_off(place: Place) -> None:
    raw = Raw(place.invite())
    raw.upgrade()
    assert isinstance(raw.log_in(HOSTILE), control.LoggedIn)
    pings = (head(9, 100, masked=True) + bytes(100)) * 1000
    raw.sock.settimeout(5.0)
    patience = Patience(30)
    while place.link.connections() and patience.lasts():
        raw.write(pings)
    assert not place.link.connections()


def test_other_requests_get_an_answer_and_no_session(place: Place) -> None:
    for request in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /session HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /session HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        raw = Raw(place.invite())
        raw.write(request)
        assert raw.sock.recv(100).startswith(b"HTTP/1.1 40")
        assert raw.is_closed()


def test_its_manager_alone_can_ask_who_is_connected(place: Place) -> None:
    worker = place.join(ONE)
    place.until(lambda: bool(worker.take()))
    found = connections_of(place.registry.run, MANAGER)
    assert found is not None and [(one.key, one.address) for one in found] == [(ONE.public.hex(), "127.0.0.1")]
    assert connections_of(place.registry.run, HOSTILE) is None


@pytest.mark.parametrize("stage", ["silent TCP", "half of TLS", "silent TLS", "half a request", "silent session"])
def test_strangers_are_closed_in_time_and_keep_nobody_outside(
    place: Place, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr("podlt.network.server.listener.LOGIN_SECONDS", 0.7)
    invitation, strangers = place.invite(), []
    for _ in range(20):
        raw = Raw(invitation, tls=stage not in ("silent TCP", "half of TLS"))
        strangers.append(raw)
        if stage == "half of TLS":
            raw.write(b"\x16\x03\x01\x02\x00")
        elif stage == "half a request":
            raw.write(b"GET /session HTTP/1.1\r\nUpgr")
        elif stage == "silent session":
            raw.upgrade()
    others_go_on(place)
    assert all(raw.is_closed() for raw in strangers)


def test_more_strangers_than_there_is_room_for_take_the_place_of_strangers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.link._listener._silent, "_most", 10)
    worker = place.join(ONE)
    place.until(lambda: bool(worker.take()))
    strangers = [Raw(place.invite(), tls=False) for _ in range(30)]
    assert all(raw.is_closed() for raw in strangers[:20])
    others_go_on(place)
    worker.link.send(ONE.public, b"xhere")
    place.until(lambda: (ONE.public, b"xhere") in place.came)


@pytest.mark.slow
def test_thousands_of_strangers_keep_nobody_outside_and_take_no_memory(place: Place) -> None:
    worker = place.join(ONE)
    place.until(lambda: bool(worker.take()))
    host, port = place.invite().servers[0].removeprefix("https://").rsplit(":", 1)
    before = resident()
    script = Path(__file__).with_name("strangers.py")
    crowd = subprocess.Popen([sys.executable, str(script), host, port, "5000", "12"], stdout=subprocess.PIPE, text=True)
    assert crowd.stdout is not None
    lines: list[str] = []
    reading = threading.Thread(target=lambda: lines.extend(crowd.stdout or ()), daemon=True)
    reading.start()
    most, joined = 0, 0
    while crowd.poll() is None:
        if joined < 5 and lines:  # each takes memory of this process, as the server does
            others_go_on(place)
            joined += 1
        said = os.urandom(8)
        worker.link.send(ONE.public, said)
        place.until(lambda said=said: (ONE.public, said) in place.came)  # type: ignore[misc]
        most = max(most, resident() - before)
    reading.join()
    assert lines[0].strip() == "begun" and int(lines[1]) > 5000 and joined == 5
    assert most < 200 * 2**20
    assert worker.messages() == [] and any("127.0.0.2" in line for line in place.said)


def test_a_server_that_hangs_up_after_tls_is_tried_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podlt.network.client.link.LONGEST_DELAY", 0.05)
    folder = place.registry.run / SERVER
    context = server_context(folder / CERTIFICATE, folder / PRIVATE_KEY)
    with socket.create_server(("127.0.0.1", 0)) as server:
        wrong = [f"https://127.0.0.1:{server.getsockname()[1]}"]
        worker = place.join(ONE, invitation=msgspec.structs.replace(place.invite(), servers=wrong))
        for _ in range(20):
            sock, _ = server.accept()
            with suppress(OSError), context.wrap_socket(sock, server_side=True) as hangs_up:
                hangs_up.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert worker.take() == [] and worker.link.why


def test_a_fault_of_the_link_itself_is_raised_where_messages_are_taken(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(sock: object) -> None:
        raise AttributeError("a fault")

    monkeypatch.setattr("podlt.network.client.link.notice_loss", fail)
    worker = place.join(ONE)
    with pytest.raises(AttributeError, match="a fault"):
        place.until(lambda: bool(worker.link.check()))


def test_a_worker_whose_manager_is_gone_for_long_says_so_and_ends(place: Place) -> None:
    now, key = [0.0], fresh()
    link = ClientLink(place.invite(), [key], clock=lambda: now[0])
    link.start()
    place.until(lambda: link.connected)
    link.check()
    place.link.close()
    place.until(lambda: not link.connected)
    now[0] += GONE_SECONDS - 1
    link.check()
    now[0] += 2
    with pytest.raises(EngineError, match="the run has ended, or its manager does not run"):
        link.check()
    link.close()
