"""Who gets into a manager's server, who is kept out and told why, and what a worker shows to another server."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from links import MANAGER, Place, Raw, Worker, worker_key

from podlt.access.certificate import PRIVATE_KEY
from podlt.access.invitation import Invitation
from podlt.crypto import SigningKey
from podlt.errors import UsageError
from podlt.network.server.open_server import OpenServer
from podlt.store.run_names import SERVER
from podlt.wire import control
from podlt.wire import messages as m

ONE, TWO = worker_key(1), worker_key(2)


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server looks more often, and keeps nobody waiting as long as in earnest."""
    monkeypatch.setattr("podlt.network.server.manager_link.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("podlt.access.policy.PAUSED_SECONDS", 1)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path / "run")
    yield found
    found.close()


def fresh() -> SigningKey:
    return SigningKey(os.urandom(32))


def refusal(place: Place, invitation: Invitation, key: SigningKey) -> control.LoginRefused:
    """What a worker hears that is not let in."""
    raw = Raw(invitation)
    raw.upgrade()
    answer = raw.log_in(key)
    raw.close()
    assert isinstance(answer, control.LoginRefused)
    return answer


def told(place: Place, worker: Worker) -> m.Down:
    place.until(lambda: bool(worker.messages()))
    return m.from_manager(worker.messages()[0])


def test_a_worker_that_is_paused_is_cut_off_and_comes_in_again_after_it_was_resumed(place: Place) -> None:
    worker = place.join(ONE)
    place.until(lambda: worker.has(ONE.public, b""))
    place.change("pause", ONE.public.hex(), "night")
    said = told(place, worker)
    assert isinstance(said, m.Dismissed) and "night" in said.reason and said.seconds > 0
    assert not place.link.connections()
    worker.came.clear()
    place.change("resume", ONE.public.hex())
    place.until(lambda: worker.has(ONE.public, b""))
    worker.link.send(ONE.public, b"xback")
    place.until(lambda: (ONE.public, b"xback") in place.came)


def test_an_invitation_expires_by_the_managers_clock_and_who_came_by_it_stays(place: Place) -> None:
    invitation = place.invite(expires=time.time_ns() // 10**6 + 1500)
    worker = place.join(ONE, invitation=invitation)
    place.until(lambda: worker.has(ONE.public, b""))
    time.sleep(1.6)
    refused = refusal(place, invitation, TWO)
    assert "expired" in refused.reason and refused.seconds is None
    worker.link.send(ONE.public, b"xhere")
    place.until(lambda: (ONE.public, b"xhere") in place.came)


def test_an_open_run_lets_in_who_has_paid_the_deposit_and_says_what_is_missing(place: Place) -> None:
    place.change("open", 500, "the cashier")
    address = place.invite(address=True)
    place.change("pay", ONE.public.hex(), 500, 0, "cash")
    worker = place.join(ONE, invitation=address)
    place.until(lambda: worker.has(ONE.public, b""))
    poor = refusal(place, msgspec.structs.replace(address, deposit=499), fresh())
    assert "499 were offered" in poor.reason
    unpaid = refusal(place, address, TWO)
    assert "pay 500 to the cashier" in unpaid.reason and TWO.public.hex() in unpaid.reason
    assert place.registry.state.members == {}


def test_who_was_cut_off_stays_out_for_the_time_that_is_said_longer_each_time(place: Place) -> None:
    raw = Raw(place.invite())
    raw.upgrade()
    answer = raw.log_in(ONE)
    assert isinstance(answer, control.LoggedIn)
    raw.write(raw.framed(answer.index, b"x") * 2100)
    said = raw.record()
    while not isinstance(said, control.LoginRefused):
        said = raw.record()
    assert "small messages" in said.reason and raw.is_closed()
    assert 5 < (refusal(place, place.invite(), ONE).seconds or 0) <= 10
    assert any(ONE.public.hex()[:16] in line and "small messages" in line for line in place.said)


def test_a_key_that_comes_and_goes_all_the_time_is_kept_out_and_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podlt.network.server.manager_link.LOOK_SECONDS", 60.0)
    for _ in range(200):
        raw = Raw(place.invite())
        raw.upgrade()
        answer = raw.log_in(ONE)
        raw.close()
        if isinstance(answer, control.LoginRefused) and "logins" in answer.reason:
            break
    assert isinstance(answer, control.LoginRefused) and (answer.seconds or 0) > 5
    assert any(ONE.public.hex()[:16] in line and "too many logins" in line for line in place.said)


def test_whoever_was_not_let_in_sends_no_more_than_logins(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Raw(place.invite())
    raw.upgrade()
    raw.send(control.CONTROL, bytes(control.LONGEST_LOGIN))
    with pytest.raises(EOFError, match="too long"):
        raw.record()
    monkeypatch.setattr(place.link._turns, "_at_once", 3)
    monkeypatch.setattr(place.link._turns, "_per_second", 0.001)
    address = place.invite(address=True)
    raw = Raw(address)
    raw.upgrade()
    with pytest.raises(EOFError, match="too many logins from this address"):
        for _ in range(10):
            assert isinstance(raw.log_in(fresh()), control.LoginRefused)
    assert place.registry.state.members == {}


def test_a_worker_shows_nothing_to_a_server_with_another_certificate(place: Place, tmp_path: Path) -> None:
    impostor = Place(tmp_path / "impostor")
    try:
        wrong = msgspec.structs.replace(place.invite(), servers=impostor.invite().servers)
        worker = place.join(ONE, invitation=wrong)
        place.until(lambda: "certificate" in worker.link.why.lower())
        assert impostor.registry.state.members == {} and not impostor.link.connections()
    finally:
        impostor.close()


def test_a_worker_shows_nothing_to_a_server_without_tls(place: Place) -> None:
    """Nobody between can take TLS away: a worker begins with it, or not at all."""
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            sock, _ = server.accept()
            with sock:
                sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                heard.extend(sock.recv(4096))

        listening = threading.Thread(target=listen)
        listening.start()
        port = server.getsockname()[1]
        wrong = msgspec.structs.replace(place.invite(), servers=[f"https://127.0.0.1:{port}"])
        worker = place.join(ONE, invitation=wrong)
        place.until(lambda: bool(worker.link.why))
        listening.join()
    assert heard[:1] == b"\x16" and b"GET" not in heard and wrong.secret not in heard


def test_a_server_keeps_port_certificate_and_names_and_nobody_else_can_read_its_key(place: Place) -> None:
    folder, before = place.registry.run / SERVER, place.registry.place()
    place.link.close()
    place.link = OpenServer().connect(place._job)
    assert place.registry.place() == before
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and stat.S_IMODE((folder / PRIVATE_KEY).stat().st_mode) == 0o600
    said = "".join(path.read_text("utf-8", "replace") for path in folder.iterdir() if path.name != PRIVATE_KEY)
    assert (folder / PRIVATE_KEY).read_text().splitlines()[1] not in said and MANAGER.seed().hex() not in said


def test_a_port_that_another_program_took_is_an_error_that_names_it(tmp_path: Path) -> None:
    place = Place(tmp_path / "run")
    place.close()
    port = int(place.registry.place().servers[0].rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)), pytest.raises(UsageError, match=f"port {port}: another program"):
        place.start()


def test_invitations_name_the_hosts_that_were_given(place: Place) -> None:
    place.link.close()
    place.link = OpenServer("127.0.0.1", 0, ["train.example", "2001:db8::1"]).connect(place._job)
    hosts = [url.removeprefix("https://").rsplit(":", 1)[0] for url in place.registry.place().servers]
    assert hosts == ["train.example", "[2001:db8::1]"]


@pytest.mark.slow
def test_two_hundred_workers_come_in_at_once_and_none_twice(place: Place) -> None:
    invitation, began = place.invite(uses=200), time.monotonic()
    workers = [
        place.join(*(worker_key(25 * group + n) for n in range(25)), invitation=invitation) for group in range(8)
    ]
    place.until(lambda: sum(len(worker.take()) for worker in workers) >= 200)
    print(f"200 workers logged in within {time.monotonic() - began:.1f} s")
    assert {one.key for one in place.link.connections()} == {worker_key(number).public.hex() for number in range(200)}
    state = place.registry.state
    assert len(state.members) == state.invitations[invitation.name].used == 200
