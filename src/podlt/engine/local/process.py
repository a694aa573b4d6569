"""A process that hosts workers, as the manager sees it: started early, set up later."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from podlt.engine.local import frames
from podlt.errors import EngineError, InvalidProofError

START_SECONDS = 120.0
"""How long a process may take until it is ready: it imports PyTorch, and validates the program."""

END_SECONDS = 5.0


class HostProcess:
    """One process and the socket to it; it ends by itself when the manager is gone, as it reads the end of the socket.

    Args:
        popen: the process.
        connection: the manager's end of the socket.
        log: what it writes to its standard error.
    """

    def __init__(self, popen: subprocess.Popen[bytes], connection: socket.socket, log: IO[bytes]) -> None:
        self._popen, self.connection, self._log = popen, connection, log

    @classmethod
    def start(cls) -> HostProcess:
        """Starts one.

        Raises:
            EngineError: it cannot be started.
        """
        log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        ours, theirs = socket.socketpair()
        # -P: the folder that the user happens to be in is no place to import modules from.
        command = [sys.executable, "-P", "-m", "podlt.engine.local.host", str(theirs.fileno())]
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

    def set_up(self, setup: frames.HostSetup, descriptors: Sequence[int]) -> None:
        """Says what it is to host, and gives it the shared regions; `ready` waits until it has taken them."""
        with suppress(OSError):  # it died: `ready` raises
            frames.send_setup(self.connection, setup, descriptors)

    def ready(self) -> frames.Ready:
        """Its first message.

        Raises:
            EngineError: it died, or sent something else; says what it wrote.
        """
        self.connection.settimeout(START_SECONDS)
        message = self.receive()
        if not isinstance(message, frames.Ready):
            raise EngineError(f"a worker process did not start: {self.complaint() or 'no message'}")
        self.connection.settimeout(None)
        return message

    def send(self, message: frames.Frame) -> None:
        """Sends a message; to a process that died it goes nowhere: the end of the socket is read soon."""
        with suppress(OSError):
            frames.send(self.connection, message)

    def receive(self) -> frames.Frame | None:
        """The next message, or None when the process is gone or what it sends is no message: then it is of no use."""
        try:
            return frames.receive(self.connection)
        except (OSError, InvalidProofError):
            return None

    def complaint(self) -> str:
        """The end of what it wrote to its standard error."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), 2000, max(0, size - 2000)).decode(errors="replace").strip()

    def kill(self) -> int:
        """Ends it at once; returns its exit status."""
        self.connection.close()
        self._popen.kill()
        return self._popen.wait()

    def stop(self) -> None:
        """Lets it end; `close` waits for it."""
        self.send(frames.Stop())
        self.connection.close()

    def close(self) -> None:
        """Waits until it has ended, and kills it if it does not."""
        self.connection.close()
        try:
            self._popen.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()


@contextmanager
def starting(count: int) -> Iterator[list[HostProcess]]:
    """Processes that import PyTorch while the manager captures the program; those that are left over are ended.

    Who takes one out of the list has to close it.
    """
    processes: list[HostProcess] = []
    try:
        for _ in range(count):
            processes.append(HostProcess.start())
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.close()
