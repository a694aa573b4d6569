"""Serves metrics and health over HTTP, to a Prometheus server and whatever restarts what is stuck.

Plain HTTP and read-only: for this machine, or a network that only the operator reaches. A peer that asks slowly, or
for much, gets a thread of few for ten seconds, and never the trainer's.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

import msgspec

from podlt.errors import UsageError
from podlt.monitoring.health import Health
from podlt.network.http import Page

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


class Server:
    """An HTTP server on a thread of its own, while its context lasts.

    Args:
        host: where it listens: a name, or an IPv4 or IPv6 address.
        port: 0 for any free one.
        pages: path -> page.

    Attributes:
        port: on which it listens.
        url: of its root.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        self._host, self._pages, self.port, self.url = host, pages, port, ""

    def __enter__(self) -> Self:
        """Begins to listen.

        Raises:
            UsageError: it cannot listen there.
        """
        host = self._host
        try:
            family, *_, address = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)[0]
            self._server = _of_family(family)(address[:2], _handler(self._pages))
        except OSError as error:
            raise UsageError(f"--metrics: cannot listen on {host}:{self.port}: {error.strerror}") from None
        self.port = int(self._server.server_address[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="podlt-metrics", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Bounded(socketserver.ThreadingTCPServer):
    """At most THREADS connections at a time: one more is closed at once."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        self._free = threading.BoundedSemaphore(THREADS)
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logging.getLogger("podlt.monitoring").warning("a request could not be answered", exc_info=True)


def _of_family(family: int) -> type[_Bounded]:
    return type("_Listening", (_Bounded,), {"address_family": family})


def _handler(pages: Mapping[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = SECONDS

        def do_GET(self) -> None:
            self._answer(whole=True)

        def do_HEAD(self) -> None:
            self._answer(whole=False)

        def _answer(self, *, whole: bool) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, kind, body = page() if page is not None else (404, "text/plain", b"not found\n")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if whole:
                self.wfile.write(body)

        def version_string(self) -> str:
            return "podlt"

        def log_message(self, format: str, *args: object) -> None:
            """A scrape every few seconds is no news."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True  # it went away, or was too slow: nothing of ours is wrong

    return Handler
