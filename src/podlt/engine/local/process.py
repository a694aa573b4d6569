"""A process that hosts workers, as the manager sees it: started early, set up later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from podlt.engine.child import ChildProcess
from podlt.engine.local import frames
from podlt.errors import EngineError, InvalidProofError

START_SECONDS = 120.0
"""How long a process may take until it is ready: it imports PyTorch, and validates the program."""


class HostProcess(ChildProcess):
    """One process, which hosts workers."""

    module = "podlt.engine.local.host"

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

    def stop(self) -> None:
        """Lets it end; `close` waits for it."""
        self.send(frames.Stop())
        self.connection.close()


@contextmanager
def starting(count: int, kind: type[HostProcess] | None = None) -> Iterator[list[HostProcess]]:
    """Processes that import PyTorch while the manager captures the program; those that are left over are ended.

    Who takes one out of the list has to close it.

    Args:
        count: how many.
        kind: what they run, if not what it usually is.
    """
    processes: list[HostProcess] = []
    try:
        for _ in range(count):
            processes.append((kind or HostProcess).start())
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.close()
