"""A process that hosts many workers: `python -m podlt.engine.local.host DESCRIPTOR`. It never imports the user's code.

Parameters, lines and updates lie in memory that it shares with the manager's process. It answers with signed
commitments, a few at a time, so that the manager checks some while others are computed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch

from podlt.engine.local import frames
from podlt.engine.shared_memory import BlockBuffer, Region
from podlt.execution.worker_runtime import WorkerRuntime


class Host:
    """The workers of one process.

    Args:
        setup: what the manager sent; descriptors: of the shared regions: parameters, block, updates.
    """

    def __init__(self, setup: frames.HostSetup, descriptors: Sequence[int]) -> None:
        self._crew = WorkerRuntime(setup)
        self._joins = self._crew.join(setup.workers)
        self._state = Region(self._crew.state_bytes, descriptors[0])
        self._block = BlockBuffer(setup.fields, setup.block_lines, descriptors[1])
        self._slots = Region(setup.slots * self._crew.update_bytes, descriptors[2])

    def ready(self) -> frames.Ready:
        """The workers' signatures on joining the run, and what this machine says of its arithmetic."""
        return frames.Ready(joins=self._joins, conformance=self._crew.conformance)

    def deal(self, deal: frames.Deal, connection: socket.socket) -> None:
        """Executes the tasks of a round, and answers."""
        block = self._block.views(deal.buffer, deal.lines)
        with self._crew.inputs(self._state.bytes, block, proof=deal.proof):
            self._crew.work(deal, self._slot, lambda answer: frames.send(connection, answer))

    def open(self, round: int) -> frames.HostOpenings:
        """Every opening that its workers owe in a round."""
        return frames.HostOpenings(round=round, opened=self._crew.open(round))

    def _slot(self, piece: frames.DealtTask) -> np.ndarray:
        start = piece.seat * self._crew.update_bytes
        return self._slots.bytes[start : start + self._crew.update_bytes]


def serve(connection: socket.socket) -> None:
    """Hosts workers until the manager says stop, or is gone."""
    host: Host | None = None
    while True:
        message = frames.receive(connection)
        if message is None or isinstance(message, frames.Stop):
            return
        if isinstance(message, frames.HostSetup):
            host = Host(message, frames.receive_descriptors(connection))
            frames.send(connection, host.ready())
        elif isinstance(message, frames.Deal) and host is not None:
            host.deal(message, connection)
        elif isinstance(message, frames.OpenRound) and host is not None:
            frames.send(connection, host.open(message.round))


def main() -> None:
    """The entry point of a worker process: one thread, and Ctrl-C is the manager's business.

    It ends without PyTorch's own taking down, which lasts as long as half of its import: nothing here needs it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    with socket.socket(fileno=int(sys.argv[1])) as connection, suppress(BrokenPipeError, ConnectionResetError):
        serve(connection)
    os._exit(0)


if __name__ == "__main__":
    main()
