"""A process that hosts many workers: `python -m podlt.engine.local.host DESCRIPTOR`. It never imports the user's code.

Parameters, examples and updates lie in memory that it shares with the manager's process. It answers with signed
commitments, a few at a time, so that the manager checks some while others are computed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import torch

from podlt.engine.hosting import HostedWorkers
from podlt.engine.local import frames
from podlt.engine.shared_memory import BatchBuffer, Region
from podlt.tuning import tune_process


class Host:
    """The workers of one process.

    Args:
        workers: those that it hosts.
        state: shared region of the parameters.
        batch: shared region of the examples.
        slots: shared region of the updates.
    """

    def __init__(self, workers: HostedWorkers, state: Region, batch: BatchBuffer, slots: Region) -> None:
        self._workers, self._state, self._batch, self._slots = workers, state, batch, slots

    @classmethod
    def load(cls, setup: frames.HostSetup, descriptors: Sequence[int]) -> Host:
        """A host for a setup.

        Args:
            setup: what the manager sent.
            descriptors: of the shared regions: parameters, batch, updates.

        Raises:
            InvalidProofError: the program is none that may be executed.
        """
        workers = HostedWorkers.load(setup)
        state = Region(workers.state_bytes, descriptors[0])
        batch = BatchBuffer(setup.execution.fields, setup.execution.batch_size, descriptors[1])
        return cls(workers, state, batch, Region(setup.slots * workers.update_bytes, descriptors[2]))

    def join(self, workers: Sequence[frames.Hosted]) -> frames.Ready:
        """As `HostedWorkers.join`."""
        return self._workers.join(workers)

    def deal(self, deal: frames.Deal, connection: socket.socket) -> None:
        """Executes the tasks of a round, and sends the results, and then what opens every commitment of the round."""
        batch = self._batch.views(deal.buffer, deal.examples)
        with self._workers.inputs(self._state.bytes, batch, proof=deal.proof):
            self._workers.work(deal, self._slot, lambda results: frames.send(connection, results), shared=True)
        if deal.proof:
            frames.send(connection, self._workers.open(deal.tasks[0].task.round))

    def _slot(self, dealt: frames.DealtTask) -> np.ndarray:
        start = dealt.seat * self._workers.update_bytes
        return self._slots.bytes[start : start + self._workers.update_bytes]


def serve(connection: socket.socket) -> None:
    """Hosts workers until the manager says stop, or is gone."""
    host: Host | None = None
    while True:
        message = frames.receive(connection)
        if message is None or isinstance(message, frames.Stop):
            return
        if isinstance(message, frames.HostSetup):
            host = Host.load(message, frames.receive_descriptors(connection))
            frames.send(connection, host.join(message.workers))
        elif isinstance(message, frames.Deal) and host is not None:
            host.deal(message, connection)


def main(ended: Callable[[], object] = bool) -> None:
    """The entry point of a worker process: one thread, and Ctrl-C is the manager's business.

    It ends without PyTorch's own taking down, which lasts as long as half of its import: nothing here needs it.

    Args:
        ended: is called at the end; for measuring.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tune_process()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    with socket.socket(fileno=int(sys.argv[1])) as connection, suppress(BrokenPipeError, ConnectionResetError):
        serve(connection)
    ended()
    os._exit(0)


if __name__ == "__main__":
    main()
