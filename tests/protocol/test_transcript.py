"""Golden transcripts: a small run of each preset, every entry that was written, to be read and reviewed as a diff."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scripted import classic_run, eventful_run

from podlt.canonical import named_fields
from podlt.protocol import entries as e
from podlt.sim.world import MemoryLog, World

GOLDEN = Path(__file__).parent / "golden"


def short(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()[:12]
    if isinstance(value, list):
        return "[" + " ".join(short(item) for item in value) + "]"
    if isinstance(value, msgspec.Struct):
        return "(" + " ".join(short(getattr(value, field)) for field in value.__struct_fields__) + ")"
    return str(value)


def line(number: int, entry: e.AnyEntry) -> str:
    said = " ".join(f"{name}={short(value)}" for name, value in named_fields(entry) if name != "at")
    return f"{number:3} {e.tag_of(type(entry)):10} {said}".rstrip()


@pytest.mark.parametrize("run", [eventful_run, classic_run], ids=["guarded", "classic"])
def test_a_run_is_written_as_it_always_was(run: Callable[[], tuple[World, MemoryLog]], golden: Any) -> None:
    world, log = run()
    lines = [line(number, e.decode(body)) for number, _, body in log.entries()]
    accounts = [
        f"worker {n}: {state.status}, {world.state.ledger.accounts[n].vested} vested, "
        f"{world.state.ledger.accounts[n].pending} pending, {world.state.ledger.accounts[n].forfeited} forfeited, "
        f"{world.state.ledger.accounts[n].returned} returned, {world.state.ledger.accounts[n].seized} seized"
        for n, state in world.state.workers.items()
    ]
    golden(GOLDEN / f"{run.__name__}.txt", "\n".join([*lines, "", *accounts, "", world.head]))
