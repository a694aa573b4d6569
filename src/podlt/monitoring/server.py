"""Serves metrics and health over HTTP, to a Prometheus server and whatever restarts what is stuck.

Plain HTTP and read-only: for this machine, or a network that only the operator reaches. A peer that asks slowly, or
for much, gets a thread of few for ten seconds, and never the trainer's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import msgspec

from podlt.errors import UsageError
from podlt.monitoring.health import Health
from podlt.network.http import Page
from podlt.plain_http import BoundedListener, PlainServer, QuietHandler

HOST = "127.0.0.1"
THREADS = 8
SECONDS = 10.0


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `[HOST:]PORT`; an IPv6 address stands in brackets.

    Raises:
        UsageError: it is none.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    bare = ":" in host and not text.startswith("[")
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535 or bare or (colon and not host):
        raise UsageError(f"--metrics {text}: expected [HOST:]PORT, such as 9464 or 0.0.0.0:9464 or [::1]:9464")
    return host or HOST, int(port)


def health_page(ask: Callable[[], Health]) -> Page:
    """A page of 200 or 503 that says why, as JSON."""

    def page() -> tuple[int, str, bytes]:
        health = ask()
        return (200 if health.ok else 503), "application/json", msgspec.json.encode(health) + b"\n"

    return page


class Server(PlainServer):
    """Serves pages, while its context lasts.

    Args:
        host: where it listens: a name, or an IPv4 or IPv6 address.
        port: 0 for any free one.
        pages: path -> page.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        handler = type("_Handler", (_PageHandler,), {"pages": pages})
        super().__init__("--metrics", host, port, _Listener, handler)


class _Listener(BoundedListener):
    places = THREADS
    logger = "podlt.monitoring"


class _PageHandler(QuietHandler):
    timeout = SECONDS
    pages: ClassVar[Mapping[str, Page]]

    def do_GET(self) -> None:
        self._answer(whole=True)

    def do_HEAD(self) -> None:
        self._answer(whole=False)

    def _answer(self, *, whole: bool) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        status, kind, body = page() if page is not None else (404, "text/plain", b"not found\n")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if whole:
            self.wfile.write(body)
