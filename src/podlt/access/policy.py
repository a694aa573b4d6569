"""Who may work for a run: by an invitation, as an allowed key, or, where the run is open, for a deposit.

A decision is a function of what is known, who asks, with what, and when; it gives back what is known after it. A key
that was let in once is a member, and needs no invitation to come back. What the operator says of a key (revoked,
paused) is stronger than how it came in.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from podlt.canonical import from_json, to_json
from podlt.errors import InvalidProofError, UsageError
from podlt.units import Count, Millis, Operator

PAUSED_SECONDS = 30
"""How long a paused worker waits before it asks again."""

MOST_MEMBERS = 20_000
"""No more keys are remembered: what an invitation lets in is bounded by its uses, and this bounds the invitations."""

NOT_INVITED = "this key was not invited to the run"

Key = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Reason = Annotated[str, Meta(max_length=400)]
By = Literal["invitation", "allowlist", "open"]


class Issued(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An invitation that was given out.

    Attributes:
        uses: for how many workers.
        used: how many came.
        issued: when, in milliseconds since 1970.
        expires: until when, in milliseconds since 1970; 0 for never.
        revoked: whether it is no longer good.
        note: the owner's own words, who it is for.
        operator: whose workers come by it: they are one operator, as are those of other invitations of this name.
    """

    uses: Count
    issued: Millis
    used: Count = 0
    expires: Millis = 0
    revoked: bool = False
    note: Reason = ""
    operator: Operator = ""


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that was let in: how, by which invitation, and when first."""

    by: By
    since: Millis
    invitation: str = ""


class Payment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deposit that somebody paid, or (`back`) that was paid back, outside of podlt: the word of the run's owner.

    Attributes:
        amount: in credits.
        at: milliseconds since 1970.
        reference: the owner's own words, by which it is found again.
    """

    amount: Annotated[int, Meta(ge=1, lt=2**62)]
    at: Millis
    reference: Reason = ""
    back: bool = False


class Admitted(msgspec.Struct, frozen=True):
    """A worker is let in.

    Attributes:
        after: what is to be kept, the same object as before if nothing changed.
    """

    after: AccessPolicy
    by: By


class Refusal(msgspec.Struct, frozen=True):
    """A worker is not let in: why, and after how many seconds it may ask again; None for never."""

    reason: str
    seconds: int | None = None


class AccessPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a manager knows of who may work for its run. Keys are in hexadecimal digits.

    Attributes:
        invitations: by their names.
        members: keys that were let in by one or by the allowlist.
        allowed: keys that need none.
        revoked: keys that may never again, and why.
        paused: keys that may not for now, and why.
        everybody_paused: nobody may for now.
        deposit: credits that a run open to all asks for, None if it is not open.
        payee: to whom they are to be paid.
        payments: what was paid as a deposit, by key.
        operators: allowed keys that belong to somebody who has other workers too, and whose.
        most_identities: how many workers of one operator are let in; None for any number.
    """

    invitations: dict[Name, Issued] = {}
    members: dict[Key, Known] = {}
    allowed: dict[Key, Reason] = {}
    revoked: dict[Key, Reason] = {}
    paused: dict[Key, Reason] = {}
    everybody_paused: bool = False
    deposit: Annotated[int, Meta(ge=0, lt=2**62)] | None = None
    payee: Reason = ""
    payments: dict[Key, list[Payment]] = {}
    operators: dict[Key, Operator] = {}
    most_identities: Annotated[int, Meta(ge=1, lt=2**31)] | None = None

    # -- decisions ---------------------------------------------------------------------------------------------------

    def barred(self, key: bytes) -> Refusal | None:
        """Why a key may not be connected, whatever it brings; None if nothing speaks against it."""
        name = key.hex()
        if name in self.revoked:
            return Refusal(f"this key was revoked: {self.revoked[name] or 'no reason given'}")
        if name in self.paused:
            return Refusal(f"this key is paused: {self.paused[name] or 'no reason given'}", PAUSED_SECONDS)
        if self.everybody_paused:
            return Refusal("the run takes no workers for now", PAUSED_SECONDS)
        return None

    def decide(self, key: bytes, invitation: str, now: int, deposit: int = 0) -> Admitted | Refusal:
        """Whether a key is let in.

        Args:
            key: that the worker has shown to hold.
            invitation: the name of the one that it brought, or empty.
            now: milliseconds since 1970.
            deposit: credits that it agrees to have at stake (it has signed so).
        """
        barred = self.barred(key)
        if barred is not None:
            return barred
        name = key.hex()
        if name in self.members:
            return Admitted(self, self.members[name].by)
        if name in self.allowed:
            return self._full(self.operators.get(name, "")) or self._member(name, Known("allowlist", now), {})
        found = self._by_invitation(name, invitation, now) if invitation else Refusal(NOT_INVITED)
        if isinstance(found, Admitted) or self.deposit is None:
            return found
        if deposit < self.deposit:
            return Refusal(
                f"this run asks for a deposit of {self.deposit} credits, and {deposit} were offered: "
                "ask for a new address"
            )
        held = self.held(name)
        if held < self.deposit:
            return Refusal(
                f"this run asks for a deposit of {self.deposit} credits, and {held} are recorded for the key {name}: "
                f"pay {self.deposit - held} to {self.payee or 'the owner of the run'}, naming this key, and come again"
            )
        # Nothing is kept of those who come to an open run: keys cost nothing, and would fill any memory.
        return Admitted(self, "open")

    def held(self, key: str) -> int:
        """The credits that are recorded as a key's deposit, less what was paid back."""
        return sum(-one.amount if one.back else one.amount for one in self.payments.get(key, []))

    def operator(self, key: str) -> str:
        """Who runs the worker of a key, as its invitation or the allowlist names it; "" for nobody else."""
        member = self.members.get(key)
        issued = self.invitations.get(member.invitation) if member is not None else None
        return issued.operator if issued is not None else self.operators.get(key, "")

    def identities(self) -> dict[str, int]:
        """Operator -> how many of its workers were let in and not revoked, by name."""
        found = Counter(self.operator(key) for key in self.members if key not in self.revoked)
        return {name: found[name] for name in sorted(found) if name}

    def _full(self, operator: str) -> Refusal | None:
        """Why nobody else of an operator is let in, if so."""
        if self.most_identities is None or self.identities().get(operator, 0) < self.most_identities:
            return None
        return Refusal(f"{self.most_identities} workers of the operator {operator} were let in, and no more are")

    def _by_invitation(self, key: str, invitation: str, now: int) -> Admitted | Refusal:
        issued = self.invitations.get(invitation)
        if issued is None:
            return Refusal("the invitation is not one of this run")
        if issued.revoked:
            return Refusal("the invitation was revoked")
        if issued.expires and now >= issued.expires:
            return Refusal("the invitation has expired")
        if issued.used >= issued.uses:
            return Refusal(f"the invitation was used already ({issued.uses} of {issued.uses} times)")
        if (full := self._full(issued.operator)) is not None:
            return full
        used = msgspec.structs.replace(issued, used=issued.used + 1)
        return self._member(key, Known("invitation", now, invitation), {invitation: used})

    def _member(self, key: str, known: Known, invitations: dict[str, Issued]) -> Admitted | Refusal:
        if len(self.members) >= MOST_MEMBERS:
            return Refusal(f"this run remembers {MOST_MEMBERS} workers, and takes no more")
        after = msgspec.structs.replace(
            self, members={**self.members, key: known}, invitations={**self.invitations, **invitations}
        )
        return Admitted(after, known.by)

    # -- what the operator says --------------------------------------------------------------------------------------

    def issue(self, name: str, issued: Issued) -> AccessPolicy:
        """After an invitation was given out; one that names no operator gets the next free `invitation-N`."""
        if not issued.operator:
            taken = {other.operator for other in self.invitations.values()} | {*self.operators.values()}
            names = (f"invitation-{number}" for number in count(len(self.invitations) + 1))
            issued = msgspec.structs.replace(issued, operator=next(each for each in names if each not in taken))
        return msgspec.structs.replace(self, invitations={**self.invitations, name: issued})

    def withdraw(self, name: str) -> AccessPolicy:
        """After an invitation was revoked: who came by it stays.

        Raises:
            UsageError: there is none of this name.
        """
        if name not in self.invitations:
            raise UsageError(f"{name}: no invitation of this run has this name")
        revoked = msgspec.structs.replace(self.invitations[name], revoked=True)
        return msgspec.structs.replace(self, invitations={**self.invitations, name: revoked})

    def allow(self, key: str, note: str, operator: str = "") -> AccessPolicy:
        """After a key was allowed; if it was revoked, it no longer is.

        Args:
            operator: who runs it; "" for nobody else.
        """
        operators = {**_without(self.operators, key), **({key: operator} if operator else {})}
        return msgspec.structs.replace(
            self, allowed={**self.allowed, key: note}, operators=operators, revoked=_without(self.revoked, key)
        )

    def limit(self, most: int | None) -> AccessPolicy:
        """After the owner said how many workers of one operator are let in; who is in stays."""
        return msgspec.structs.replace(self, most_identities=most)

    def revoke(self, key: str, reason: str) -> AccessPolicy:
        """After a key was shut out for good."""
        return msgspec.structs.replace(self, revoked={**self.revoked, key: reason}, allowed=_without(self.allowed, key))

    def pause(self, key: str, reason: str) -> AccessPolicy:
        """After a key was shut out for now."""
        return msgspec.structs.replace(self, paused={**self.paused, key: reason})

    def resume(self, key: str) -> AccessPolicy:
        """After a key was let in again; a revoked one stays out."""
        return msgspec.structs.replace(self, paused=_without(self.paused, key))

    def pause_everybody(self, paused: bool) -> AccessPolicy:
        """After the run was closed for all, or opened again for those who may."""
        return msgspec.structs.replace(self, everybody_paused=paused)

    def open(self, deposit: int | None, payee: str | None = None) -> AccessPolicy:
        """After the run was opened to all who have paid a deposit, or (None) to nobody but those who are invited.

        Args:
            payee: to whom it is to be paid; as before unless given.
        """
        return msgspec.structs.replace(self, deposit=deposit, payee=self.payee if payee is None else payee)

    def pay(self, key: str, amount: int, now: int, reference: str) -> AccessPolicy:
        """After somebody paid a deposit for a key.

        Raises:
            UsageError: more keys, or larger sums, than are kept.
        """
        if key not in self.payments and len(self.payments) >= MOST_MEMBERS:
            raise UsageError(f"this run remembers the deposits of {MOST_MEMBERS} keys, and takes no more")
        if not 0 < amount < 2**62 - self.held(key):
            raise UsageError(f"a deposit of {amount} credits: expected 1 or more, and below 2^62 in all")
        return self._paid(key, Payment(amount, now, reference))

    def pay_back(self, key: str, now: int, reference: str) -> AccessPolicy:
        """After all that is held for a key was paid back: it must pay anew to come again.

        Raises:
            UsageError: nothing is held.
        """
        if not self.held(key):
            raise UsageError(f"no deposit is held for the key {key}")
        return self._paid(key, Payment(self.held(key), now, reference, back=True))

    def _paid(self, key: str, payment: Payment) -> AccessPolicy:
        return msgspec.structs.replace(self, payments={**self.payments, key: [*self.payments.get(key, []), payment]})


def to_bytes(admission: AccessPolicy) -> bytes:
    """As a canonical JSON document."""
    return to_json(msgspec.to_builtins(admission))


def from_bytes(raw: bytes) -> AccessPolicy:
    """What `to_bytes` wrote.

    Raises:
        InvalidProofError: malformed.
    """
    try:
        return msgspec.convert(from_json(raw), AccessPolicy)
    except msgspec.ValidationError as error:
        raise InvalidProofError(f"malformed: {error}") from None


def _without(names: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in names.items() if key != name}
