"""Frames between the manager's process and the processes that host workers: a length, then one canonical record."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import msgspec

from podlt.canonical import MAX_RECORD, Decoder, encode
from podlt.engine.child import read_frame, write_frame
from podlt.errors import EngineError
from podlt.execution.setup import Conformance, ExecutionSetup
from podlt.protocol.messages import Committed, JoinSignatures, Opened, Task, TreeSize

MAX_FRAME = MAX_RECORD
"""What a decoder takes; checked before any of it is read."""

REGIONS = 3
"""How many descriptors follow a setup: of the parameters, the batch and the updates."""


class Frame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every frame has: its kind."""


class Hosted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An identity that a process hosts.

    Attributes:
        number: in the run.
        seed: its private key.
        cheat: turns it into an adversary (demonstrations and tests).
    """

    number: int
    seed: bytes
    cheat: str = ""


class HostSetup(Frame, frozen=True, tag="setup"):
    """Everything a process needs before the first round, except the shared regions' file descriptors.

    Attributes:
        execution: what executing needs, except the program.
        program: its bytes.
        seen: the last tree head: workers sign it when they join.
        workers: those to host.
        slots: how many updates there are in a round.
    """

    execution: ExecutionSetup
    program: bytes
    seen: TreeSize
    workers: list[Hosted]
    slots: int


class Ready(Frame, frozen=True, tag="ready"):
    """The program was validated, this machine's arithmetic was checked, and the regions are mapped.

    Attributes:
        joins: the workers' signatures on joining.
        conformance: of this machine's arithmetic.
    """

    joins: list[JoinSignatures]
    conformance: Conformance


class DealtTask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A task as it reaches a process.

    Attributes:
        seat: the worker that it was dealt to at first.
        holder: the worker that executes it.
        start: where its examples begin in the batch.
        stop: where they end.
        task: names its inputs.
    """

    seat: int
    holder: int
    start: int
    stop: int
    task: Task


class Deal(Frame, frozen=True, tag="deal"):
    """Tasks of one round.

    Attributes:
        buffer: which of the two batch buffers holds the round's examples.
        examples: how many they are.
        tasks: at least one.
        proof: false only for measuring.
    """

    buffer: int
    examples: int
    tasks: list[DealtTask]
    proof: bool = True


class Results(Frame, frozen=True, tag="results"):
    """Commitments to finished tasks.

    Attributes:
        round: of the tasks.
        committed: one a task; none without the proof.
        done: the tasks, by their seats.
        faked: those of them that a cheater faked; for the summary only, as the seconds are: no rule rests on it.
        proof_seconds: what the proof took.
        compute_seconds: what the tasks took.
    """

    round: int
    committed: list[Committed]
    done: list[int]
    faked: list[int]
    proof_seconds: float
    compute_seconds: float


class ExecutionFailed(Frame, frozen=True, tag="failed"):
    """A worker could not execute a task.

    Attributes:
        round: of the task.
        seat: of the task.
        holder: the worker.
        message: says why.
    """

    round: int
    seat: int
    holder: int
    message: str


class HostOpenings(Frame, frozen=True, tag="openings"):
    """What the commitments hid."""

    round: int
    opened: list[Opened]


class Stop(Frame, frozen=True, tag="stop"):
    """The process may end."""


_decoder: Decoder[Frame] = Decoder(HostSetup | Ready | Deal | Results | ExecutionFailed | HostOpenings | Stop)


def pack(message: Frame) -> bytes:
    """A message's one encoding, as an engine carries it.

    Raises:
        EngineError: the message is longer than a frame may be.
    """
    body = encode(message)
    if len(body) > MAX_FRAME:
        raise EngineError(f"{type(message).__name__.lower()} message of {len(body)} bytes is longer than {MAX_FRAME}")
    return body


def unpack(body: bytes) -> Frame:
    """The message of an encoding.

    Raises:
        InvalidProofError: malformed, or longer than a frame may be.
    """
    return _decoder.decode(body)


def send(connection: socket.socket, message: Frame) -> None:
    """Sends one frame.

    Raises:
        OSError: the other side is gone.
        EngineError: the message is longer than a frame may be.
    """
    write_frame(connection, pack(message))


def receive(connection: socket.socket) -> Frame | None:
    """The next frame, or None when the other side has closed.

    Raises:
        InvalidProofError: longer than the limit, or malformed: nothing that follows can be read.
    """
    body = read_frame(connection, MAX_FRAME)
    return None if body is None else unpack(body)


def send_setup(connection: socket.socket, setup: HostSetup, descriptors: Sequence[int]) -> None:
    """Sends a setup, and after it the descriptors of the shared regions.

    Raises:
        OSError: the other side is gone.
        EngineError: the program is longer than a frame may be.
    """
    assert len(descriptors) == REGIONS
    send(connection, setup)
    socket.send_fds(connection, [b"."], list(descriptors))


def receive_descriptors(connection: socket.socket) -> list[int]:
    """The descriptors that follow a setup, open in this process.

    Raises:
        ConnectionResetError: the other side is gone.
    """
    _, descriptors, _, _ = socket.recv_fds(connection, 1, REGIONS)
    if len(descriptors) != REGIONS:
        raise ConnectionResetError("the manager is gone")
    return descriptors
