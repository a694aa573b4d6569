"""Who may see the page, which requests press its buttons, and what a reader that comes back gets."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from podlt.dashboard.access import Access
from podlt.dashboard.companion import parse_place
from podlt.dashboard.server import DashboardServer
from podlt.dashboard.stream import MessageStream
from podlt.errors import UsageError

LARGEST = 400_000


class Client:
    """Requests to a server, as a browser would send them, or another page."""

    def __init__(self, server: DashboardServer) -> None:
        self.port, self.here = server.port, f"127.0.0.1:{server.port}"

    def __call__(self, path: str, body: object = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        raw = None if body is None else json.dumps(body)
        connection.request("GET" if raw is None else "POST", path, raw, headers)
        answer = connection.getresponse()
        found = answer.status, answer.read(), dict(answer.headers)
        connection.close()
        return found


@pytest.fixture
def stream() -> MessageStream:
    made = MessageStream()
    made.add([{"t": "round", "r": 0}])
    return made


@pytest.fixture
def reading(stream: MessageStream) -> Iterator[Client]:
    with DashboardServer("127.0.0.1", 0, "run", lambda name: stream if not name else None) as server:
        yield Client(server)


@pytest.fixture
def acting(stream: MessageStream) -> Iterator[tuple[Client, str, list[str]]]:
    pressed: list[str] = []

    def act(action: str) -> bool:
        pressed.append(action)
        return action == "pause"

    with DashboardServer("127.0.0.1", 0, "lender", lambda name: stream, act) as server:
        yield Client(server), server.url.partition("#token=")[2], pressed


def test_the_page_is_small_and_every_file_that_it_names_is_there(reading: Client) -> None:
    status, text, headers = reading("/")
    assert status == 200 and "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"unsafe" not in headers["Content-Security-Policy"].encode()
    names = [part.partition('"')[0] for part in text.decode().split('"static/')[1:]]
    assert names and all(reading(f"/static/{name}")[0] == 200 for name in names)
    assert sum(len(reading(f"/static/{name}")[1]) for name in names) + len(text) < LARGEST


def test_nothing_but_the_pages_files_is_served(reading: Client) -> None:
    for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/etc/passwd", "/static/", "/data?run=other"):
        assert reading(path)[0] == 404, path
    assert reading("/action", {"action": "stop"}, Origin=f"http://{reading.here}")[0] == 404


def test_a_name_elsewhere_that_leads_here_gets_nothing(reading: Client) -> None:
    assert reading("/data", Host="evil.example:80")[0] == 421
    assert reading("/data", Host="localhost:1")[0] == reading("/data")[0] == 200


def test_a_reader_gets_what_it_misses_and_one_of_another_stream_begins_again(
    reading: Client, stream: MessageStream
) -> None:
    stream.add([{"t": "round", "r": 1}])
    stream.close()
    _, raw, _ = reading("/events", **{"Last-Event-ID": f"{stream.name}-1-0"})
    assert b'data: [{"t":"round","r":1}]' in raw and b'"r":0' not in raw and f"id: {stream.name}-2-".encode() in raw
    assert b"event: end" in raw
    for other in ("", "abc", "other-1-0", f"{stream.name}-x-0"):
        assert reading("/events", **{"Last-Event-ID": other})[1].startswith(b"event: again"), other


def test_a_page_with_buttons_shows_nothing_without_its_token(acting: tuple[Client, str, list[str]]) -> None:
    ask, token, pressed = acting
    here = {"Origin": f"http://{ask.here}"}
    assert token and ask("/data")[0] == ask("/events")[0] == 403
    assert ask("/session", {"token": "wrong"}, **here)[0] == 403
    status, _, headers = ask("/session", {"token": token}, **here)
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert status == 200 and "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    assert ask("/data", Cookie=cookie)[0] == 200
    assert ask("/action", {"action": "pause"}, Cookie=cookie, **here)[0] == 200 and pressed == ["pause"]
    assert ask("/action", {"action": "format"}, Cookie=cookie, **here)[0] == 400


def test_another_page_presses_no_buttons(acting: tuple[Client, str, list[str]]) -> None:
    ask, token, pressed = acting
    cookie = f"podlt={token}"
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": f"http://{ask.here}.evil"}):
        assert ask("/action", {"action": "stop"}, Cookie=cookie, **headers)[0] == 403
    assert ask("/action", {"action": "stop"}, Origin=f"http://{ask.here}")[0] == 403
    assert ask("/action", {"action": "stop"}, Origin=f"http://{ask.here}", Cookie="podlt=wrong")[0] == 403
    assert pressed == []


def test_away_from_loopback_there_is_always_a_token() -> None:
    assert not Access("127.0.0.1", acts=False).token and not Access("::1", acts=False).token
    assert Access("0.0.0.0", acts=False).token and Access("::", acts=False).token
    assert Access("127.0.0.1", acts=True).token


def test_a_token_is_in_no_address_but_the_one_that_is_printed(acting: tuple[Client, str, list[str]]) -> None:
    ask, token, _ = acting
    assert ask(f"/data?token={token}")[0] == 403
    assert token not in ask("/")[1].decode()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", ("127.0.0.1", [8465, 0])),
        ("9000", ("127.0.0.1", [9000])),
        ("0.0.0.0:1", ("0.0.0.0", [1])),
        ("[::1]:2", ("::1", [2])),
    ],
)
def test_a_place_is_a_port_of_this_machine_unless_it_names_a_host(text: str, place: tuple[str, list[int]]) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["x", "1:2:3", "host:", ":1x", "70000"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        parse_place(text)


def test_a_port_that_is_taken_is_said() -> None:
    with (
        DashboardServer("127.0.0.1", 0, "run", lambda name: None) as server,
        pytest.raises(UsageError, match="cannot listen"),
        DashboardServer("127.0.0.1", server.port, "run", lambda name: None),
    ):
        pass
