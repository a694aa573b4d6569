"""Serves a witness over HTTP: a few threads, ten seconds a request, and nothing long is read.

Plain HTTP: a checkpoint and a cosignature are signed, so who changes one on the way achieves nothing. What faces the
Internet stands behind a proxy with TLS and limits of its own.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from podlt.errors import StorageError, UsageError
from podlt.witness.request import MAX_BODY
from podlt.witness.witness import MAX_ENTRY, Reply, Witness

THREADS = 16
SECONDS = 10.0
POLL_SECONDS = 0.1

Clock = Callable[[], int]
"""Seconds since 1970."""


class WitnessServer:
    """An HTTP server, while its context lasts.

    Args:
        witness: answers.
        host: where it listens.
        port: 0 for any free one.
        clock: the time that cosignatures have.

    Attributes:
        port: on which it listens.
        url: its submission prefix.
    """

    def __init__(self, witness: Witness, host: str, port: int, clock: Clock) -> None:
        self._witness, self._host, self.port, self._clock, self.url = witness, host, port, clock, ""

    def __enter__(self) -> Self:
        """Begins to listen.

        Raises:
            UsageError: it cannot listen there.
        """
        try:
            family, *_, address = socket.getaddrinfo(self._host, self.port, type=socket.SOCK_STREAM)[0]
            self._server = _of_family(family)(address[:2], _handler(self._witness, self._clock))
        except OSError as error:
            raise UsageError(f"--listen: cannot listen on {self._host}:{self.port}: {error.strerror}") from None
        self.port = int(self._server.server_address[1])
        self.url = f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="podlt-witness", daemon=True
        )
        self._thread.start()
        return self

    def wait(self) -> None:
        """Serves until the process is asked to end."""
        while self._thread.is_alive():
            self._thread.join(1.0)

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
    request_queue_size = 64

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
        logging.getLogger("podlt.witness").warning("a request could not be answered", exc_info=True)


def _of_family(family: int) -> type[_Bounded]:
    return type("_Listening", (_Bounded,), {"address_family": family})


def _handler(witness: Witness, clock: Clock) -> type[BaseHTTPRequestHandler]:
    routes: Mapping[str, tuple[int, Callable[[bytes, int], Reply]]] = {
        "/add-checkpoint": (MAX_BODY, witness.add_checkpoint),
        "/add-run": (MAX_ENTRY, witness.add_run),
    }

    class WitnessHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = SECONDS

        def do_GET(self) -> None:
            if self.path != "/":
                self._send(Reply(HTTPStatus.NOT_FOUND, "not found\n"))
                return
            self._send(Reply(HTTPStatus.OK, f"a witness (c2sp.org/tlog-witness)\n{witness.public.text()}\n"))

        def do_POST(self) -> None:
            found = routes.get(self.path)
            length = self.headers.get("Content-Length", "")
            if found is None:
                self._refuse(HTTPStatus.NOT_FOUND, "not found\n")
                return
            most, answer = found
            if not (length.isascii() and length.isdigit()) or len(length) > 9:
                self._refuse(HTTPStatus.LENGTH_REQUIRED, "expected Content-Length\n")
                return
            if int(length) > most:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {most} bytes\n")
                return
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                self.close_connection = True
                return
            try:
                self._send(answer(body, clock()))
            except StorageError as error:
                logging.getLogger("podlt.witness").error("%s", error)
                self._send(Reply(HTTPStatus.INTERNAL_SERVER_ERROR, "the witness cannot write down what it saw\n"))

        def _refuse(self, status: HTTPStatus, text: str) -> None:
            """Answers without reading the body, which ends the connection."""
            self.close_connection = True
            self._send(Reply(status, text))

        def _send(self, reply: Reply) -> None:
            body = reply.body.encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(body)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def version_string(self) -> str:
            return "podlt"

        def log_message(self, format: str, *args: object) -> None:
            """A head every few seconds is no news."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True  # it went away, or was too slow: nothing of ours is wrong

    return WitnessHandler
