"""Figures beside the log: what was measured, and (in a demonstration) who was told to cheat. No part of the proof."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from podlt.errors import StorageError
from podlt.store.files import read_whole

MAX_FIGURES = 256 * 2**20


class Measured(msgspec.Struct, frozen=True):
    """Figures on the test set after an epoch."""

    epoch: int
    round: int
    metrics: dict[str, float]


class RoundSeconds(msgspec.Struct, frozen=True):
    """What a round took; `faked` who faked its result, `applied` whose fake went into the parameters."""

    round: int
    seconds: float
    compute: float
    proof: float
    faked: list[int]
    applied: list[int]


class Figures(msgspec.Struct, frozen=True):
    """All figures of a run's directory. `cheats`: worker -> what it was told to do."""

    measured: list[Measured]
    rounds: list[RoundSeconds]
    cheats: dict[int, str]


def read_figures(run: Path) -> Figures:
    """What was measured in a run. A half line at a file's end, as a kill leaves it, is passed over.

    Raises:
        StorageError: a file cannot be read, or a line of it is not what this format writes.
    """
    settings = _json(run / "settings.json") or {}
    cheats = settings.get("cheats", {})
    return Figures(
        measured=_lines(run / "metrics.jsonl", Measured),
        rounds=_lines(run / "rounds.jsonl", RoundSeconds),
        cheats={int(worker): str(kind) for worker, kind in cheats.items()},
    )


def _lines(path: Path, kind: Any) -> list[Any]:
    if not path.is_file():
        return []
    whole, _, _half = read_whole(path, MAX_FIGURES).rpartition(b"\n")
    found = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            found.append(msgspec.json.decode(line, type=kind))
        except msgspec.DecodeError as error:
            raise StorageError(f"{path}, line {number}: {error}") from None
    return found


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(read_whole(path, MAX_FIGURES))
    except msgspec.DecodeError as error:
        raise StorageError(f"{path}: {error}") from None
