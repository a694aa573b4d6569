"""Small HTTP servers on threads of their own: metrics, a run's page, a witness. No TLS; the manager's is `http`.

Few connections at a time, a limit of seconds for each request, and nothing is written of any. What a peer does wrong,
or slowly, costs a thread of few, and never the one that trains.
"""

from __future__ import annotations

import errno
import logging
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar, Self

from podlt.errors import UsageError


class QuietHandler(BaseHTTPRequestHandler):
    """Answers one connection: does not say which Python it is, writes no log, and bears that its peer goes away."""

    def version_string(self) -> str:
        """What the header `Server` says."""
        return "podlt"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing of a request is written anywhere."""

    def handle(self) -> None:
        """Answers until the connection ends."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # it went away, or was too slow: nothing of ours is wrong


class BoundedListener(socketserver.ThreadingTCPServer):
    """At most `places` connections at a time: one more is closed at once."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    places: ClassVar[int]
    logger: ClassVar[str] = ""
    """Which logger hears of a request that could not be answered; none if it is empty."""

    def __init__(self, *args: Any) -> None:
        self._free = threading.BoundedSemaphore(self.places)
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives a connection a thread, if there is a place."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers a connection, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A fault of ours in an answer."""
        if self.logger:
            logging.getLogger(self.logger).warning("a request could not be answered", exc_info=True)


class PlainServer:
    """A server on a thread of its own, while its context lasts.

    Args:
        option: what names the address, in an error.
        host: where it listens: a name, or an IPv4 or IPv6 address.
        port: 0 for any free one.
        listener: takes connections.
        handler: answers them.
        poll_seconds: how often it looks whether it is to end.

    Attributes:
        port: on which it listens.
        url: of its root, without a slash.
    """

    def __init__(
        self,
        option: str,
        host: str,
        port: int,
        listener: type[BoundedListener],
        handler: type[QuietHandler],
        *,
        poll_seconds: float = 0.1,
    ) -> None:
        self._option, self._host, self.port, self.url = option, host, port, ""
        self._listener, self._handler, self._poll_seconds = listener, handler, poll_seconds

    def __enter__(self) -> Self:
        """Begins to listen.

        Raises:
            UsageError: it cannot listen there.
        """
        host = self._host
        try:
            family, *_, address = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)[0]
            listening = type("_Listening", (self._listener,), {"address_family": family})
            self._server = listening(address[:2], self._handler)
        except OSError as error:
            other = "; another port, or 0 for any free one, does it" if error.errno == errno.EADDRINUSE else ""
            raise UsageError(f"{self._option}: cannot listen on {host}:{self.port}: {error.strerror}{other}") from None
        self.port = int(self._server.server_address[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(self._poll_seconds,), name=f"podlt-{self._option}", daemon=True
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
