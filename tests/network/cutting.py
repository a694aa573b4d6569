"""A wire between two sockets that can be cut, and that counts what goes through it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Wire:
    """Listens, and passes on what comes to a port of this machine and back.

    Args:
        port: where to; cuts: after how many bytes, both ways together, each connection in turn is cut; those beyond
        the list are not.
    """

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._target, self._cuts = port, list(cuts)
        self.up = self.down = 0
        self.connections = 0
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target), 5)
                except OSError:
                    near.close()
                    continue
                self.connections += 1
                left = [self._cuts.pop(0)] if self._cuts else [2**62]
                for source, sink, up in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass, args=(source, sink, up, left), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, up: bool, left: list[int]) -> None:
        with suppress(OSError):
            while data := source.recv(16384):
                with self._lock:
                    left[0] -= len(data)
                    if left[0] < 0:
                        break
                    if up:
                        self.up += len(data)
                    else:
                        self.down += len(data)
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
