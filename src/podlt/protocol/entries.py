"""The entries of a run's log, in the order in which a run meets them. Field by field: docs/SPEC.md, section 3.

An entry says what happened; whether it may happen is `rules.RunState.apply`. `at` is the manager's clock in
milliseconds and never decreases. Each kind carries its version in its tag, so that a reader of tomorrow knows which
rules an old log was written under. A run keeps the versions that its first entry began with (`FORMATS`): a newer
version of a kind is a class of its own, derived from the older one, and what is true of the old holds of the new.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from podlt.canonical import MAX_RECORD, Decoder, encode
from podlt.crypto import digest
from podlt.errors import InvalidProofError, UsageError
from podlt.units import Count, Credits, Digest, Millis, PublicKey, Round, Salt, Signature, Text, WorkerId


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every entry has."""

    at: Millis


class Begin(Entry, frozen=True, tag="begin/1"):
    """The first entry: everything that fixes the run's bits and rules.

    `seed` fixes data order and randomness; `nonce` makes the run unique; `chain_end` is the end of the manager's
    chain of `chain_length` secrets; `reward` is in credits a line; with `fragment_lines` 0 a block is dealt whole.
    """

    preset: Literal["classic"]
    manager: PublicKey
    nonce: Digest
    recipe: Digest
    program: Digest
    data: Digest
    parameters: Digest
    seed: Digest
    lines: Count
    epochs: Count
    block_lines: Count
    fragment_lines: Count
    spares: Count
    reward: Credits
    chain_end: Digest
    chain_length: Count


class Begin2(Begin, frozen=True, tag="begin/2"):
    """As `Begin`, of a run with deposits; and with which arithmetic it is computed.

    `arithmetic` is a digest of what the manager's machine computes for known inputs (`podlt.engine.conformance`): a
    run goes on only where the same inputs give the same bits.
    """

    arithmetic: Digest


class Join(Entry, frozen=True, tag="join/1"):
    """A worker is admitted; it signed the run's identity. A worker that had withdrawn comes back with the same key."""

    worker: WorkerId
    key: PublicKey
    signature: Signature


class Join2(Join, frozen=True, tag="join/2"):
    """As `Join`; the manager holds `deposit` credits for it, besides what it held before."""

    deposit: Credits


class Withdraw(Entry, frozen=True, tag="withdraw/1"):
    """A worker is gone, or gave no usable answer. No fraud: it keeps what it earned, and may join again."""

    worker: WorkerId
    reason: Text


class Open(Entry, frozen=True, tag="open/1"):
    """A round begins: which lines of which epoch, cut into which fragments, on which parameters.

    Who does what is not here: it follows from the round's secret, which is revealed at the round's end.
    """

    round: Round
    purpose: Literal["train", "settle"]
    epoch: Count
    offset: Count
    lines: Count
    parameters: Digest
    fragments: list[Digest]


class Redeal(Entry, frozen=True, tag="redeal/1"):
    """The task that was dealt to `origin` goes to `holder` instead, this round."""

    round: Round
    origin: WorkerId
    holder: WorkerId


class Commitment(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`holder` binds itself to one result of the task that was dealt to `origin`, without showing it."""

    origin: WorkerId
    holder: WorkerId
    commitment: Digest
    signature: Signature


class Commit(Entry, frozen=True, tag="commit/1"):
    """Commitments to results, ascending by origin."""

    round: Round
    commitments: list[Commitment]


class Opening(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What opens the commitment to `origin`'s task: the digest of the update, and the salt."""

    origin: WorkerId
    update: Digest
    salt: Salt


class Reveal(Entry, frozen=True, tag="reveal/1"):
    """The round's secret, and all openings, ascending by origin."""

    round: Round
    secret: Digest
    openings: list[Opening]


class Verdict(Entry, frozen=True, tag="verdict/1"):
    """What a comparison came to: the proof record of the fragment.

    `agree`: all the same, the Proof of Deep Learning Training. `vote`: one of three differs from two that are the same.
    `referee`: the manager executed the task itself; whoever differs from it is evicted.
    """

    round: Round
    fragment: Count
    outcome: Literal["agree", "vote", "referee"]
    reason: Literal["compared", "no-majority", "non-finite"]
    accepted: Digest
    evicted: list[WorkerId]


class Apply(Entry, frozen=True, tag="apply/1"):
    """The round's updates were averaged (`update`) and applied; `parameters` are the state after it."""

    round: Round
    update: Digest
    parameters: Digest
    loss: float


class Transfer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Credits moved: `earn` treasury -> pending, `vest` pending -> vested, `forfeit` pending -> treasury.

    Of deposits: `seize` deposit -> treasury, with a conviction; `return` deposit -> returned, to its owner.
    """

    kind: Literal["earn", "vest", "forfeit", "seize", "return"]
    worker: WorkerId
    amount: Credits


class Pay(Entry, frozen=True, tag="pay/1"):
    """The round ends with what it pays, vests and forfeits, in the order of the rules."""

    round: Round
    transfers: list[Transfer]


class Pay2(Pay, frozen=True, tag="pay/2"):
    """As `Pay`; who is evicted loses its deposit as well."""


class Return(Entry, frozen=True, tag="return/1"):
    """Deposits go back to their owners: at the run's end to all who were not evicted, before it to who left for good.

    Each is returned whole, ascending by worker.
    """

    transfers: list[Transfer]


class Resume(Entry, frozen=True, tag="resume/1"):
    """The manager goes on with a run that had stopped."""


class Close(Entry, frozen=True, tag="close/1"):
    """The run is complete, or stopped for a reason after which it can be resumed."""

    outcome: Literal["complete", "stopped"]
    reason: Text


AnyEntry = (
    Begin | Begin2 | Join | Join2 | Withdraw | Open | Redeal | Commit | Reveal | Verdict | Apply | Pay | Pay2 | Return
    | Resume | Close
)  # fmt: skip

KINDS: tuple[type[Entry], ...] = AnyEntry.__args__

_SAME = (Withdraw, Open, Redeal, Commit, Reveal, Verdict, Apply, Resume, Close)

FORMATS: dict[type[Begin], frozenset[type[Entry]]] = {
    Begin: frozenset((Begin, Join, Pay, *_SAME)),
    Begin2: frozenset((Begin2, Join2, Pay2, Return, *_SAME)),
}
"""How a run began -> the kinds of entries that it may have. A run is written to its end as it began."""

_decoder: Decoder[AnyEntry] = Decoder(AnyEntry)


class NewerFormatError(UsageError):
    """An entry is of a kind or version that only a newer program knows: whether it holds cannot be said here."""


def decode(body: bytes) -> AnyEntry:
    """The entry whose one encoding is `body`.

    Raises:
        InvalidProofError: malformed, too long, out of range, or not the canonical encoding.
        NewerFormatError: a newer program wrote it.
    """
    try:
        return _decoder.decode(body)
    except InvalidProofError:
        tag = _tag(body)
        name, number = _parts(tag)
        known = max((_parts(tag_of(kind))[1] for kind in KINDS if kind_of(kind) == name), default=0)
        if number <= known:
            raise
        here = f"this one knows {name}/{known}" if known else f"this one knows no {name}"
        raise NewerFormatError(f"written by a newer podlt ({tag}; {here}): upgrade podlt to read it") from None


def tag_of(kind: type[Entry]) -> str:
    """A kind's name with its version, as it is written: "join/2"."""
    return str(kind.__struct_config__.tag)


def kind_of(kind: type[Entry]) -> str:
    """A kind's name without its version: "begin", "join", ..."""
    return _parts(tag_of(kind))[0]


def version_of(kind: type[Entry]) -> int:
    """A kind's version, from 1."""
    return _parts(tag_of(kind))[1]


def moves_credits(entry: Entry) -> bool:
    """Whether an entry changes anybody's account."""
    if isinstance(entry, Join2):
        return entry.deposit > 0
    return isinstance(entry, Pay | Return) and bool(entry.transfers)


def identity(begin: Begin) -> bytes:
    """The run's identity, 32 bytes: a digest over all that `Begin` says but its time."""
    return digest("run/1", encode(msgspec.structs.replace(begin, at=0)))


class _Tagged(msgspec.Struct):
    """What any version of any kind begins with."""

    kind: str


_tagged = msgspec.msgpack.Decoder(_Tagged)


def _tag(body: bytes) -> str:
    """What an entry that cannot be decoded says it is; "" if it says nothing."""
    try:
        return _tagged.decode(body).kind if len(body) <= MAX_RECORD else ""
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""


_TAG = re.compile(r"([a-z-]{1,32})/([1-9][0-9]{0,5})")


def _parts(tag: str) -> tuple[str, int]:
    """Name and version of a tag; nothing if it has another form, and then no program is known that wrote it."""
    found = _TAG.fullmatch(tag)
    return (found[1], int(found[2])) if found else ("", 0)
