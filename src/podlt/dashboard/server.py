"""The dashboard's own small server: the page, its data, and what comes new as server-sent events. Plain HTTP.

It is no part of the manager's server, whose certificate no browser knows: on loopback a browser trusts plain HTTP as
it trusts TLS, and `ssh -L` carries it anywhere. A reader gets a thread of few, and never the trainer's.
"""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, urlsplit

import msgspec

from podlt.canonical import UNREADABLE
from podlt.dashboard import page
from podlt.dashboard.access import Access
from podlt.dashboard.stream import MessageStream
from podlt.plain_http import BoundedListener, PlainServer, QuietHandler

THREADS = 64
SECONDS = 20.0
LOOK_SECONDS = 0.05
"""How often the server looks whether it is to end."""

BEAT_SECONDS = 10.0
"""How often a reader hears that the server is there where there is nothing new."""

MOST_ASKED = 4096
"""Bytes of a request's body."""

WORTH_PACKING = 16 * 1024

Streams = Callable[[str], MessageStream | None]
"""The stream of a run by its name: "" for the first, or only, one."""

Action = Callable[[str], bool]
"""Does what a button asks for; says whether there is such a button."""


class DashboardServer(PlainServer):
    """Serves a page and what comes new, while its context lasts; its `url` has the token where one is needed.

    Args:
        host: where it listens.
        port: 0 for any free one.
        kind: of page: "run", "runs" or "lender".
        streams: what it shows.
        act: what the page's buttons do, if it has any.
    """

    def __init__(self, host: str, port: int, kind: str, streams: Streams, act: Action | None = None) -> None:
        self._access = Access(host, acts=act is not None)
        handler = type("_Handler", (_SiteHandler,), {"site": Site(kind, streams, act, self._access)})
        super().__init__("dashboard", host, port, _Listener, handler, poll_seconds=LOOK_SECONDS)

    def __enter__(self) -> Self:
        """Begins to listen.

        Raises:
            UsageError: it cannot listen there.
        """
        super().__enter__()
        self.url += "/" + (f"#token={self._access.token}" if self._access.token else "")
        return self


class Site:
    """What the server answers, by path.

    Args:
        kind: of page.
        streams: what it shows.
        act: what buttons do.
        access: who may.
    """

    def __init__(self, kind: str, streams: Streams, act: Action | None, access: Access) -> None:
        self.kind, self.streams, self.act, self.access = kind, streams, act, access

    def stream(self, query: Mapping[str, list[str]]) -> MessageStream | None:
        """The stream that a request is about."""
        return self.streams(query.get("run", [""])[0])

    def everything(self, stream: MessageStream) -> bytes:
        """All that a page shows, as JSON, with the number from which on there are events."""
        number, messages, newest = stream.after(0, 0, 0.0)
        parts = b",".join([*(raw for _, raw in newest.values()), *messages])
        version = max((version for version, _ in newest.values()), default=0)
        head = {"kind": self.kind, "stream": stream.name, "next": number, "version": version}
        return msgspec.json.encode(head)[:-1] + b',"messages":[' + parts + b"]}"


class _Listener(BoundedListener):
    """Also ends the connections that are open when it closes: readers of events would stay for ever."""

    places = THREADS

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)

    def server_close(self) -> None:
        super().server_close()
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class _SiteHandler(QuietHandler):
    protocol_version = "HTTP/1.1"
    timeout = SECONDS
    site: ClassVar[Site]

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if not self.site.access.is_ours(self.headers):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "this server is not known by that name")
        elif asked.path == "/":
            self._answer("text/html; charset=utf-8", page.served_page())
        elif asked.path.startswith("/static/") and (found := page.files().get(asked.path[8:])) is not None:
            self._answer(*found)
        elif asked.path in ("/data", "/events"):
            self._data(asked.path, parse_qs(asked.query))
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "not found")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MOST_ASKED:
            self.close_connection = True
            self._refuse(HTTPStatus.BAD_REQUEST, "expected a short body")
            return
        body = self.rfile.read(int(length))
        try:
            asked = msgspec.json.decode(body, type=dict[str, str])
        except UNREADABLE:
            asked = {}
        if not (self.site.access.is_ours(self.headers) and self.site.access.is_same_origin(self.headers)):
            self._refuse(HTTPStatus.FORBIDDEN, "for the page of this server alone")
        elif self.path == "/session":
            self._open(asked.get("token", ""))
        elif self.path == "/action" and self.site.act is not None:
            self._act(asked.get("action", ""), self.site.act)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "not found")

    def _open(self, token: str) -> None:
        if self.site.access.opens(token):
            self._answer("application/json", b"{}", {"Set-Cookie": self.site.access.cookie()})
        else:
            self._refuse(HTTPStatus.FORBIDDEN, "not the token of this page")

    def _act(self, action: str, act: Action) -> None:
        if not self.site.access.may_act(self.headers):
            self._refuse(HTTPStatus.FORBIDDEN, "this needs the token of the page")
        elif act(action):
            self._answer("application/json", b"{}")
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "no such action")

    def _data(self, path: str, query: Mapping[str, list[str]]) -> None:
        if not self.site.access.may_read(self.headers):
            self._refuse(HTTPStatus.FORBIDDEN, "this page needs the token of its address")
        elif (stream := self.site.stream(query)) is None:
            self._refuse(HTTPStatus.NOT_FOUND, "no such run")
        elif path == "/data":
            self._answer("application/json", self.site.everything(stream))
        else:
            self._events(stream, self.headers.get("Last-Event-ID") or query.get("after", [""])[0])

    def _events(self, stream: MessageStream, last: str) -> None:
        """Sends what comes, until the reader goes; `last` is "STREAM-NUMBER-VERSION", what it has."""
        name, number, version = (*last.split("-"), "", "")[:3]
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self._headers({"Content-Type": "text/event-stream", "Connection": "close"})
        if name != stream.name or not (number.isdigit() and version.isdigit()):
            self.wfile.write(b"event: again\ndata: {}\n\n")
            return
        place, seen = int(number), int(version)
        self.wfile.write(b"retry: 1000\n\n")
        while True:
            closed = stream.closed
            place, messages, newest = stream.after(place, seen, BEAT_SECONDS)
            seen = max([seen, *(found for found, _ in newest.values())])
            parts = [*messages, *(raw for _, raw in newest.values())]
            mark = f"id: {stream.name}-{place}-{seen}\n".encode()
            self.wfile.write(mark + b"data: [" + b",".join(parts) + b"]\n\n" if parts else b": beat\n\n")
            if closed and not parts:
                self.wfile.write(b"event: end\ndata: {}\n\n")
                return

    def _answer(self, kind: str, body: bytes, more: Mapping[str, str] | None = None) -> None:
        headers = {"Content-Type": kind, **(more or {})}
        if len(body) > WORTH_PACKING and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        self.send_response(HTTPStatus.OK)
        self._headers(headers | {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self.send_response(status)
        self._headers({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(text))})
        self.wfile.write(text.encode())

    def _headers(self, fields: Mapping[str, str]) -> None:
        always = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": page.SERVED_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in {**always, **fields}.items():
            self.send_header(name, value)
        self.end_headers()
