"""What manager and workers say to each other over a network: canonical records.

Who sent one is known from the link that it came on, never from what it says: a record names no key, and a number only
where a signature covers it. Blobs (the program, parameters, examples, updates) are inside the records that name them,
up to `INLINE` bytes; larger ones go by requests of HTTP (`blobs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from podlt.canonical import COPIED, Buffer, Decoder, encode, encode_with
from podlt.data.field import Field
from podlt.errors import InvalidProofError
from podlt.log.tree_head import MAX_NOTE
from podlt.protocol.fingerprint import ScaledPart, SignedFingerprint, SumTerms
from podlt.protocol.messages import JoinSignatures, JoinTerms, Opened, Task
from podlt.protocol.receipt import CommitmentReceipt
from podlt.units import MOST_SECONDS, Count, Digest, Millis, Round, Seat, Signature, Text, WorkerId

VERSION = 7  # of these messages: a worker of another version is refused with a reason

MAX_MESSAGE = 512 * 1024
"""No message is longer."""

INLINE = MAX_MESSAGE - 8 * 1024
"""Blobs up to this size travel inside a record. What is longer is large (`session.facts.LargeBlobs` decides it), and
comes from the servers of `Setup.blobs`: the record that names it has none of its bytes then."""

MOST_URLS = 256  # into how many objects of an object store a blob may be cut

HEARTBEAT_SECONDS = 2.0
"""Seconds between two heartbeats of a worker. What is missing after as long is sent, or asked for, again."""

Nonce = Annotated[bytes, Meta(min_length=8, max_length=8)]
Seconds = Annotated[float, Meta(ge=0.0, le=MOST_SECONDS)]
"""No NaN either: it is not at least 0."""

Inline = Annotated[memoryview, Meta(max_length=INLINE)]
"""The bytes of a blob; none where it is large."""

NOTHING = memoryview(b"")
Url = Annotated[str, Meta(max_length=1500)]
Note = Annotated[str, Meta(max_length=MAX_NOTE)]
"""A signed tree head; empty while the log is."""

Raw = bytes | memoryview
"""A message as it came."""


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
    in_hand: Annotated[list[Seat], Meta(max_length=1024)]


class TaskDone(Message, frozen=True, tag="done"):
    """A worker commits to the result of a task, and sends it: `data` is the update, packed where that is shorter
    (`podlt.execution.sparse`). Where updates are large it is empty; the manager asks for the update by `UploadUpdate`.

    `update` is its digest. It is sent at once, to the manager alone, while other workers still compute: the
    manager knows who is checked anyway, so that it learns nothing by it that it could abuse.
    """

    deal_id: Nonce
    seat: Seat
    commitment: Digest
    signature: Signature
    update: Digest
    proof_seconds: Seconds
    compute_seconds: Seconds
    data: Inline = NOTHING


class TaskFailed(Message, frozen=True, tag="failed"):
    """A worker could not execute a task."""

    deal_id: Nonce
    seat: Seat
    reason: Annotated[str, Meta(max_length=1000)]


class Openings(Message, frozen=True, tag="openings"):
    """What a worker's commitments hid."""

    deal_id: Nonce
    opened: Annotated[list[Opened], Meta(max_length=1024)]


class Fingerprints(Message, frozen=True, tag="fingerprints"):
    """The fingerprints of a worker's updates of a round that is over, as it was asked for (`GetFingerprints`)."""

    deal_id: Nonce
    terms: SumTerms
    signed: Annotated[list[SignedFingerprint], Meta(min_length=1, max_length=256)]


class GetParameters(Message, frozen=True, tag="get_parameters"):
    """The parameters of this digest, which a task names, were not announced."""

    digest: Digest


class GetReceipts(Message, frozen=True, tag="get_receipts"):
    """A worker has missed what the log says from entry `first` on."""

    first: Count


class Leave(Message, frozen=True, tag="leave"):
    """A worker goes, and says so."""

    reason: Annotated[str, Meta(max_length=200)]


# -- from the manager ------------------------------------------------------------------------------------------------
class Setup(Message, frozen=True, tag="setup"):
    """What there is to do: everything that a worker needs before it joins. Signed by the run's manager.

    What the run's first entry says is taken from there alone (`podlt.wire.run_setup`).

    Attributes:
        begin: the run's first entry, in its one encoding.
        head: the last tree head that is on the manager's disk.
        program_blob: the digest of the program's bytes.
        program_size: how many they are.
        program: the bytes; empty where they are large.
        fields: of each example.
        blobs: URLs of the server of large blobs (the same one, by different names); without any there are none.
        certificate: SHA-256 of its certificate.
        updates_as_blobs: updates are large: they are uploaded there, when the manager asks for them.
    """

    version: Count
    begin: Annotated[bytes, Meta(max_length=1024)]
    head: Note
    program_blob: Digest
    program_size: Count
    program: Annotated[bytes, Meta(max_length=INLINE)]
    fields: list[Field]
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
    """The parameters of the round that begins: their digest, size and bytes.

    Where these are large, they are at `urls` if there are any, cut into parts of `part` bytes, else at the servers of
    `Setup`.
    """

    digest: Digest
    size: Count
    urls: Annotated[list[Url], Meta(max_length=MOST_URLS)] = []
    part: Count = 0
    data: Inline = NOTHING


class DealTask(Message, frozen=True, tag="task"):
    """A task.

    Attributes:
        deal_id: of the deal that it belongs to.
        seat: that it was dealt to at first.
        task: names its inputs.
        count: how many examples it has.
        blob: the digest of their bytes, where they are large; else zeros.
        size: of their bytes, field by field.
        examples: these, packed where they are fewer than `size`; nothing where they are large.
    """

    deal_id: Nonce
    seat: Seat
    task: Task
    count: Count
    blob: Digest
    size: Count
    examples: Inline = NOTHING


class OpenCommitments(Message, frozen=True, tag="open"):
    """All commitments are in: show what they hid. With a receipt for each of the worker's; it opens no other."""

    deal_id: Nonce
    round: Round
    receipts: Annotated[list[CommitmentReceipt], Meta(max_length=1024)]


class UploadUpdate(Message, frozen=True, tag="upload"):
    """The update of a task, which is large, is to be uploaded."""

    deal_id: Nonce
    seat: Seat


class GetFingerprints(Message, frozen=True, tag="get_fingerprints"):
    """A round is over: all are asked for the fingerprints of what they gave in its last deal."""

    deal_id: Nonce
    terms: SumTerms
    scaled: Annotated[list[ScaledPart], Meta(max_length=2**14)]


class TooLate(Message, frozen=True, tag="too_late"):
    """An answer was not needed any more: nothing is paid for it, and nothing is held against anybody."""

    deal_id: Nonce
    seat: Seat


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


Up = (
    Hello | JoinRequest | SignedJoin | Heartbeat | TaskDone | TaskFailed | Openings | Fingerprints | GetParameters
    | GetReceipts | Leave
)  # fmt: skip
Down = (
    Setup | ManagerHello | Offer | Welcome | JoinRefused | Dismissed | Parameters | DealTask | OpenCommitments
    | UploadUpdate | GetFingerprints | TooLate | Receipts | MissedReceipts | RunFinished
)  # fmt: skip

BLOBS = {TaskDone: "data", Parameters: "data", DealTask: "examples"}
"""Messages with the bytes of a blob: their last field."""

_up: Decoder[Up] = Decoder(Up, BLOBS)
_down: Decoder[Down] = Decoder(Down, BLOBS)


def record(message: Message, blob: Sequence[Buffer] = ()) -> bytes:
    """A record as a message.

    Args:
        blob: the parts of the bytes that its last field is to have, if it has none yet.
    """
    name = BLOBS.get(type(message))
    parts = blob or ([getattr(message, name)] if name is not None else [])
    if name is None or sum(map(len, parts)) < COPIED:
        return encode(message if not blob else msgspec.structs.replace(message, **{str(name): b"".join(blob)}))
    return encode_with(message, name, parts)


def from_worker(message: Raw) -> Up:
    """What a worker said.

    Raises:
        InvalidProofError: malformed, or too long.
    """
    return _up.decode(_short(message))


def from_manager(message: Raw) -> Down:
    """What the manager said.

    Raises:
        InvalidProofError: malformed, or too long.
    """
    return _down.decode(_short(message))


def _short(message: Raw) -> Raw:
    if not 1 <= len(message) <= MAX_MESSAGE:
        raise InvalidProofError(f"message of {len(message)} bytes; expected 1 to {MAX_MESSAGE}")
    return message
