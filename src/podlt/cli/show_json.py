"""What `podlt show` shows, as JSON for scripts. Bytes are hexadecimal."""

from __future__ import annotations

from functools import singledispatch
from pathlib import Path
from typing import Any

import msgspec

from podlt.canonical import named_fields

UNVERIFIED = "from the log as it lies here; podlt verify says what of it holds"
"""What `show` says of all that it shows: it applies the rules, and checks no signature and no tree head."""


def document(run: Path, what: str | None, number: int | None) -> dict[str, Any]:
    """The document of a run, or of one round, worker or entry of it.

    Raises:
        UsageError: there is no such thing.
        InvalidProofError: the log breaks the rules.
    """
    make = {None: _run, "round": _round, "worker": _worker, "entry": _entry}[what]
    found: dict[str, Any] = make(run, number or 0)
    return {**found, "unverified": UNVERIFIED}


def _run(run: Path, number: int) -> dict[str, Any]:
    from podlt.report.history import read_history

    history = read_history(run)
    return {
        "run": history.state.run.hex(),
        "status": history.status(),
        "begin": _plain(history.begin),
        "entries": history.entries,
        "rounds": _plain(history.rounds),
        "measured": _plain(history.measured),
        "withdrawn": [{"round": r, "worker": w, "reason": reason} for r, w, reason in history.withdrawn],
        "parameters": history.state.parameters.hex(),
    }


def _round(run: Path, number: int) -> dict[str, Any]:
    from podlt.report.records import round_record

    found: dict[str, Any] = _plain(round_record(run, number))
    return found


def _worker(run: Path, number: int) -> dict[str, Any]:
    from podlt.report.life import worker_life

    found: dict[str, Any] = _plain(worker_life(run, number))
    return found


def _entry(run: Path, number: int) -> dict[str, Any]:
    from podlt.report.records import entry_record

    record = entry_record(run, number)
    return {**_plain(record), "included": record.included}


@singledispatch
def _plain(value: Any) -> Any:
    """Structs as objects, bytes as hexadecimal; what JSON has as it is."""
    return value


@_plain.register
def _(value: msgspec.Struct) -> dict[str, Any]:
    return {name: _plain(item) for name, item in named_fields(value)}


@_plain.register
def _(value: bytes) -> str:
    return value.hex()


@_plain.register
def _(value: dict) -> dict[str, Any]:  # type: ignore[type-arg]
    return {str(key): _plain(item) for key, item in value.items()}


@_plain.register(list)
@_plain.register(tuple)
def _(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    return [_plain(item) for item in value]
