"""A child process with a socket to it, and frames on sockets: a length, then so many bytes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from typing import IO, ClassVar, Self

from podlt.errors import EngineError, InvalidProofError

END_SECONDS = 5.0
"""How long a process may take to end by itself."""


class ChildProcess:
    """One process and the socket to it; it ends by itself when this one is gone, as it reads the end of the socket.

    Args:
        popen: the process.
        connection: this end of the socket.
        log: what it writes to its standard error.
    """

    module: ClassVar[str]
    """What it runs, with the number of its end of the socket as the only argument."""

    def __init__(self, popen: subprocess.Popen[bytes], connection: socket.socket, log: IO[bytes]) -> None:
        self._popen, self.connection, self._log = popen, connection, log

    @classmethod
    def start(cls) -> Self:
        """Starts one.

        Raises:
            EngineError: it cannot be started.
        """
        log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        ours, theirs = socket.socketpair()
        # -P: the folder that the user happens to be in is no place to import modules from.
        command = [sys.executable, "-P", "-m", cls.module, str(theirs.fileno())]
        try:
            with theirs:
                popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=(theirs.fileno(),),
                )
        except OSError as error:
            ours.close()
            log.close()
            raise EngineError(f"a worker process cannot be started: {error.strerror}") from None
        return cls(popen, ours, log)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    def complaint(self) -> str:
        """The end of what it wrote to its standard error."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), 2000, max(0, size - 2000)).decode(errors="replace").strip()

    def kill(self) -> int:
        """Ends it at once; returns its exit status."""
        self.connection.close()
        self._popen.kill()
        return self._popen.wait()

    def close(self) -> None:
        """Waits until it has ended, and kills it if it does not."""
        self.connection.close()
        try:
            self._popen.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()


def write_frame(connection: socket.socket, body: bytes) -> None:
    """Sends one frame.

    Raises:
        OSError: the other side is gone.
    """
    connection.sendall(frame(body))


def read_frame(connection: socket.socket, limit: int) -> bytes | None:
    """The next frame, or None when the other side has closed.

    Raises:
        InvalidProofError: longer than the limit: nothing that follows can be read.
        OSError: the other side is gone.
    """
    head = _read(connection, 4)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    if length > limit:
        raise InvalidProofError(f"frame of {length} bytes is longer than {limit}")
    return _read(connection, length)


class FrameBuffer:
    """Bytes as they came, cut into frames.

    Args:
        limit: bytes of the longest frame.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._data = limit, bytearray()

    def add(self, data: bytes) -> list[bytes]:
        """Takes more bytes; returns the frames that are whole by them.

        Raises:
            InvalidProofError: a frame is longer than the limit: nothing that follows can be read.
        """
        self._data += data
        found: list[bytes] = []
        at = 0
        while len(self._data) - at >= 4:
            length = int.from_bytes(self._data[at : at + 4], "big")
            if length > self._limit:
                raise InvalidProofError(f"frame of {length} bytes is longer than {self._limit}")
            if len(self._data) - at - 4 < length:
                break
            found.append(bytes(self._data[at + 4 : at + 4 + length]))
            at += 4 + length
        del self._data[:at]
        return found


def frame(body: bytes) -> bytes:
    """A body with its length before it."""
    return len(body).to_bytes(4, "big") + body


def _read(connection: socket.socket, count: int) -> bytes | None:
    parts, missing = [], count
    while missing:
        part = connection.recv(min(missing, 1 << 20))
        if not part:
            return None
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
