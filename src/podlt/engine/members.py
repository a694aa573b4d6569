"""Workers that neither come nor go: their keys are the run's, and whatever hosts them is replaced when it dies."""

from __future__ import annotations

from collections.abc import Mapping

from podlt.engine.interface import DurableEntries, Lost, Member
from podlt.protocol.messages import JoinSignatures, JoinTerms, TreeSize


class FixedMembers:
    """What an `Engine` of such workers says of who is there; `_keys` are theirs, in the order of their numbers."""

    elastic = False
    _keys: list[bytes]

    def _signed(self, joins: Mapping[int, JoinSignatures], seen: TreeSize) -> list[Member]:
        """All workers, with what each signed: its number, no deposit, and the tree head that was there."""
        terms = [JoinTerms(number, 0, seen.size, seen.root) for number in range(len(self._keys))]
        return [Member(key, terms[number], joins[number]) for number, key in enumerate(self._keys)]

    def offer(self, member: Member, terms: JoinTerms) -> None:
        """Never asked: members come with their signatures."""
        raise AssertionError("workers of this machine sign when they start")

    def arrivals(self, seconds: float) -> list[Member]:
        """Nobody comes later."""
        return []

    def departures(self) -> list[Lost]:
        """Nobody leaves: what hosts a worker and dies is replaced."""
        return []

    def admitted(self, member: Member, number: int) -> None:
        """Nothing to do: the numbers are those of the keys."""
        assert self._keys[number] == member.key

    def refused(self, member: Member, reason: str) -> None:
        """Nothing to do: a worker that was evicted is dealt nothing."""

    def released(self, number: int, reason: str) -> None:
        """Nothing to do: it is dealt nothing."""

    def receipt(self, receipt: DurableEntries) -> None:
        """Nothing to do: whoever may read the log has it."""

    def finish(self, outcome: str, reason: str) -> None:
        """Nothing to do: `close` ends what hosts the workers."""
