"""The entries of a run's log, in the order in which a run meets them. Field by field: docs/SPEC.md, section 3.

An entry says what happened; whether it may happen is `rules.RunState.apply`. `at` is the manager's clock in
milliseconds and never decreases. Each kind carries its version in its tag, so that a reader of tomorrow knows which
rules an old log was written under.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from podlt.canonical import Decoder, encode
from podlt.crypto import digest
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


class Join(Entry, frozen=True, tag="join/1"):
    """A worker is admitted; it signed the run's identity. A worker that had withdrawn comes back with the same key."""

    worker: WorkerId
    key: PublicKey
    signature: Signature


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
    """Credits moved: `earn` treasury -> pending, `vest` pending -> vested, `forfeit` pending -> treasury."""

    kind: Literal["earn", "vest", "forfeit"]
    worker: WorkerId
    amount: Credits


class Pay(Entry, frozen=True, tag="pay/1"):
    """The round ends with what it pays, vests and forfeits, in the order of the rules."""

    round: Round
    transfers: list[Transfer]


class Resume(Entry, frozen=True, tag="resume/1"):
    """The manager goes on with a run that had stopped."""


class Close(Entry, frozen=True, tag="close/1"):
    """The run is complete, or stopped for a reason after which it can be resumed."""

    outcome: Literal["complete", "stopped"]
    reason: Text


AnyEntry = Begin | Join | Withdraw | Open | Redeal | Commit | Reveal | Verdict | Apply | Pay | Resume | Close

KINDS: tuple[type[Entry], ...] = AnyEntry.__args__

entry_decoder: Decoder[AnyEntry] = Decoder(AnyEntry)


def kind_of(kind: type[Entry]) -> str:
    """A kind's name without its version: "begin", "join", ..."""
    return kind.__name__.lower()


def identity(begin: Begin) -> bytes:
    """The run's identity, 32 bytes: a digest over all that `Begin` says but its time."""
    return digest("run/1", encode(msgspec.structs.replace(begin, at=0)))
