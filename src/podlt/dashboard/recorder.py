"""A run's log as what a page shows: a message for each thing that happened, one compact record for each round.

The page gets these messages in the log's order and nothing else that binds it, so it can show the run as it was after
any round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from podlt.protocol import entries as e
from podlt.protocol.round import RevealedRound
from podlt.report.fold import Visit
from podlt.report.records import shard_record

Message = dict[str, Any]

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

USEFUL, CHECKED, OWN, CLIPPED, CONVICTED, GONE, IDLE, ABSENT = "u", "c", "o", "k", "x", "g", "-", " "
"""What a worker was in a round, a letter each; of several that are true, the last one here before GONE is shown."""


def packed(amounts: Mapping[int, int]) -> Message:
    """Amounts of workers, shortly: few differ, so that a digit for each worker says which of them is its.

    Returns:
        `p`, the different amounts; `s`, a digit for each worker by number: 0 for nothing, n for the n-th of them; and
        `x`, worker -> amount, for the few that have an amount of their own where there are too many.
    """
    found = {worker: amount for worker, amount in amounts.items() if amount}
    palette: dict[int, str] = {}
    for amount in found.values():
        if amount not in palette and len(palette) < len(DIGITS) - 1:
            palette[amount] = DIGITS[len(palette) + 1]
    digits = ["0"] * (max(found, default=-1) + 1)
    for worker, amount in found.items():
        digits[worker] = palette.get(amount, "0")
    others = {worker: amount for worker, amount in found.items() if amount not in palette}
    return {"p": list(palette), "s": "".join(digits)} | ({"x": others} if others else {})


class Recorder:
    """Makes messages of visits, one after another."""

    def __init__(self) -> None:
        self._first = self._started = self._size = 0
        self._gone: list[int] = []
        self._verdicts: dict[int, int] = {}
        self._applied: e.Apply | None = None

    def take(self, visit: Visit) -> Iterable[Message]:
        """What the page is to know of the next entry, with the state after it."""
        make = _MAKERS.get(type(visit.entry))
        return make(self, visit, visit.entry) if make is not None else ()

    def _begin(self, visit: Visit, entry: e.Begin) -> Iterable[Message]:
        terms = {name: value for name in entry.__struct_fields__ if isinstance(value := getattr(entry, name), int)}
        yield {
            "t": "begin",
            **terms,
            "at": entry.at,
            "preset": entry.preset,
            "run": visit.state.run.hex(),
            "first_fault": entry.first_fault,
            "local_lr": entry.local_lr,
            "tested": entry.test != e.NO_TEST,
            "digests": {
                "manager's key": entry.manager.hex(),
                "recipe": entry.recipe.hex(),
                "program": entry.program.hex(),
                "training data": entry.data.hex(),
                "first parameters": entry.parameters.hex(),
            },
        }

    def _join(self, visit: Visit, entry: e.Join) -> Iterable[Message]:
        who = [entry.worker, entry.key.hex(), entry.operator, entry.deposit]
        yield {"t": "join", "r": visit.state.round, "at": entry.at, "w": who}

    def _shares(self, visit: Visit, entry: e.Shares) -> Iterable[Message]:
        levels = [[one.worker, one.level] for one in entry.levels]
        yield {"t": "shares", "r": visit.state.round, "at": entry.at, "lv": levels}

    def _withdraw(self, visit: Visit, entry: e.Withdraw) -> Iterable[Message]:
        self._gone.append(entry.worker)
        yield {"t": "leave", "r": visit.state.round, "at": entry.at, "w": entry.worker, "why": entry.reason}

    def _measure(self, visit: Visit, entry: e.Measure) -> Iterable[Message]:
        figures = {figure.name: figure.value for figure in entry.figures}
        yield {"t": "measure", "r": visit.state.round, "at": entry.at, "ep": entry.epoch, "m": figures}

    def _amend(self, visit: Visit, entry: e.Amend) -> Iterable[Message]:
        r, epochs = visit.state.round, entry.epochs
        yield {"t": "amend", "r": r, "at": entry.at, "epochs": epochs, "opt": entry.optimizer, "why": entry.reason}

    def _resume(self, visit: Visit, entry: e.Resume) -> Iterable[Message]:
        yield {"t": "resume", "r": visit.state.round, "at": entry.at}

    def _release(self, visit: Visit, entry: e.Release) -> Iterable[Message]:
        yield {"t": "release", "r": visit.state.round, "at": entry.at, **_moved(visit, entry.transfers)}

    def _close(self, visit: Visit, entry: e.Close) -> Iterable[Message]:
        ended = visit.state.ended
        early = ended.reason if ended is not None else ""
        yield {
            "t": "close",
            "r": visit.state.round,
            "at": entry.at,
            "outcome": entry.outcome,
            "why": entry.reason,
            "early": early,
        }

    def _open(self, visit: Visit, entry: e.Open) -> Iterable[Message]:
        assert visit.round is not None
        self._first, self._started, self._size, self._gone = visit.number, entry.at, visit.round.size, []
        self._verdicts = {}
        return ()

    def _verdict(self, visit: Visit, entry: e.Verdict) -> Iterable[Message]:
        self._verdicts[entry.shard] = visit.number
        return ()

    def _apply(self, visit: Visit, entry: e.Apply) -> Iterable[Message]:
        self._applied = entry
        return ()

    def _pay(self, visit: Visit, entry: e.Pay) -> Iterable[Message]:
        round, state = visit.round, visit.state
        assert isinstance(round, RevealedRound) and self._applied is not None
        clips: dict[int, int] = {}
        for part in self._applied.clipped:
            clips[part.shard] = max(part.exponent, clips.get(part.shard, 0))
        convicted, verdicts = round.convicted(), round.verdicts.values()
        disputes = [self._dispute(visit, round, verdict) for verdict in verdicts if verdict.outcome != "agree"]
        yield {
            "t": "round",
            "r": entry.round,
            "ep": round.open.epoch,
            "at": entry.at,
            "ms": entry.at - self._started,
            "off": round.open.offset,
            "n": round.open.examples,
            "loss": self._applied.loss,
            "w": self._size,
            "frag": len(round.open.shards),
            "tasks": len(round.results),
            "agree": sum(verdict.outcome == "agree" for verdict in verdicts),
            "own": len(round.own | {v.shard for v in verdicts if v.outcome == "referee"}),
            "cells": cells_of(visit, round, clips, self._gone),
            "e": [self._first, visit.number],
            **_moved(visit, entry.transfers),
            **({"clip": sorted(clips.items())} if clips else {}),
            **({"dis": disputes} if disputes else {}),
            **_several(round),
            **({"out": [[w, state.workers[w].status] for w in sorted(convicted)]} if convicted else {}),
        }
        self._gone = []

    def _dispute(self, visit: Visit, round: RevealedRound, verdict: e.Verdict) -> Message:
        """What a conviction rests on: everything that whoever wants to repeat it compares."""
        found = shard_record(visit.state, round, verdict)
        return {
            "f": verdict.shard,
            "by": verdict.outcome,
            "why": verdict.reason,
            "acc": verdict.accepted.hex(),
            "con": verdict.convicted,
            "entry": self._verdicts[verdict.shard],
            "n": [found.first, found.last],
            "task": found.task.hex(),
            "rand": found.randomness.hex(),
            "ans": [
                [one.worker, one.seat, one.operator, one.key.hex(), one.update.hex(), one.commitment.hex()]
                for one in found.answers
            ],
        }


def cells_of(visit: Visit, round: RevealedRound, clips: Mapping[int, int], gone: Iterable[int]) -> str:
    """What each worker was in a round, a letter each, by number."""
    workers = visit.state.workers
    cells = [IDLE if known.status == "active" else ABSENT for _, known in sorted(workers.items())]
    seats, answers = round.roles.seats, round.answers
    compared = {shard for shard in round.to_judge if len(answers[shard]) > 1}
    for seat, holder in round.results:
        shard = seats[seat]
        kind = CHECKED if shard in compared else OWN if shard in round.to_judge else USEFUL
        if cells[holder] in (IDLE, ABSENT, USEFUL):
            cells[holder] = kind
    if clips:
        uploads = round.uploads()
        for shard in clips:
            if (copy := uploads[shard]) is not None:
                cells[copy[1]] = CLIPPED
    for worker in round.convicted():
        cells[worker] = CONVICTED
    for worker in gone:
        if cells[worker] in (IDLE, ABSENT):
            cells[worker] = GONE
    return "".join(cells).rstrip(ABSENT)


def _several(round: RevealedRound) -> Message:
    """How many tasks each worker did, and how many of them were compared, where somebody did more than one."""
    tasks = Counter(holder for _, holder in round.results)
    if max(tasks.values(), default=0) < 2:
        return {}
    compared = Counter(holder for seat, holder in round.results if round.roles.seats[seat] in round.to_judge)
    for worker in round.convicted():
        compared.pop(worker, None)
    return {"jobs": packed(tasks), "compared": packed(compared)}


def _moved(visit: Visit, transfers: Iterable[e.Transfer]) -> Message:
    """The credits that an entry moved, and the treasury after it."""
    kinds: dict[str, dict[int, int]] = {}
    for transfer in transfers:
        kinds.setdefault(transfer.kind, {})[transfer.worker] = transfer.amount
    return {"tr": visit.state.ledger.treasury} | {kind: packed(amounts) for kind, amounts in kinds.items()}


_MAKERS: dict[type[Any], Callable[[Recorder, Visit, Any], Iterable[Message]]] = {
    e.Begin: Recorder._begin,
    e.Join: Recorder._join,
    e.Withdraw: Recorder._withdraw,
    e.Shares: Recorder._shares,
    e.Open: Recorder._open,
    e.Verdict: Recorder._verdict,
    e.Apply: Recorder._apply,
    e.Measure: Recorder._measure,
    e.Pay: Recorder._pay,
    e.Release: Recorder._release,
    e.Amend: Recorder._amend,
    e.Resume: Recorder._resume,
    e.Close: Recorder._close,
}
