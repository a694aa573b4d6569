"""What manager and workers say to each other over a network: canonical records, and chunks of blobs.

A message is one byte that says which of the two it is, and then the record or the chunk. Who sent it is known from the
link that it came on, never from what it says: a record names no key, and a number only where a signature covers it.
"""

from __future__ import annotations

import struct
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from podlt.canonical import Decoder, encode
from podlt.data.field import Field
from podlt.errors import InvalidProofError
from podlt.log.tree_head import MAX_NOTE
from podlt.protocol.messages import JoinSignatures, JoinTerms, Opened, Task
from podlt.units import MOST_SECONDS, Count, Digest, Millis, Round, Signature, Text, WorkerId

VERSION = 4  # of these messages: a worker of another version is refused with a reason

INLINE = 256 * 1024
"""Lines and programs up to this size travel inside the record; larger ones in chunks, or as a blob."""

MAX_MESSAGE = 512 * 1024
"""No message is longer."""

LARGE = 8 * 2**20
"""Longer ones go as blobs, outside these messages, where the manager has a server for them (see `Setup.blobs`). The
manager decides that once for each, and the message that announces it carries the decision: `as_blob`."""

MOST_URLS = 256  # into how many objects of an object store a blob may be cut

HEARTBEAT_SECONDS = 2.0
"""Seconds between two heartbeats of a worker. What is missing after as long is sent, or asked for, again."""

Nonce = Annotated[bytes, Meta(min_length=8, max_length=8)]
Seconds = Annotated[float, Meta(ge=0.0, le=MOST_SECONDS)]
"""No NaN either: it is not at least 0."""

Range = tuple[Count, Count]
Ranges = Annotated[list[Range], Meta(max_length=64)]
Url = Annotated[str, Meta(max_length=1500)]
Note = Annotated[str, Meta(max_length=MAX_NOTE)]
"""A signed tree head; empty while the log is."""

Raw = bytes | memoryview
"""A message as it came."""

_RECORD, _CHUNK = b"\0", b"\1"
_SEAT = struct.Struct(">I")


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every record has: its kind."""


# -- from a worker ---------------------------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """Somebody wants to know what there is to do."""

    version: Count


class JoinRequest(Message, frozen=True, tag="join"):
    """A worker asks to be admitted: it gets an `Offer`, or its `Welcome` again. Nothing is signed yet.

    Attributes:
        process: the same for all identities of one process.
        arithmetic: the digest of what this machine computes for known inputs.
        differing: the first operation that is wrong.
    """

    run: Digest
    process: Nonce
    arithmetic: Annotated[str, Meta(max_length=200)]
    differing: Annotated[str, Meta(max_length=200)] = ""


class SignedJoin(Message, frozen=True, tag="signed"):
    """A worker joins on the terms that it was offered: its signatures on them, and on the run's identity."""

    run: Digest
    terms: JoinTerms
    signatures: JoinSignatures


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """A worker is there; `in_hand` are the tasks of `deal_id` that it has and did not answer yet."""

    deal_id: Annotated[bytes, Meta(max_length=8)]
    in_hand: Annotated[list[WorkerId], Meta(max_length=1024)]


class TaskDone(Message, frozen=True, tag="done"):
    """A worker commits to the result of a task, and will send it: the update follows in chunks, or, where it is large,
    the manager asks for it by `ResendUpdate`.

    `update` is its digest. It is sent at once, to the manager alone, while other workers still compute: the
    manager knows who is checked anyway, so that it learns nothing by it that it could abuse.
    """

    deal_id: Nonce
    seat: WorkerId
    commitment: Digest
    signature: Signature
    update: Digest
    proof_seconds: Seconds
    compute_seconds: Seconds


class TaskFailed(Message, frozen=True, tag="failed"):
    """A worker could not execute a task."""

    deal_id: Nonce
    seat: WorkerId
    reason: Annotated[str, Meta(max_length=1000)]


class Openings(Message, frozen=True, tag="openings"):
    """What a worker's commitments hid."""

    deal_id: Nonce
    opened: Annotated[list[Opened], Meta(max_length=1024)]


class GetChunks(Message, frozen=True, tag="get_chunks"):
    """Chunks that did not come: offset and length of each. Without any: how the parameters of this digest come."""

    digest: Digest
    ranges: Ranges


class GetReceipts(Message, frozen=True, tag="get_receipts"):
    """A worker has missed what the log says from entry `first` on."""

    first: Count


class Leave(Message, frozen=True, tag="leave"):
    """A worker goes, and says so."""

    reason: Annotated[str, Meta(max_length=200)]


# -- from the manager ------------------------------------------------------------------------------------------------
class Setup(Message, frozen=True, tag="setup"):
    """What there is to do: everything that a worker needs before it joins. Signed by the run's manager.

    What the run's first entry says is taken from there alone (`podlt.network.run_setup`).

    Attributes:
        begin: the run's first entry, in its one encoding.
        head: the last tree head that is on the manager's disk.
        program_blob: the digest of the program's bytes.
        program_size: how many they are.
        program: the bytes, empty where they do not fit in.
        fields: of each line.
        blobs: URLs of the server of large blobs (the same one, by different names); without any, all goes in messages.
        certificate: SHA-256 of its certificate.
        program_as_blob: the program is there; else it comes in this message or in chunks.
        updates_as_blobs: updates are uploaded there, when the manager asks for them; else they are sent in chunks.
    """

    version: Count
    begin: Annotated[bytes, Meta(max_length=1024)]
    head: Note
    program_blob: Digest
    program_size: Count
    program: Annotated[bytes, Meta(max_length=INLINE)]
    fields: list[Field]
    program_as_blob: bool = False
    updates_as_blobs: bool = False
    blobs: Annotated[list[Url], Meta(max_length=8)] = []
    certificate: Annotated[bytes, Meta(max_length=32)] = b""
    signature: bytes = b""


class ManagerHello(Message, frozen=True, tag="manager_hello"):
    """The manager is there: who works for this run is to join (again)."""

    run: Digest


class Offer(Message, frozen=True, tag="offer"):
    """The terms on which a worker may join, for it to sign; `head` is the tree head that they name."""

    run: Digest
    terms: JoinTerms
    head: Note


class Welcome(Message, frozen=True, tag="welcome"):
    """A worker was admitted, as this number; `at` is the manager's clock, in milliseconds since 1970."""

    number: WorkerId
    at: Millis


class JoinRefused(Message, frozen=True, tag="refused"):
    """A worker may not work for this run, and need not ask again."""

    reason: Text


class Dismissed(Message, frozen=True, tag="dismissed"):
    """A worker was withdrawn without fraud: it may join again, after so many seconds."""

    reason: Text
    seconds: Count


class Parameters(Message, frozen=True, tag="parameters"):
    """The parameters of the round that begins: their digest and size, and the blob from which they are to be had.

    The blob is the parameters themselves (`base` is empty), or what changed since those of the digest `base`; of no
    bytes where nothing did. Who does not have the base asks for the whole by its digest. `as_blob`: the blob, and
    the whole, are at `urls` if there are any, cut into parts of `part` bytes, else at the servers of `Setup`; if not,
    they come in chunks.
    """

    digest: Digest
    size: Count
    blob: Digest
    length: Count
    base: Annotated[bytes, Meta(max_length=32)] = b""
    as_blob: bool = False
    urls: Annotated[list[Url], Meta(max_length=MOST_URLS)] = []
    part: Count = 0


class DealTask(Message, frozen=True, tag="task"):
    """A task. `lines` are the bytes of its fields one after another; empty where they come as a blob or in chunks."""

    deal_id: Nonce
    seat: WorkerId
    task: Task
    count: Count
    blob: Digest
    size: Count
    lines: Annotated[bytes, Meta(max_length=INLINE)]
    as_blob: bool = False


class OpenCommitments(Message, frozen=True, tag="open"):
    """All commitments are in: show what they hid."""

    deal_id: Nonce
    round: Round


class ResendUpdate(Message, frozen=True, tag="resend"):
    """Chunks of the update of a task did not come; without any: the update is to be uploaded."""

    deal_id: Nonce
    seat: WorkerId
    ranges: Ranges


class TooLate(Message, frozen=True, tag="too_late"):
    """An answer was not needed any more: nothing is paid for it, and nothing is held against anybody."""

    deal_id: Nonce
    seat: WorkerId


class Receipt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An entry of the log that moved credits: its number, and its audit path to the root of a signed head."""

    index: Count
    entry: Annotated[bytes, Meta(max_length=MAX_MESSAGE)]
    proof: Annotated[list[Digest], Meta(max_length=64)]


class Receipts(Message, frozen=True, tag="receipts"):
    """Entries are in the log, on the disk: those from number `first` to the end of the signed head, with receipts."""

    first: Count
    head: Note
    receipts: Annotated[list[Receipt], Meta(max_length=4096)]


class MissedReceipts(Message, frozen=True, tag="missed_receipts"):
    """What one worker has missed: all that moved its credits in the entries from `first` to before `upto`.

    `worker` is its number: it may have had another when it asked.
    """

    worker: WorkerId
    first: Count
    upto: Count
    paid: Annotated[list[Receipts], Meta(max_length=4096)]


class RunFinished(Message, frozen=True, tag="finished"):
    """The run is complete, or stopped; its log has so many entries."""

    outcome: Annotated[str, Meta(max_length=20)]
    reason: Text
    entries: Count


Up = Hello | JoinRequest | SignedJoin | Heartbeat | TaskDone | TaskFailed | Openings | GetChunks | GetReceipts | Leave
Down = (
    Setup | ManagerHello | Offer | Welcome | JoinRefused | Dismissed | Parameters | DealTask | OpenCommitments
    | ResendUpdate | TooLate | Receipts | MissedReceipts | RunFinished
)  # fmt: skip

_up: Decoder[Up] = Decoder(Up)
_down: Decoder[Down] = Decoder(Down)


class Chunk(msgspec.Struct, frozen=True):
    """A chunk of a blob (see `blobs.chunks`); `seat` says of which task's update it is, where a worker sent it."""

    seat: int
    data: memoryview


M = TypeVar("M")


def record(message: Message) -> bytes:
    """A record as a message."""
    return _RECORD + encode(message)


def chunk(data: bytes, seat: int = 0) -> bytes:
    """A chunk as a message."""
    return heading(seat) + data


def heading(seat: int = 0) -> bytes:
    """What the message of a chunk begins with, for `chunks.split`."""
    return _CHUNK + _SEAT.pack(seat)


def from_worker(message: Raw) -> Up | Chunk:
    """What a worker said.

    Raises:
        InvalidProofError: malformed, or too long.
    """
    return _parse(message, _up)


def from_manager(message: Raw) -> Down | Chunk:
    """What the manager said.

    Raises:
        InvalidProofError: malformed, or too long.
    """
    return _parse(message, _down)


def _parse(message: Raw, decoder: Decoder[M]) -> M | Chunk:
    if not 1 <= len(message) <= MAX_MESSAGE:
        raise InvalidProofError(f"message of {len(message)} bytes; expected 1 to {MAX_MESSAGE}")
    if message[:1] == _RECORD:
        return decoder.decode(message[1:])
    if message[:1] != _CHUNK or len(message) < 1 + _SEAT.size:
        raise InvalidProofError("malformed message: neither a record nor a chunk")
    return Chunk(_SEAT.unpack_from(message, 1)[0], memoryview(message)[1 + _SEAT.size :])
