"""What a log says of each round: who answered what, what counts, and what was applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from podlt.protocol import entries as e
from podlt.protocol.round import Copy, RevealedRound, RoundState
from podlt.protocol.rules import RunState
from podlt.store.run_files import RunLog


class LoggedRound(msgspec.Struct, frozen=True):
    """One round; or one in which the log ends.

    Attributes:
        open: its first entry.
        results: shard -> worker -> digest of its result; empty before the reveal.
        accepted: shard -> digest of the result that stands for it.
        verdicts: by shard.
        apply: what was applied, if anything was.
        copies: seat and holder -> digest of its result.
        seats: seat -> the shard of its task.
    """

    open: e.Open
    results: dict[int, dict[int, bytes]]
    accepted: dict[int, bytes]
    verdicts: dict[int, e.Verdict]
    apply: e.Apply | None
    copies: Mapping[Copy, bytes] = {}
    seats: Mapping[int, int] = {}

    @property
    def number(self) -> int:
        """The round's number."""
        return self.open.round

    def convicting(self) -> list[int]:
        """The shards whose verdict rests on an execution of the manager's, or costs a worker its place."""
        return sorted(f for f, v in self.verdicts.items() if v.convicted or v.outcome == "referee" or v.reason == "own")


def logged(log: RunLog) -> Iterator[LoggedRound | e.Measure]:
    """The rounds and figures of a log whose entries were verified, in their order."""
    state, applied = RunState(), None
    for _, _, body in log.entries():
        entry = e.decode(body)
        current = state.current
        state.apply(entry)
        if isinstance(entry, e.Apply):
            applied = entry
        elif isinstance(entry, e.Pay) and current is not None:
            yield _round(current, applied)
            applied = None
        elif isinstance(entry, e.Measure):
            yield entry
    if state.current is not None:
        yield _round(state.current, applied)


def _round(current: RoundState, applied: e.Apply | None) -> LoggedRound:
    if not isinstance(current, RevealedRound):
        return LoggedRound(current.open, {}, {}, {}, applied)
    results = {shard: dict(current.answers[shard]) for shard in sorted(current.answers)}
    accepted = {shard: current.accepted(shard) for shard in results}
    copies, seats = dict(current.results), dict(current.roles.seats)
    return LoggedRound(current.open, results, accepted, dict(current.verdicts), applied, copies, seats)
