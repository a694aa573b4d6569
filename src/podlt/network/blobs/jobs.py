"""What a worker carries: memory that takes a blob, and one transfer, which may be cancelled at any moment."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import numpy as np

from podlt.crypto import blob_digest
from podlt.errors import PodltError
from podlt.network.bandwidth import Bandwidth
from podlt.network.blobs.https_connection import HttpsConnection

STEP = 2**20
"""Bytes that are sent before it is seen whether the job was cancelled."""


class TransferError(PodltError):
    """A blob could not be fetched or sent; what came of it stays, and the job can go on from there.

    Args:
        message: why.
        digest: of the blob.
    """

    def __init__(self, message: str, digest: bytes) -> None:
        super().__init__(f"blob {digest.hex()[:16]}…: {message}")
        self.digest = digest


class BadBlobError(TransferError):
    """All bytes came, and they are not the blob."""


class BlobBuffer:
    """Memory that takes a blob.

    Args:
        data: uint8, as long as the blob.

    Attributes:
        offset: how many bytes are there.
    """

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.size, self.offset = data, data.nbytes, 0

    def check(self, digest: bytes) -> None:
        """All bytes are there.

        Raises:
            BadBlobError: they are another blob's; they are forgotten.
        """
        if blob_digest(self.data.data) != digest:
            self.offset = 0
            raise BadBlobError(f"digest mismatch after {self.size} bytes", digest)


class _Cancelled(Exception):
    """Nobody wants it any more."""


class BlobJob:
    """What is to be carried, until it ended or was cancelled.

    Args:
        bandwidth: how fast.
    """

    def __init__(self, bandwidth: Bandwidth) -> None:
        self._bandwidth = bandwidth
        self.cancelled, self.touching = threading.Event(), threading.Lock()
        self.sock: socket.socket | None = None

    def made(self, sock: socket.socket) -> None:
        """It goes by this socket now."""
        self.sock = sock
        self.check()

    def check(self) -> None:
        """Ends it if it was cancelled."""
        if self.cancelled.is_set():
            raise _Cancelled

    def receive(self, connection: HttpsConnection, place: BlobBuffer, stop: int) -> None:
        """Takes the bytes of a blob up to one, as they come."""
        view = place.data.data
        while place.offset < stop:
            with self.touching:
                self.check()
                count = connection.receive(view[place.offset : stop])
                place.offset += count
            self._wait(self._bandwidth.came(count))

    def send(self, connection: HttpsConnection, data: memoryview) -> None:
        """Sends bytes."""
        for start in range(0, len(data), STEP):
            with self.touching:
                self.check()
                connection.sock.sendall(data[start : start + STEP])
            self._wait(self._bandwidth.went(len(data[start : start + STEP])))

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self.cancelled.wait(seconds)

    def cancel(self) -> None:
        """Ends it; when this returns, its memory is not touched any more."""
        self.cancelled.set()
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
        with self.touching:
            pass
