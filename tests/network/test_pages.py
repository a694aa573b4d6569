"""Pages of the run's server for its operator: from this machine, or with a token, and for nobody else."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from web import Web

from podlt.access import tokens
from podlt.crypto import SigningKey
from podlt.network.http import HttpError, RouteTable
from podlt.network.server.pages import _BLOB, OperatorPages, bearer_of

MANAGER, OTHER, SERVER, NOW = SigningKey(bytes(32)), SigningKey(b"\1" * 32), b"\2" * 32, 10**12


def asked(address: str, method: str = "GET", **headers: str) -> int:
    """The status of an answer to who asks from an address."""
    routes, answers = RouteTable(), list[int]()
    OperatorPages(routes, MANAGER.public, SERVER, "secret", lambda: NOW).add({"/metrics": lambda: (200, "x", b"")})

    async def respond(status: int, body: bytes, fields: dict[str, str]) -> None:
        assert fields["Cache-Control"] == "no-store"
        answers.append(status)

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request: Any = SimpleNamespace(address=address, method=method, headers=named, respond=respond)
    handler = routes.find("/metrics")
    assert handler is not None
    try:
        asyncio.run(handler(request))  # type: ignore[arg-type]
    except HttpError as error:
        return error.status
    return answers[0]


def token(key: SigningKey = MANAGER, blob: bytes = _BLOB, now: int = NOW) -> str:
    return tokens.write(key, "read", blob, SERVER, now)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_who_is_at_this_machine_may_look_but_not_who_asks_through_a_proxy_on_it(address: str) -> None:
    assert asked(address) == asked(address, "HEAD") == 200
    for header in ("x_forwarded_for", "forwarded", "via"):
        assert asked(address, **{header: "1.2.3.4"}) == 403
    assert asked(address, "POST") == 405
    assert asked(address, authorization="Bearer wrong") == 403, "who shows a token has to have one"


def test_who_is_elsewhere_needs_the_token_of_the_run_or_the_managers_key() -> None:
    assert asked("93.184.216.34") == asked("2606:4700::1111") == 403
    assert asked("93.184.216.34", authorization="Bearer secret") == 200
    assert asked("93.184.216.34", authorization=token()) == 200
    for wrong in (
        "Bearer",
        "Bearer secre",
        "Basic secret",
        token(OTHER),
        token(blob=bytes(32)),
        token(now=NOW - 10**6),
    ):
        assert asked("93.184.216.34", authorization=wrong) == 403


def test_the_token_of_a_run_stays_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    assert bearer_of(tmp_path) == bearer_of(tmp_path) and len(bearer_of(tmp_path)) == 32
    assert (tmp_path / "pages.token").stat().st_mode & 0o777 == 0o600


def test_pages_are_on_the_port_of_the_run(tmp_path: Path) -> None:
    web = Web(tmp_path)
    pages = OperatorPages(web.host.routes, MANAGER.public, web.host.fingerprint, "secret", lambda: int(time.time()))
    pages.add({"/metrics": lambda: (200, "text/plain", b"podlt_round 7\n"), "/healthz": lambda: (503, "x", b"")})
    context = ssl.create_default_context(cafile=str(tmp_path / "tls.pem"))
    for headers in ({}, {"Authorization": "Bearer secret", "Via": "1.1 proxy"}):
        client = http.client.HTTPSConnection("127.0.0.1", web.port, timeout=60, context=context)
        plain = socket.create_connection(("127.0.0.1", web.port))
        client.sock = context.wrap_socket(plain, server_hostname="podlt")  # as a Prometheus server does it
        for path, status, body in (
            ("/metrics", 200, b"podlt_round 7\n"),
            ("/healthz", 503, b""),
            ("/nothing", 404, b"not found"),
        ):
            client.request("GET", f"{path}?x=1", headers=headers)
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (status, body)
        client.close()
    web.close()
