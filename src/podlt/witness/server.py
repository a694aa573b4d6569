"""Serves a witness over HTTP: a few threads, ten seconds a request, and nothing long is read.

Plain HTTP: a checkpoint and a cosignature are signed, so who changes one on the way achieves nothing. What faces the
Internet stands behind a proxy with TLS and limits of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import ClassVar

from podlt.errors import StorageError
from podlt.plain_http import BoundedListener, PlainServer, QuietHandler
from podlt.witness.request import MAX_BODY
from podlt.witness.witness import MAX_ENTRY, Reply, Witness

THREADS = 16
SECONDS = 10.0

Clock = Callable[[], int]
"""Seconds since 1970."""


class WitnessServer(PlainServer):
    """Answers runs that ask for cosignatures, while its context lasts; its `url` is the submission prefix.

    Args:
        witness: answers.
        host: where it listens.
        port: 0 for any free one.
        clock: the time that cosignatures have.
    """

    def __init__(self, witness: Witness, host: str, port: int, clock: Clock) -> None:
        routes = {
            "/add-checkpoint": (MAX_BODY, lambda body: witness.add_checkpoint(body, clock())),
            "/add-run": (MAX_ENTRY, lambda body: witness.add_run(body, clock())),
        }
        about = {"witness": witness, "routes": routes}
        super().__init__("--listen", host, port, _Listener, type("_Handler", (_WitnessHandler,), about))


class _Listener(BoundedListener):
    places = THREADS
    logger = "podlt.witness"


class _WitnessHandler(QuietHandler):
    protocol_version = "HTTP/1.1"
    timeout = SECONDS
    witness: ClassVar[Witness]
    routes: ClassVar[Mapping[str, tuple[int, Callable[[bytes], Reply]]]]

    def do_GET(self) -> None:
        if self.path != "/":
            self._send(Reply(HTTPStatus.NOT_FOUND, "not found\n"))
            return
        self._send(Reply(HTTPStatus.OK, f"a witness (c2sp.org/tlog-witness)\n{self.witness.public.text()}\n"))

    def do_POST(self) -> None:
        found = self.routes.get(self.path)
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
            self._send(answer(body))
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
