"""An actor that hosts workers: what Ray executes on a machine of the cluster. It never imports the user's code.

Messages are canonical records in bytes; parameters, examples and updates go as flat arrays of bytes. Ray's object
store keeps those in memory that all actors of a machine share: they are read where they lie.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from podlt.canonical import Decoder, encode
from podlt.data.dataset import DTYPES
from podlt.data.field import Field
from podlt.engine.local import frames
from podlt.engine.shared_memory import ALIGNMENT, Region
from podlt.errors import EngineError

if TYPE_CHECKING:
    from podlt.engine.hosting import HostedWorkers

CALL_TASKS, CALL_BYTES = 8, 64 * 2**20
"""How many tasks, and at most how many bytes of updates (but at least one), go through one call of an actor."""


class Here(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an actor is.

    Attributes:
        pid: its process.
        host: the name of its machine.
        node: Ray's name for that.
    """

    pid: int
    host: str
    node: str


class HostReply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came of the tasks of one call; their updates come with it, one after another in the order of the call."""

    results: list[frames.Results]
    failed: list[frames.ExecutionFailed]


_here: Decoder[Here] = Decoder(Here)
_reply: Decoder[HostReply] = Decoder(HostReply)


def read_here(raw: bytes) -> Here:
    """What `RayHost.hello` says.

    Raises:
        InvalidProofError: malformed.
    """
    return _here.decode(raw)


def read_reply(raw: bytes) -> HostReply:
    """What `RayHost.work` says.

    Raises:
        InvalidProofError: malformed.
    """
    return _reply.decode(raw)


def tasks_a_call(update_bytes: int) -> int:
    """How many tasks go through one call."""
    return max(1, min(CALL_TASKS, CALL_BYTES // max(1, update_bytes)))


def pack_examples(fields: Sequence[Field], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """A round's examples as one array of bytes, field by field, each at a multiple of 64."""
    parts = [np.ascontiguousarray(arrays[field.name]).reshape(-1).view(np.uint8) for field in fields]
    packed = np.zeros(sum(_padded(len(part)) for part in parts), np.uint8)
    offset = 0
    for part in parts:
        packed[offset : offset + len(part)] = part
        offset += _padded(len(part))
    return packed


def unpack_examples(fields: Sequence[Field], packed: np.ndarray, examples: int) -> dict[str, np.ndarray]:
    """The fields of so many examples: name -> array (examples, *shape), without a copy.

    Raises:
        EngineError: the bytes are not as many as the examples have.
    """
    expected = sum(_padded(field.row_bytes * examples) for field in fields)
    if packed.dtype != np.uint8 or packed.shape != (expected,):
        raise EngineError(f"{examples} examples of {packed.nbytes} bytes; expected {expected}")
    result, offset = {}, 0
    for field in fields:
        size = field.row_bytes * examples
        raw = packed[offset : offset + size]
        result[field.name] = raw.view(DTYPES[field.dtype]).reshape(examples, *field.shape)
        offset += _padded(size)
    return result


def aligned(array: np.ndarray) -> np.ndarray:
    """The same bytes at a multiple of 64: Ray puts what is small where it likes, and stock kernels round by that."""
    if array.ctypes.data % ALIGNMENT == 0:
        return array
    memory = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    memory[start : start + array.nbytes] = array
    return memory[start : start + array.nbytes]


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class RayHost:
    """The workers of one actor. Ray calls one method at a time, in the order in which the manager called them.

    Args:
        label: what the dashboard shows.
    """

    def __init__(self, label: str) -> None:
        from ray.util.metrics import Counter, Gauge

        self._label = label
        self._workers: HostedWorkers | None = None
        self._inputs = ExitStack()
        self._tags = {"actor": label}
        self._at = Gauge("podlt_round", description="The round that workers are in.", tag_keys=("actor",))
        self._done = Counter("podlt_tasks", description="Tasks that workers executed.", tag_keys=("actor",))

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call it."""
        return self._label

    def hello(self) -> bytes:
        """Says where it is; before PyTorch is imported, as a sign that there was room for it."""
        import ray

        return encode(Here(os.getpid(), socket.gethostname(), str(ray.get_runtime_context().get_node_id())))

    def set_up(self, raw: bytes) -> bytes:
        """Hosts the workers of a setup, besides those that it has; returns a `Ready`.

        Raises:
            InvalidProofError: the program is none that may be executed.
            EngineError: no memory for the updates.
        """
        import torch

        from podlt.engine.hosting import HostedWorkers

        setup = frames.unpack(raw)
        assert isinstance(setup, frames.HostSetup)
        if self._workers is None:
            torch.set_num_threads(1)
            torch.set_grad_enabled(False)
            # Arrays of the object store cannot be written, and PyTorch has no such thing; nobody writes to inputs.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
            self._workers = HostedWorkers.load(setup)
            self._fields = setup.execution.fields
            self._updates = Region(tasks_a_call(self._workers.update_bytes) * self._workers.update_bytes)
        return frames.pack(self._workers.join(setup.workers))

    def begin(self, round: int, parameters: np.ndarray, packed: np.ndarray, examples: int) -> None:
        """Takes what the tasks of a round start from.

        Args:
            round: its number.
            parameters: the state's bytes (uint8).
            packed: the examples (`pack_examples`).
            examples: how many.

        Raises:
            EngineError: there are not as many bytes as there must be.
        """
        assert self._workers is not None
        self._inputs.close()  # gives back what the last round started from
        if parameters.dtype != np.uint8 or parameters.nbytes < self._workers.state_bytes:
            raise EngineError(f"parameters of {parameters.nbytes} bytes; expected {self._workers.state_bytes}")
        batch = unpack_examples(self._fields, packed, examples)
        self._inputs.enter_context(self._workers.inputs(aligned(parameters), batch))
        self._at.set(round, tags=self._tags)

    def work(self, raw: bytes) -> tuple[bytes, np.ndarray]:
        """Executes tasks of the round that was begun; returns a `HostReply`, and their updates one after another."""
        deal = frames.unpack(raw)
        assert self._workers is not None and isinstance(deal, frames.Deal)
        size = self._workers.update_bytes
        updates = self._updates.bytes[: len(deal.tasks) * size]
        slots = {dealt.seat: updates[i * size : (i + 1) * size] for i, dealt in enumerate(deal.tasks)}
        emitted: list[frames.Results | frames.ExecutionFailed] = []
        self._workers.work(deal, lambda dealt: slots[dealt.seat], emitted.append)
        results = [message for message in emitted if isinstance(message, frames.Results)]
        failed = [message for message in emitted if isinstance(message, frames.ExecutionFailed)]
        if results:
            self._done.inc(sum(len(message.done) for message in results), tags=self._tags)
        return encode(HostReply(results, failed)), updates

    def open(self, round: int) -> bytes:
        """Every opening that its workers owe in a round: a `HostOpenings`."""
        assert self._workers is not None
        return frames.pack(self._workers.open(round))
