"""Claim WITNESSES: those whom the reader names cosigned the log, up to its last head."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from podlt.errors import InvalidProofError
from podlt.log.merkle import Tree
from podlt.log.notes import NoteSignature, WitnessKey, parse_cosignatures
from podlt.log.tree_head import Head
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.units import utc_text


class Cosigned(msgspec.Struct, frozen=True):
    """What a reader demands, and what is there.

    Attributes:
        witnesses: who must have cosigned the last head.
        raw: the cosignatures that came with the run, a line each.
    """

    witnesses: tuple[WitnessKey, ...] = ()
    raw: bytes = b""

    def over(self, origin: str) -> SeenHeads:
        """The heads that the demanded witnesses saw of a log."""
        return SeenHeads(self.witnesses, parse_cosignatures(self.raw, origin) if self.witnesses else [])


NOBODY = Cosigned()


class SeenHeads:
    """Heads that witnesses saw, compared with a log while it is read.

    Args:
        witnesses: whose.
        signatures: every cosignature that is there; those that are not of the witnesses, or do not hold, are left out.
    """

    def __init__(
        self, witnesses: Sequence[WitnessKey] = (), signatures: Sequence[tuple[Head, NoteSignature]] = ()
    ) -> None:
        self._witnesses = list(witnesses)
        self._of: dict[str, list[Head]] = {key.text(): [] for key in witnesses}
        self._times: dict[str, int] = {}
        for head, signature in signatures:
            for key in witnesses:
                self._take(key, head, signature)
        self._wanted = {head.size for heads in self._of.values() for head in heads}
        self._roots: dict[int, bytes] = {}

    def _take(self, key: WitnessKey, head: Head, signature: NoteSignature) -> None:
        try:
            at = key.cosigned_at(head, signature)
        except InvalidProofError:
            return
        self._of[key.text()].append(head)
        self._times[key.text()] = max(at, self._times.get(key.text(), 0))

    def reach(self, tree: Tree) -> None:
        """Remembers the log's own root where a witness saw one."""
        if tree.size in self._wanted:
            self._roots[tree.size] = tree.root()

    def finding(self, named: Sequence[str], size: int, *, log_holds: bool) -> Finding:
        """What checking the claim came to.

        Args:
            named: the keys of the witnesses that the recipe names.
            size: of the log.
            log_holds: whether all of it was read.
        """
        claim = Claim.WITNESSES
        if not self._witnesses:
            why = "no witness was named" + (": the recipe names some, of the manager's choice" if named else "")
            remedy = f"--witness {named[0] if named else 'KEY'}"
            return Finding(claim, Outcome.NOT_CHECKED, why=why, remedy=remedy, asked=False)
        for key in self._witnesses:
            if fault := self._fault(key, size, log_holds=log_holds):
                return Finding(claim, Outcome.FAILS, why=fault)
        if not log_holds:
            return Finding(claim, Outcome.NOT_CHECKED, why="the log was not read to its end")
        late = [why for key in self._witnesses if (why := self._missing(key, size))]
        if late:
            return Finding(claim, Outcome.NOT_CHECKED, why="; ".join(late), remedy="podlt witness ask RUN")
        seen = "; ".join(f"{key.name}, {utc_text(self._times[key.text()])}" for key in self._witnesses)
        return Finding(claim, Outcome.HOLDS, f"all {size:,} entries: {seen}")

    def _fault(self, key: WitnessKey, size: int, *, log_holds: bool) -> str:
        """What a witness saw that this log does not have."""
        for head in self._of[key.text()]:
            own = self._roots.get(head.size)
            if own is not None and own != head.root:
                return (
                    f"witness {key.name} saw another log of this run: over {head.size:,} entries it cosigned the root "
                    f"{head.root.hex()}, this log has {own.hex()}"
                )
            if own is None and head.size > size and log_holds:
                return f"witness {key.name} saw {head.size:,} entries, this log has {size:,}: it was cut"
        return ""

    def _missing(self, key: WitnessKey, size: int) -> str:
        """Why a witness does not vouch for all of the log; "" if it does."""
        newest = max((head.size for head in self._of[key.text()]), default=0)
        if newest == size:
            return ""
        if not newest:
            return f"no cosignature of {key.name} is here"
        return f"{key.name} saw {newest:,} of {size:,} entries"
