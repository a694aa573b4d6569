"""A run's HTTP server without its sessions, on a thread of its own."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patience import Patience

from podlt.access import certificate as tls
from podlt.access import tokens
from podlt.crypto import SigningKey
from podlt.network.background import Background
from podlt.network.blobs.server import PATH, BlobServer
from podlt.network.http import RouteTable
from podlt.network.link import WebHost
from podlt.network.server.listener import Listener


class Web:
    """The server. `said`: lines for the operator."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = tls.load_or_create(folder)
        self.folder, self.said = folder, list[str]()
        self.host = WebHost(RouteTable(), [], hashlib.sha256(self.certificate).digest())
        self._background = Background("web")
        self.port: int = self._background.call(self._begin(port))
        self.host.urls.append(f"https://127.0.0.1:{self.port}")

    async def _begin(self, port: int) -> int:
        context = tls.server_context(self.folder / tls.CERTIFICATE, self.folder / tls.PRIVATE_KEY)

        def upgrade(arrival: Any) -> Any:
            raise AssertionError("no session here")

        self._listener = Listener(context, upgrade, self.host.routes.connection, self.said.append)
        return self._listener.start("127.0.0.1", port)

    def blobs(self, run: Path, **options: Any) -> BlobServer:
        """A server of blobs on it."""
        one = BlobServer(run, **options)
        one.start(self.host.urls, self.host.fingerprint)
        self.host.routes.add(PATH, one.answer)
        return one

    def token(self, key: SigningKey, purpose: tokens.Purpose, digest: bytes) -> str:
        return tokens.write(key, purpose, digest, self.host.fingerprint, time.time_ns() // 10**6)

    def close(self) -> None:
        async def stop() -> None:
            self._listener.stop()

        self._background.end(stop)


def until(found: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Waits until something is there."""
    patience = Patience(seconds)
    while (result := found()) is None or result is False:
        assert patience.lasts(), "it did not come to be"
        time.sleep(0.005)
    return result
