"""The HTTP server, by real requests: pages, wrong requests, slow peers, taken ports."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from podlt.errors import UsageError
from podlt.monitoring.health import Health
from podlt.monitoring.server import THREADS, Server, health_page, parse_address


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Two pages, of which one is not well."""
    sick = Health(False, "training", "no round for 999 s", 999.0, 300.0)
    pages = {"/metrics": lambda: (200, "text/plain", b"x 1\n"), "/healthz": health_page(lambda: sick)}
    with Server("127.0.0.1", 0, pages) as running:
        yield running


def ask(server: Server, method: str, path: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_pages_are_served_and_nothing_else(server: Server) -> None:
    assert ask(server, "GET", "/metrics") == (200, b"x 1\n")
    assert ask(server, "GET", "/metrics?x=1")[0] == 200
    assert ask(server, "HEAD", "/metrics") == (200, b"")
    assert ask(server, "GET", "/../etc/passwd")[0] == 404
    assert ask(server, "POST", "/metrics")[0] == 501


def test_what_is_not_well_answers_503_and_says_why(server: Server) -> None:
    status, body = ask(server, "GET", "/healthz")
    assert status == 503
    assert json.loads(body)["reason"] == "no round for 999 s" and json.loads(body)["ok"] is False


def test_peers_that_hold_a_connection_take_a_few_threads_and_no_more() -> None:
    server = Server("127.0.0.1", 0, {"/metrics": lambda: (200, "text/plain", b"x 1\n")})  # whose threads are all free
    with ExitStack() as held:
        held.enter_context(server)
        slow = [
            held.enter_context(closing(socket.create_connection(("127.0.0.1", server.port)))) for _ in range(THREADS)
        ]
        for peer in slow:
            peer.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        refused = held.enter_context(closing(socket.create_connection(("127.0.0.1", server.port), 30)))
        assert refused.recv(1) == b""  # closed at once: no thread waits for it
        for peer in slow:
            peer.sendall(b"y\r\n\r\n")
        for peer in slow:
            peer.settimeout(30)
            assert peer.recv(100).startswith(b"HTTP/1.0 200")
            while peer.recv(4096):
                pass


def test_a_request_that_is_garbage_or_endless_is_refused(server: Server) -> None:
    for garbage in (b"\x00\xff\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n"):
        with closing(socket.create_connection(("127.0.0.1", server.port), 30)) as peer:
            peer.sendall(garbage)
            assert b" 200 " not in peer.recv(4096)
    assert ask(server, "GET", "/metrics")[0] == 200


def test_a_port_that_is_taken_is_said(server: Server) -> None:
    with (
        pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{server.port}"),
        Server("127.0.0.1", server.port, {}),
    ):
        pytest.fail("it listens")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        ("0", ("127.0.0.1", 0)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("monitor.example.org:80", ("monitor.example.org", 80)),
    ],
)
def test_an_address_is_a_port_or_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "x", ":9464", "host:", "65536", "-1", "::1:80", "1.2.3.4:x", "٣", "99999999999"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected \\[HOST:\\]PORT"):
        parse_address(text)
