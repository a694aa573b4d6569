"""A process that hosts many workers: `python -m podlt.engine.host DESCRIPTOR`. It never imports the user's code.

Each round it executes its workers' tasks one after another on one thread, writes every update into shared memory, and
answers with signed commitments, a few at a time, so that the manager checks some while others are computed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import torch

from podlt import crypto
from podlt.data.dataset import fragment_digest_of
from podlt.engine import wire
from podlt.engine.adversary import Execute, Work, cheating, watched
from podlt.engine.conformance import conformance
from podlt.engine.execution import TaskExecutor, as_batch
from podlt.engine.shared import BlockBuffer, Region
from podlt.errors import PodltError
from podlt.program.ir import Program
from podlt.program.layout import state_layout, update_layout
from podlt.program.validate import validate
from podlt.protocol.messages import Committed, Opened, Task
from podlt.protocol.worker import Worker

BATCH = 8
"""How many commitments travel together."""


class Host:
    """The workers of one process.

    Args:
        setup: what the manager sent; descriptors: of the shared regions: parameters, block, updates.
    """

    def __init__(self, setup: wire.Setup, descriptors: Sequence[int]) -> None:
        program = Program.from_bytes(setup.program)
        validate(program, lines=setup.block_lines)
        self._program_digest = program.digest
        self.conformance = conformance(program.arithmetic)
        self._executor = TaskExecutor(program, setup.local_steps, setup.local_lr)
        self._block = BlockBuffer(setup.fields, setup.block_lines, descriptors[1])
        state, self._update = state_layout(program), update_layout(program)
        self._state_region = Region(state.nbytes, descriptors[0])
        self._state = state.views(self._state_region.bytes)
        self._slots = Region(setup.slots * self._update.nbytes, descriptors[2])
        self._run = setup.run
        self._workers = {h.number: Worker(h.number, crypto.SigningKey(h.seed), setup.run) for h in setup.workers}
        honest = watched(self.execute) if any(h.cheat == "copycat" for h in setup.workers) else self.execute
        self._execute: dict[int, Execute] = {
            h.number: cheating(h.cheat, self.execute, h.seed) if h.cheat else honest for h in setup.workers
        }
        self._order = [h.number for h in setup.workers]

    def joins(self) -> list[bytes]:
        """The workers' signatures on joining the run."""
        return [self._workers[number].join() for number in self._order]

    def execute(self, work: Work) -> None:
        """The honest execution: writes the update of a fragment, a pure function of the task."""
        self._executor(work.state, work.batch, work.task.randomness, work.out)

    def deal(self, deal: wire.Deal, connection: socket.socket) -> None:
        """Executes the tasks of a round, and answers."""
        block = self._block.views(deal.half, deal.lines)
        started = time.perf_counter()
        parameters = crypto.blob_digest(self._state_region.bytes.data) if deal.proof else b""
        batch = _Batch(deal.pieces[0].task.round, time.perf_counter() - started)
        with self._executor.unchanging(self._state):
            for piece in deal.pieces:
                try:
                    self._piece(piece, block, parameters, batch, proof=deal.proof)
                except (PodltError, RuntimeError, IndexError, ValueError) as error:
                    place = {"round": piece.task.round, "origin": piece.origin, "holder": piece.holder}
                    wire.send(connection, wire.Failed(**place, message=str(error)))
                if len(batch.done) >= BATCH:
                    wire.send(connection, batch.take())
        if batch.done:
            wire.send(connection, batch.take())

    def open(self, round: int) -> list[Opened]:
        """Every opening that its workers owe in a round."""
        return [opened for worker in self._workers.values() for opened in worker.open(round)]

    def _piece(
        self, piece: wire.Piece, block: Mapping[str, np.ndarray], parameters: bytes, batch: _Batch, *, proof: bool
    ) -> None:
        started = time.perf_counter()
        arrays = {name: values[piece.start : piece.stop] for name, values in block.items()}
        if proof:
            self._check_inputs(piece.task, arrays, parameters)
        checked = time.perf_counter()
        start = piece.origin * self._update.nbytes
        slot = self._slots.bytes[start : start + self._update.nbytes]
        self._update.clear_gaps(slot)  # they count for the digest
        work = Work(piece.task, self._state, as_batch(arrays), slot)
        self._execute[piece.holder](work)
        executed = time.perf_counter()
        if proof:
            digest = crypto.blob_digest(slot.data)
            batch.committed.append(self._workers[piece.holder].commit(piece.origin, piece.task, digest))
        batch.done.append(piece.origin)
        batch.faked.extend([piece.origin] if work.faked else [])
        batch.compute += executed - checked
        batch.proof += checked - started + time.perf_counter() - executed

    def _check_inputs(self, task: Task, arrays: Mapping[str, np.ndarray], parameters: bytes) -> None:
        """A worker signs only what it has seen: the task must be about the program, parameters and lines at hand."""
        fragment = fragment_digest_of(self._block.fields, arrays)
        expected = (self._run, self._program_digest, parameters, fragment)
        if (task.run, task.program, task.parameters, task.fragment) != expected:
            raise PodltError("the task names other inputs than those that arrived")


class _Batch:
    """Answers that wait to be sent together."""

    def __init__(self, round: int, proof: float) -> None:
        self.round = round
        self._reset()
        self.proof = proof

    def _reset(self) -> None:
        self.committed: list[Committed] = []
        self.done: list[int] = []
        self.faked: list[int] = []
        self.proof = self.compute = 0.0

    def take(self) -> wire.Results:
        results = wire.Results(
            round=self.round,
            committed=self.committed,
            done=self.done,
            faked=self.faked,
            proof_seconds=self.proof,
            compute_seconds=self.compute,
        )
        self._reset()
        return results


def serve(connection: socket.socket) -> None:
    """Hosts workers until the manager says stop, or is gone."""
    host: Host | None = None
    while True:
        message = wire.receive(connection)
        if message is None or isinstance(message, wire.Stop):
            return
        if isinstance(message, wire.Setup):
            host = Host(message, wire.receive_descriptors(connection))
            wire.send(connection, wire.Ready(joins=host.joins(), conformance=host.conformance))
        elif isinstance(message, wire.Deal) and host is not None:
            host.deal(message, connection)
        elif isinstance(message, wire.OpenRound) and host is not None:
            wire.send(connection, wire.Openings(round=message.round, opened=host.open(message.round)))


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
