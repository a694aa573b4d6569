"""What a worker's process and the process that executes its tasks say to each other."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from podlt.canonical import MAX_RECORD, encode
from podlt.errors import EngineError, InvalidProofError, PodltError, UsageError
from podlt.execution.setup import ExecutionSetup
from podlt.protocol.fingerprint import Fingerprint
from podlt.protocol.messages import Task
from podlt.units import MOST_SECONDS, Count, Digest

Seconds = Annotated[float, Meta(ge=0.0, le=MOST_SECONDS)]

FAULTS: dict[str, type[PodltError]] = {"proof": InvalidProofError, "usage": UsageError, "engine": EngineError}
"""Whose fault it is that a program cannot be executed: the manager's, the owner's, or nobody's."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every record has: its kind."""


class KnownArithmetic(msgspec.Struct, frozen=True):
    """What a machine computes for known inputs: the digest of it, and the first operation that is wrong, if any."""

    digest: Annotated[str, Meta(max_length=200)]
    differing: Annotated[str, Meta(max_length=200)] = ""

    @property
    def exact(self) -> bool:
        """Whether that follows from code and processor alone."""
        return self.digest.startswith("exact ")


class LoadProgram(Record, frozen=True, tag="load"):
    """A program is to be executed.

    Attributes:
        program: its bytes, as they came.
        digest: that it must have.
        arithmetic: the digest of its arithmetic's definition, as the run has it.
        execution: what executing needs besides.
        memory: the most bytes that its process may take; 0 for no bound but this machine's.
        device: where it computes, as `exact.portable.devices` names it.
        threads: how many PyTorch may use, where the arithmetic allows it.
        on_disk: whether updates are large, and are to be in a file.
        known: what this machine computes, where that was found before.
    """

    program: bytes
    digest: bytes
    arithmetic: bytes
    execution: ExecutionSetup
    memory: int
    device: str
    threads: int
    on_disk: bool = False
    known: KnownArithmetic | None = None


class MapMemory(Record, frozen=True, tag="map"):
    """The memory of parameters and slots, by two descriptors that follow: so many bytes, and so many bytes a slot."""

    state_bytes: int
    stride: int


class AdmitCheat(Record, frozen=True, tag="admit"):
    """A worker does something else instead of working (`podlt.execution.adversary`), with a secret of its own."""

    number: int
    cheat: str
    secret: bytes


class HoldParameters(Record, frozen=True, tag="hold"):
    """The parameters in memory are whole, and have this digest."""

    digest: bytes


class ReleaseParameters(Record, frozen=True, tag="release"):
    """The parameters in memory change."""


class RunTask(Record, frozen=True, tag="run"):
    """A task: its `count` examples are in a slot, behind the place of its update, in `nbytes` bytes, as they came."""

    number: int
    slot: int
    holder: int
    task: Task
    count: int
    nbytes: int


class FingerprintSlot(Record, frozen=True, tag="fingerprint"):
    """The fingerprint of the update in a slot is to be worked out: see `interface.FingerprintUpdate`."""

    number: int
    slot: int
    scaling: tuple[int, int]
    exponents: list[int]
    points: list[int]


class Sized(Record, frozen=True, tag="sized"):
    """A program was checked: what memory it needs, and what this machine computes."""

    state_bytes: Count
    update_bytes: Count
    example_bytes: Count
    packed_bytes: Count
    arithmetic: Annotated[str, Meta(max_length=100)]
    measured: KnownArithmetic


class NotLoaded(Record, frozen=True, tag="not_loaded"):
    """A program is none that can be executed here."""

    fault: Annotated[str, Meta(max_length=10)]
    reason: Annotated[str, Meta(max_length=2000)]

    def error(self) -> PodltError:
        """It as an error."""
        return FAULTS.get(self.fault, EngineError)(self.reason)


class RunDone(Record, frozen=True, tag="done"):
    """A task was executed; its update is in its slot, and also packed in so many bytes if not 0."""

    number: int
    packed: Count
    digest: Digest
    proof: Seconds
    compute: Seconds


class RunFailed(Record, frozen=True, tag="failed"):
    """A task could not be executed."""

    number: int
    reason: Annotated[str, Meta(max_length=1000)]


class SlotFingerprinted(Record, frozen=True, tag="fingerprinted"):
    """The fingerprint of the update in a slot."""

    number: int
    fingerprint: Fingerprint


Command = LoadProgram | MapMemory | AdmitCheat | HoldParameters | ReleaseParameters | RunTask | FingerprintSlot
Reply = Sized | NotLoaded | RunDone | RunFailed | SlotFingerprinted

MAX_COMMAND, MAX_REPLY = MAX_RECORD + 2**20, 2**16

_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def pack(record: Record) -> bytes:
    """A record as it travels."""
    return encode(record)


def command(body: bytes) -> Command:
    """A command, which is believed."""
    return _commands.decode(body)


def reply(body: bytes) -> Reply:
    """A reply, of a process that may be out of its mind.

    Raises:
        InvalidProofError: malformed.
    """
    try:
        return _replies.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidProofError(f"malformed reply: {error}") from None
