"""An invitation's code: short enough for a terminal, whole or refused, and of no use to whoever stands between."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from links import MANAGER, Place, Raw, worker_key

from podlt.access import certificate as tls
from podlt.access import invitation as inv
from podlt.access import invitation_code as code
from podlt.access.first_invitation import read_given, read_invitation
from podlt.crypto import SigningKey
from podlt.errors import EngineError, UsageError
from podlt.faults import _without_secrets
from podlt.monitoring.logs import hidden
from podlt.network.client.address import invitation_of
from podlt.network.server.open_server import OpenServer

INVITATIONS = st.builds(
    inv.Invitation,
    servers=st.lists(
        st.sampled_from(["https://a.example:4222", "https://203.0.113.7:443", "https://[2001:db8::1]:7"]),
        min_size=1,
        max_size=8,
    ),
    manager=st.just(MANAGER.public),
    certificate=st.binary(min_size=1, max_size=600),
    secret=st.one_of(st.just(b""), st.binary(min_size=16, max_size=16)),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("place") / "run")
    yield found
    found.close()


def in_place_of(servers: list[str], one: code.InvitationCode) -> code.InvitationCode:
    """The code as it would be read by who is led to another server."""
    host, port = servers[0].removeprefix("https://").rsplit(":", 1)
    return code.InvitationCode(host, int(port), one.mark, one.secret)


@given(INVITATIONS)
def test_a_code_and_the_address_that_its_server_gives_are_the_invitation(invitation: inv.Invitation) -> None:
    text = code.write(invitation)
    assert text.isascii() and " " not in text and code.is_code(text)
    found = code.read(f"  {text[:20]}\n{text[20:]} ")
    assert found.secret == invitation.secret and found.server == invitation.servers[0]
    address = msgspec.structs.replace(invitation, secret=b"")
    whole = code.completed(found, address)
    assert (whole.manager, whole.certificate, whole.secret) == (
        invitation.manager,
        invitation.certificate,
        invitation.secret,
    )
    assert whole.servers[0] == invitation.servers[0] and set(whole.servers) == set(invitation.servers)


def test_the_command_fits_into_a_terminal_of_80_columns() -> None:
    invitation = inv.Invitation(["https://train.example.org:4222"], MANAGER.public, b"c", secret=b"s" * 16)
    assert len(f"podlt worker {code.write(invitation)}") == 79


@given(INVITATIONS, st.data())
def test_a_code_that_was_not_copied_completely_is_refused(invitation: inv.Invitation, data: st.DataObject) -> None:
    text = code.write(invitation)
    body = text.rpartition("/")[2]
    cut = text[: -data.draw(st.integers(1, len(body)))]
    if invitation.secret and len(cut.rpartition("/")[2]) == 22:
        return  # what is left has the form of an address; that one is not let in by it
    with pytest.raises(UsageError, match="not copied completely"):
        code.read(cut)


@given(INVITATIONS, st.data())
def test_a_code_with_a_mistake_takes_no_address_or_has_another_secret(
    invitation: inv.Invitation, data: st.DataObject
) -> None:
    text = code.write(invitation)
    start, letters = text.index("/") + 1, "abcXYZ019-_"
    at = data.draw(st.integers(start, len(text) - 2))
    letter = data.draw(st.sampled_from(letters).filter(lambda c: c != text[at]))
    changed = code.read(text[:at] + letter + text[at + 1 :])
    if changed.mark == code.read(text).mark:
        assert changed.secret != invitation.secret
    else:
        with pytest.raises(UsageError, match="not the one that the invitation code is for"):
            code.completed(changed, invitation)


@given(st.text(max_size=80))
def test_other_text_is_no_code(text: str) -> None:
    for candidate in (text, f"host:4222/{text}"):
        if not code.is_code(candidate):
            with pytest.raises(UsageError):
                code.read(candidate)


@pytest.mark.parametrize("where", ["host:0", "host:99999", "a@b:1", ":1", "host"])
def test_a_code_for_no_place_is_refused(where: str) -> None:
    with pytest.raises(UsageError):
        code.read(f"{where}/{'A' * 43}")


def test_a_worker_that_got_a_code_has_all_that_the_invitation_says(place: Place) -> None:
    invitation = place.invite()
    found = invitation_of(code.read(code.write(invitation)))
    assert found is not None
    assert (found.manager, found.secret) == (MANAGER.public, invitation.secret)
    assert found.certificate == place.link.certificate
    place.join(worker_key(1), invitation=found)
    place.until(lambda: worker_key(1).public in {bytes.fromhex(one.key) for one in place.link.connections()})


def test_a_file_may_have_a_code_or_the_whole_invitation(place: Place, tmp_path: Path) -> None:
    invitation, file = place.invite(), tmp_path / "sent.txt"
    file.write_text(code.write(invitation) + "\n")
    assert read_given(str(file)) == code.read(code.write(invitation)) == read_given(code.write(invitation))
    with pytest.raises(UsageError, match="not a code"):
        read_invitation(str(file))
    file.write_text(inv.write(invitation) + "\n")
    assert read_given(str(file)) == invitation == read_given(inv.write(invitation))


def test_what_anybody_may_ask_for_lets_nobody_in_who_was_not_invited(place: Place) -> None:
    address = invitation_of(code.InvitationCode("127.0.0.1", _port(place), _mark(place), b""))
    assert address is not None and address.secret == b""
    raw = Raw(address)
    raw.upgrade()
    refused = raw.log_in(worker_key(77))
    raw.close()
    assert "invit" in getattr(refused, "reason", "")


def _port(place: Place) -> int:
    return int(place.link.urls[0].rpartition(":")[2])


def _mark(place: Place) -> bytes:
    return code.mark_of(MANAGER.public, place.link.certificate)


def test_a_server_with_another_key_or_certificate_gets_nothing_of_the_code(tmp_path: Path, place: Place) -> None:
    """Another manager's server, which gives out its own address, and one that gives out the true one's."""
    from types import SimpleNamespace

    other = tmp_path / "other"
    other.mkdir()
    job = SimpleNamespace(directory=other, key=SigningKey(os.urandom(32)), workers=3)
    link = OpenServer("127.0.0.1", 0, ["127.0.0.1"]).connect(job)  # type: ignore[arg-type]
    try:
        given = code.read(code.write(place.invite()))
        with pytest.raises(UsageError, match="Nothing was sent to it"):
            invitation_of(in_place_of(link.urls, given))
        assert not link.connections()
    finally:
        link.close()


class Between:
    """Stands between: shows a certificate of its own, answers with the true address, and keeps what it is sent."""

    def __init__(self, folder: Path, answer: bytes) -> None:
        folder.mkdir()
        tls.load_or_create(folder)
        self._context = tls.server_context(folder / tls.CERTIFICATE, folder / tls.PRIVATE_KEY)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.heard, self._answer = self._socket.getsockname()[1], b"", answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._socket.accept()
                with suppress(OSError), self._context.wrap_socket(raw, server_side=True) as sock:
                    self.heard += sock.recv(65536)
                    sock.sendall(self._answer)

    def close(self) -> None:
        self._socket.close()


def test_whoever_passes_the_true_address_on_hears_nothing_of_the_code_and_is_not_believed(
    tmp_path: Path, place: Place
) -> None:
    body = inv.write(place.registry.invite(MANAGER, now=0, address=True)).encode()
    between = Between(tmp_path / "between", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    given = code.read(code.write(place.invite()))
    found = invitation_of(in_place_of([f"https://127.0.0.1:{between.port}"], given))
    assert found is not None and found.certificate == place.link.certificate, "the certificate that the code is for"
    assert given.secret.hex().encode() not in between.heard and given.secret not in between.heard
    with pytest.raises((ssl.SSLError, OSError)):
        Raw(found)  # the connection of a worker insists on that certificate
    between.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n\r\npodlt1-" + b"A" * 100_000,
    ],
)
def test_a_server_of_something_else_is_named_for_what_it_is(answer: bytes, tmp_path: Path) -> None:
    between = Between(tmp_path / "between", answer)
    with pytest.raises(UsageError):
        invitation_of(code.InvitationCode("127.0.0.1", between.port, b"m" * 16, b"s" * 16))
    between.close()


def test_a_server_that_is_not_there_is_tried_and_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podlt.network.client.address.TRY_SECONDS", 0.3)
    monkeypatch.setattr("podlt.network.client.address.AGAIN_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    one = code.InvitationCode("127.0.0.1", port, b"m" * 16, b"s" * 16)
    with pytest.raises(EngineError, match=f"cannot be reached at https://127.0.0.1:{port}: Connection refused"):
        invitation_of(one)


def test_a_server_that_is_not_there_is_named_at_the_first_attempt_and_only_then() -> None:
    said: list[str] = []
    looks: list[bool] = []

    def stopping() -> bool:
        looks.append(True)
        return len(looks) > 40

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert invitation_of(code.InvitationCode("127.0.0.1", port, b"m" * 16, b"s" * 16), stopping, said.append) is None
    assert len(said) == 1 and said[0].startswith(
        f"https://127.0.0.1:{port}: Connection refused (is the manager running"
    )
    assert said[0].endswith("tried for 120 s)")


def test_an_owner_who_wants_to_stop_is_not_kept_waiting_for_a_server() -> None:
    asked: list[bool] = []

    def stopping() -> bool:
        asked.append(True)
        return len(asked) > 2

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert invitation_of(code.InvitationCode("127.0.0.1", port, b"m" * 16, b"s" * 16), stopping) is None


def test_neither_a_log_nor_a_report_of_a_crash_shows_a_code() -> None:
    invitation = inv.Invitation(["https://train.example.org:4222"], MANAGER.public, b"c", secret=os.urandom(16))
    text = code.write(invitation)
    for shown in (hidden(f"said {text}, again"), _without_secrets(f"podlt worker {text} --cpus 2")):
        assert text.rpartition("/")[2][:8] not in shown and "train.example.org:4222/" in shown
