"""What is answered to a request that is not for a session."""

from __future__ import annotations

import asyncio

_ANSWER = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class NothingHere(asyncio.Protocol):
    """Says that there is nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(_ANSWER)
        transport.close()
