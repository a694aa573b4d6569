"""Answers of a round that came at once, put together, so that what can be checked at once is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from podlt.engine.local import frames

Answer = frames.Results | frames.HostOpenings | frames.ExecutionFailed
"""What comes of a round."""


def together(events: Iterable[Answer]) -> list[Answer]:
    """The same answers, neighbours of a kind and round as one."""
    found: list[Answer] = []
    for kind, several in groupby(events, lambda event: (type(event), event.round)):
        same = list(several)
        found += _JOINED[kind[0]](same) if len(same) > 1 else same
    return found


def _results(same: Sequence[frames.Results]) -> list[frames.Results]:
    joined = frames.Results(
        round=same[0].round,
        committed=[committed for one in same for committed in one.committed],
        done=[seat for one in same for seat in one.done],
        faked=[seat for one in same for seat in one.faked],
        proof_seconds=sum(one.proof_seconds for one in same),
        compute_seconds=sum(one.compute_seconds for one in same),
    )
    return [joined]


def _openings(same: Sequence[frames.HostOpenings]) -> list[frames.HostOpenings]:
    return [frames.HostOpenings(round=same[0].round, opened=[opened for one in same for opened in one.opened])]


_JOINED: Mapping[type, Callable[[Any], list[Any]]] = {
    frames.Results: _results,
    frames.HostOpenings: _openings,
    frames.ExecutionFailed: list,
}
