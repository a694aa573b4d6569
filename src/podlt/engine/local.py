"""The engine `local`: workers on this machine, in as many processes as there are cores.

Parameters, the block in work and all updates lie in memory that the processes share. A process that dies is replaced;
its workers keep their identities, and what they had not opened yet is dealt to them again.
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import msgspec
import numpy as np

from podlt.engine import wire
from podlt.engine.shared import BlockBuffer, Region
from podlt.errors import EngineError, InvalidProofError
from podlt.protocol.messages import Assignment

MAX_DEATHS = 3
"""How often a process may die within one round before the run stops: then it is the task that kills it."""

START_SECONDS = 120.0


class Restarted(msgspec.Struct, frozen=True):
    """A worker process had died (with this exit status), and was replaced."""

    process: int
    status: int
    workers: list[int]


Event = wire.Results | wire.Failed | wire.Openings | Restarted


class _Process:
    """One worker process, and what it was dealt."""

    def __init__(self, number: int, workers: list[wire.Hosted]) -> None:
        self.number = number
        self.workers = workers
        self.deals: list[wire.Deal] = []
        self.done: set[int] = set()
        self.deaths = 0
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self.popen: subprocess.Popen[bytes] | None = None
        self.connection: socket.socket | None = None

    def idle(self) -> bool:
        """Whether it has answered everything it was dealt."""
        return {p.origin for deal in self.deals for p in deal.pieces} <= self.done

    def complaint(self) -> str:
        """The end of what it wrote to its standard error."""
        self.log.seek(0)
        return self.log.read()[-2000:].decode(errors="replace").strip()


class LocalEngine:
    """Carries tasks to workers on this machine.

    Args:
        setup: what every process needs, without workers and descriptors; state_bytes, update_bytes: the sizes of the
            parameters' and an update's layout; workers: all identities; processes: how many processes host them.

    Raises:
        EngineError: there is not enough memory for the shared regions.
    """

    def __init__(
        self, setup: wire.Setup, state_bytes: int, update_bytes: int, workers: Sequence[wire.Hosted], processes: int
    ) -> None:
        self._state = Region(state_bytes)
        self._slots = Region(setup.slots * update_bytes)
        self._block = BlockBuffer(setup.fields, setup.block_lines)
        self._update_bytes = update_bytes
        self._setup = msgspec.structs.replace(
            setup,
            state_fd=self._state.descriptor,
            block_fd=self._block.region.descriptor,
            slots_fd=self._slots.descriptor,
        )
        count = max(1, min(processes, len(workers)))
        self._processes = [_Process(i, list(workers[i::count])) for i in range(count)]
        self._home = {h.number: process for process in self._processes for h in process.workers}
        self._selector = selectors.DefaultSelector()
        self._opening: int | None = None

    @property
    def processes(self) -> int:
        """How many processes there are."""
        return len(self._processes)

    @property
    def pids(self) -> list[int]:
        """Their process numbers."""
        return [process.popen.pid for process in self._processes if process.popen is not None]

    def start(self, run: bytes) -> dict[int, bytes]:
        """Starts the processes for a run (its identity); returns each worker's signature on joining it.

        Raises:
            EngineError: a process did not start; says what it wrote.
        """
        self._setup = msgspec.structs.replace(self._setup, run=run)
        for process in self._processes:
            self._spawn(process)
        joins: dict[int, bytes] = {}
        for process in self._processes:
            joins.update(self._await_ready(process))
        return joins

    @property
    def state(self) -> np.ndarray:
        """The parameters' bytes (uint8) that all workers see; the manager alone writes them, between rounds."""
        return self._state.bytes

    def block(self, half: int, lines: int) -> dict[str, np.ndarray]:
        """Where the lines of a block go, field by field."""
        return self._block.views(half, lines)

    def slot(self, origin: int) -> np.ndarray:
        """The update (uint8 bytes) of the task that was dealt to `origin`."""
        return self._slots.bytes[origin * self._update_bytes : (origin + 1) * self._update_bytes]

    def deal(
        self,
        half: int,
        lines: int,
        bounds: Sequence[tuple[int, int]],
        assignments: Sequence[Assignment],
        *,
        again: bool = False,
        proof: bool = True,
    ) -> None:
        """Sends tasks to their holders.

        Args:
            half, lines: where the round's lines lie; bounds: where each fragment begins and ends among them;
            again: whether these tasks come on top of others of the same round; proof: false only for measuring.
        """
        if not again:
            self._opening = None
            for process in self._processes:
                process.deals, process.done, process.deaths = [], set(), 0
        pieces: dict[int, list[wire.Piece]] = {}
        for a in assignments:
            start, stop = bounds[a.fragment]
            process = self._home[a.holder]
            process.done.discard(a.origin)
            pieces.setdefault(process.number, []).append(wire.Piece(a.origin, a.holder, start, stop, a.task))
        for number, dealt in pieces.items():
            deal = wire.Deal(half=half, lines=lines, pieces=dealt, proof=proof)
            self._processes[number].deals.append(deal)
            self._send(self._processes[number], deal)

    def open(self, round: int) -> None:
        """Asks all workers to open their commitments of a round."""
        self._opening = round
        for process in self._processes:
            if process.deals:
                self._send(process, wire.OpenRound(round=round))

    def events(self) -> Iterator[Event]:
        """Waits until something comes, and gives it.

        Raises:
            EngineError: a process dies again and again.
        """
        for key, _ in self._selector.select():
            process: _Process = key.data
            assert process.connection is not None
            try:
                message = wire.receive(process.connection)
            except (ConnectionResetError, InvalidProofError):
                message = None
            if message is None:
                yield self._replace(process)
            elif isinstance(message, wire.Results):
                process.done.update(message.done)
                yield message
                self._open_again(process)
            elif isinstance(message, wire.Failed):
                process.done.add(message.origin)
                yield message
            elif isinstance(message, wire.Openings):
                yield message

    def close(self) -> None:
        """Ends all processes."""
        for process in self._processes:
            if process.connection is not None:
                self._send(process, wire.Stop())
                process.connection.close()
                process.connection = None
        for process in self._processes:
            if process.popen is not None:
                try:
                    process.popen.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    process.popen.kill()
                    process.popen.wait()
            process.log.close()
        self._selector.close()
        for region in (self._state, self._slots, self._block.region):
            region.close()

    def _spawn(self, process: _Process) -> None:
        ours, theirs = socket.socketpair()
        setup = msgspec.structs.replace(self._setup, workers=process.workers)
        with theirs:
            process.popen = subprocess.Popen(
                [sys.executable, "-m", "podlt.engine.host", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=process.log,
                pass_fds=(theirs.fileno(), setup.state_fd, setup.block_fd, setup.slots_fd),
            )
        process.connection = ours
        self._send(process, setup)

    def _await_ready(self, process: _Process) -> dict[int, bytes]:
        assert process.connection is not None
        process.connection.settimeout(START_SECONDS)
        try:
            message = wire.receive(process.connection)
        except OSError:
            message = None
        if not isinstance(message, wire.Ready):
            raise EngineError(f"worker process {process.number} did not start: {process.complaint() or 'no message'}")
        process.connection.settimeout(None)
        self._selector.register(process.connection, selectors.EVENT_READ, process)
        return {h.number: join for h, join in zip(process.workers, message.joins, strict=True)}

    def _replace(self, process: _Process) -> Restarted:
        assert process.connection is not None and process.popen is not None
        self._selector.unregister(process.connection)
        process.connection.close()
        process.connection = None
        process.popen.kill()
        status = process.popen.wait()
        process.deaths += 1
        if process.deaths >= MAX_DEATHS:
            raise EngineError(
                f"worker process {process.number} died {process.deaths} times in one round (status {status}): "
                f"{process.complaint() or 'no message'}"
            )
        self._spawn(process)
        self._await_ready(process)
        process.done = set()
        for deal in process.deals:
            self._send(process, deal)
        return Restarted(process.number, status, [h.number for h in process.workers])

    def _open_again(self, process: _Process) -> None:
        """A process that was replaced after openings were asked for has to open once more."""
        if self._opening is not None and process.idle():
            self._send(process, wire.OpenRound(round=self._opening))

    def _send(self, process: _Process, message: wire.Message) -> None:
        if process.connection is None:
            return
        try:
            wire.send(process.connection, message)
        except OSError:
            return  # it died: its connection reads as closed, and it is replaced then
