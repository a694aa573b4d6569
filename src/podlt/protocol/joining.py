"""How a worker joins, on the side of the manager: what it may be offered, and whether what it signed still fits."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count

from podlt.errors import PeerError
from podlt.protocol import entries as e
from podlt.protocol.families.membership import AWAY, may_return
from podlt.protocol.messages import JoinSignatures, JoinTerms, TreeSize
from podlt.protocol.roster import WorkerState
from podlt.protocol.rules import RunState
from podlt.protocol.signatures import signature_checks

OUTDATED = "outdated"
"""The reason of a refusal after which other terms may be offered."""


def terms_for(
    state: RunState,
    key: bytes,
    deposit: int,
    seen: TreeSize,
    reserved: Collection[int] = (),
    operator: str = "",
) -> JoinTerms:
    """The terms on which a worker may join now, for it to sign.

    Args:
        key: the worker's public key.
        deposit: credits that the manager holds for it from now on, besides what it held before.
        seen: the last tree head, which the worker is shown.
        reserved: numbers that were offered to others.
        operator: who runs the worker; one that comes back keeps the one that it had.

    Raises:
        PeerError: the key was evicted or is in the run already, left too often in the middle of a round, or the run
            cannot take this deposit.
    """
    number = state.roster.number(key)
    if number is None:
        taken = state.workers
        number = next(n for n in count(len(taken)) if n not in taken and n not in reserved)
    else:
        known = state.workers[number]
        operator = known.operator
        if known.status not in AWAY:
            raise PeerError(number, "join", f"cannot join: its key is {known.status} in this run")
        if not may_return(known):
            raise PeerError(number, "join", f"cannot join: it left {known.left_bound} rounds in which it had answered")
    if deposit > (room := state.room()):
        raise PeerError(number, "deposit", f"its deposit of {deposit} is more than the {room} that a run can hold")
    return JoinTerms(number, deposit, seen.size, seen.root, operator)


def joining(state: RunState, at: int, key: bytes, terms: JoinTerms, signatures: JoinSignatures) -> e.Join:
    """The entry with which a worker joins at a time (milliseconds), once it signed.

    Raises:
        PeerError: the signature does not hold, or (reason `OUTDATED`) the rules do not allow these terms any more.
    """
    entry = e.Join(
        at=at,
        worker=terms.worker,
        key=key,
        operator=terms.operator,
        deposit=terms.deposit,
        seen=terms.seen,
        root=terms.root,
        signature=signatures.terms,
        share=signatures.share,
    )
    if not all(check.holds() for check in signature_checks(state, entry)):
        raise PeerError(terms.worker, "join", "the signature on joining does not hold")
    known = state.workers.get(terms.worker)
    fits = known is None and state.roster.number(key) is None
    back = known is not None and is_back(known, key, terms)
    if not (fits or back) or terms.deposit > state.room() or terms.seen > state.index:
        raise PeerError(terms.worker, OUTDATED, "the terms that it signed are out of date")
    return entry


def is_back(known: WorkerState, key: bytes, terms: JoinTerms) -> bool:
    """Whether a worker may join again on terms that it signed."""
    same = (known.key, known.operator) == (key, terms.operator)
    return same and known.status in AWAY and may_return(known) and terms.seen > known.joined
