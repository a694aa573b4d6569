"""The entries of a run's log, in the order in which a run meets them. Field by field: docs/SPEC.md, section 3.

An entry says what happened; whether it may happen is `rules.RunState.apply`. `at` is the manager's clock in
milliseconds and never decreases. Each kind carries the format's version in its tag, so that a reader knows what it
cannot read; a log is of one version.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from podlt.canonical import Decoder, encode, from_json
from podlt.crypto import digest
from podlt.errors import InvalidProofError, NotCheckedError
from podlt.protocol.options import FirstFault, Preset, RuleOptions
from podlt.protocol.plan import RoundCut
from podlt.protocol.tags import tag_in, tag_parts
from podlt.protocol.verdict import Outcome, Reason
from podlt.units import (
    Count,
    Credits,
    Digest,
    Level,
    Millis,
    Operator,
    PublicKey,
    Round,
    Salt,
    Seat,
    Signature,
    Text,
    WorkerId,
)


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every entry has."""

    at: Millis


class Begin(Entry, frozen=True, tag="begin/4"):
    """The first entry: everything that fixes the run's bits and rules.

    All but `at`, `manager`, `nonce` and the chain's end follow from the recipe and the data
    (`podlt.recipe.terms_of`): a manager cannot begin with other terms than its recipe's.

    Attributes:
        nonce: makes the run unique.
        recipe: digest of the recipe's canonical bytes.
        program: digest of the program's canonical bytes.
        arithmetic: what the manager's machine computes for known inputs (`podlt.execution.conformance`).
        data: digest of the training set, its number of examples included (`podlt.data.dataset`).
        test: digest of the test set, its number of examples included; `NO_TEST` where there is none.
        parameters: digest of the first parameters.
        seed: fixes data order and randomness.
        shard_size: examples for each useful worker; 0: a batch is dealt whole.
        local_steps: SGD steps of each task, at least 1.
        local_lr: learning rate of those steps, above 0; None where a task is one gradient.
        spares: how many workers repeat a checked shard; this and the six that follow: `options.RuleOptions`.
        reward: credits an example.
        chain_end: the end of the manager's chain of secrets.
        chain_length: how many secrets it has: at least one a round.
    """

    preset: Preset
    manager: PublicKey
    nonce: Digest
    recipe: Digest
    program: Digest
    arithmetic: Digest
    data: Digest
    test: Digest
    parameters: Digest
    seed: Digest
    examples: Count
    epochs: Count
    batch_size: Count
    shard_size: Count
    local_steps: Count
    local_lr: float | None
    spares: Count
    checked: Count
    own: Count
    own_most: Count
    clip: Count
    escrow: Count
    first_fault: FirstFault
    reward: Credits
    chain_end: Digest
    chain_length: Count

    @property
    def options(self) -> RuleOptions:
        """The rules of the run."""
        return RuleOptions(*(getattr(self, field) for field in RuleOptions.__struct_fields__))

    @property
    def cut(self) -> RoundCut:
        """How its examples are cut into rounds."""
        return RoundCut(self.examples, self.batch_size, self.shard_size)


class Join(Entry, frozen=True, tag="join/4"):
    """A worker is admitted, on the terms that it signed. One that had left comes back under its number and key.

    Attributes:
        operator: who runs it, as the manager's invitation names it; "" for nobody else.
        deposit: credits that the manager holds for it from now on, besides what it held before.
        seen: size of the last tree head that the worker saw: the signature cannot be used again.
        root: root of that tree head.
        signature: over the run's identity, number, deposit, size, root and operator (`messages.JoinTerms`).
        share: the worker's share of the draws, a signature over the run's identity alone: whatever terms the manager
            offers, it is the same.
    """

    worker: WorkerId
    key: PublicKey
    operator: Operator
    deposit: Credits
    seen: Count
    root: Digest
    signature: Signature
    share: Signature


class Withdraw(Entry, frozen=True, tag="withdraw/4"):
    """A worker is gone, or gave no usable answer. No fraud: it keeps what it earned, and may join again."""

    worker: WorkerId
    reason: Text


class NewLevel(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A worker is about 2^level times as fast as is usual."""

    worker: WorkerId
    level: Level


class Shares(Entry, frozen=True, tag="shares/4"):
    """Workers get other levels, ascending by worker, from the round after `round` on, which is the next one."""

    round: Round
    levels: list[NewLevel]


class Open(Entry, frozen=True, tag="open/4"):
    """A round begins: which examples of which epoch, cut into which shards, on which parameters.

    Who does what is not here: it follows from the round's secret, which is revealed at the round's end.

    Attributes:
        attempt: how often the manager had resumed the run before: receipts for commitments name it.
    """

    round: Round
    attempt: Count
    epoch: Count
    offset: Count
    examples: Count
    parameters: Digest
    shards: list[Digest]


class Redeal(Entry, frozen=True, tag="redeal/4"):
    """The task that was dealt to `seat` goes to `holder`: it was lost, or `holder` is the backup of who is late."""

    round: Round
    seat: Seat
    holder: WorkerId


class Commitment(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`holder` binds itself to one result of the task that was dealt to `seat`, without showing it."""

    seat: Seat
    holder: WorkerId
    commitment: Digest
    signature: Signature


class Commit(Entry, frozen=True, tag="commit/4"):
    """Commitments to results, ascending by seat and holder."""

    round: Round
    commitments: list[Commitment]


class Opening(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What opens `holder`'s commitment to `seat`'s task: the digest of the update, and the salt."""

    seat: Seat
    holder: WorkerId
    update: Digest
    salt: Salt


class Reveal(Entry, frozen=True, tag="reveal/4"):
    """The round's secret, and all openings, ascending by seat and holder."""

    round: Round
    secret: Digest
    openings: list[Opening]


class Verdict(Entry, frozen=True, tag="verdict/4"):
    """What a comparison came to: the proof record of the shard.

    `agree`: all the same, the Proof of Deep Learning Training. `vote`: one of three differs from two that are the same.
    `referee`: the manager executed the task itself; whoever differs from it is convicted.
    """

    round: Round
    shard: Count
    outcome: Outcome
    reason: Reason
    accepted: Digest
    convicted: list[WorkerId]


class ClippedPart(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A part of a shard's update was scaled by 2^-exponent: 0, its gradients; 1, its float buffers."""

    shard: Count
    part: Annotated[int, Meta(ge=0, le=1)]
    exponent: Annotated[int, Meta(ge=1, le=1024)]


class Apply(Entry, frozen=True, tag="apply/4"):
    """The round's updates were clipped, averaged (`update`) and applied; `parameters` are the state after it.

    `loss` is the first value of the average, the mean loss an example: whoever has the average has it.
    """

    round: Round
    update: Digest
    parameters: Digest
    loss: float
    clipped: list[ClippedPart]


class Figure(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One figure on the test set, such as ("accuracy", 0.97)."""

    name: Text
    value: float


class Measure(Entry, frozen=True, tag="measure/4"):
    """The figures of `parameters` on the test set after an epoch (from 0), ascending by name, all of them finite."""

    epoch: Count
    test: Digest
    parameters: Digest
    figures: list[Figure]


class Transfer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Credits moved: `earn` treasury -> pending, `vest` pending -> vested, `forfeit` pending -> treasury.

    Of deposits: `seize` deposit -> treasury, with a conviction; `return` deposit -> returned, to its owner.
    """

    kind: Literal["earn", "vest", "forfeit", "seize", "return"]
    worker: WorkerId
    amount: Credits


class Pay(Entry, frozen=True, tag="pay/4"):
    """The round ends with what it pays, vests and forfeits, in the order of the rules."""

    round: Round
    transfers: list[Transfer]


class Release(Entry, frozen=True, tag="release/4"):
    """What waited is its owner's: at the run's end all pending credits and deposits, before it a leaver's deposit.

    Transfers are whole: first of kind "vest", then of kind "return", each ascending by worker.
    """

    transfers: list[Transfer]


class Amend(Entry, frozen=True, tag="amend/4"):
    """The terms from here on: how many epochs there are in all, and the optimiser.

    Where as many epochs are done already, training ends here: an epoch that was begun stays unfinished. After a
    complete run it begins a new part of the same run, for which everybody joins again.

    Attributes:
        epochs: in all, those that are done included.
        optimizer: the recipe's `optimizer` from here on, as a document; "" for the one before.
        reason: for people.
    """

    epochs: Count
    optimizer: Text
    reason: Text

    @property
    def is_table(self) -> bool:
        """Whether the optimiser is given as a document, or not at all."""
        try:
            return not self.optimizer or isinstance(from_json(self.optimizer.encode()), dict)
        except InvalidProofError:
            return False


class Resume(Entry, frozen=True, tag="resume/4"):
    """The manager resumes a run: after a stop, or after a round that it has to begin anew."""


class Close(Entry, frozen=True, tag="close/4"):
    """The run is complete, or stopped for a reason after which it can be resumed."""

    outcome: Literal["complete", "stopped"]
    reason: Text


AnyEntry = (
    Begin | Join | Withdraw | Shares | Open | Redeal | Commit | Reveal | Verdict | Apply | Measure | Pay | Release
    | Amend | Resume | Close
)  # fmt: skip

KINDS: tuple[type[Entry], ...] = AnyEntry.__args__

FORMAT = 4
"""The version of the whole format: every kind carries it in its tag."""

NO_TEST = bytes(32)
"""Where there is no test set."""

_decoder: Decoder[AnyEntry] = Decoder(AnyEntry)


def decode(body: bytes) -> AnyEntry:
    """The entry whose one encoding is `body`.

    Raises:
        InvalidProofError: malformed, too long, out of range, or not the canonical encoding.
        NotCheckedError: it is of a newer format, which only a newer podlt knows.
    """
    try:
        return _decoder.decode(body)
    except InvalidProofError as error:
        name, number = tag_parts(tag_in(body))
        if number > FORMAT:
            raise NotCheckedError(
                f"written by a newer podlt ({name}/{number}; this one reads format {FORMAT}): upgrade podlt to check it"
            ) from None
        if 0 < number < FORMAT:
            message = f"{name}/{number} is of an older format, which podlt does not read any more"
            raise InvalidProofError(message, expected=f"{name}/{FORMAT}", actual=f"{name}/{number}") from None
        raise error


def tag_of(kind: type[Entry]) -> str:
    """A kind's name with its version, as it is written: "join/4"."""
    return str(kind.__struct_config__.tag)


def kind_of(kind: type[Entry]) -> str:
    """A kind's name without its version: "begin", "join", ..."""
    return tag_parts(tag_of(kind))[0]


def moves_credits(entry: Entry) -> bool:
    """Whether an entry changes anybody's account."""
    if isinstance(entry, Join):
        return entry.deposit > 0
    return isinstance(entry, Pay | Release) and bool(entry.transfers)


def identity(begin: Begin) -> bytes:
    """The run's identity, 32 bytes: a digest over all that `Begin` says but its time."""
    return digest("run/4", encode(msgspec.structs.replace(begin, at=0)))
