"""`run.json` of a run's directory: what a run needs in addition to its documents, a section for each who writes there.

settings    how it was started: processes, simulated cheats, where its data and code lie, its database
network     how its workers are served: port, names, timeouts, the way of large blobs
address     where workers find it: what invitations name
best        which parameters best.safetensors has
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from podlt.canonical import from_json, to_json
from podlt.errors import InvalidProofError, StorageError
from podlt.store.files import read_whole, write_whole
from podlt.store.run_names import RUN

Section = Literal["settings", "network", "address", "best"]
S = TypeVar("S")

MAX_BYTES = 2**20


def read_section(run: Path, section: Section, kind: type[S]) -> S | None:
    """A section of a run's file; None if there is none.

    Args:
        run: the run's directory.
        kind: what it holds.

    Raises:
        StorageError: malformed, or it cannot be read.
    """
    document = _read(run)
    if section not in document:
        return None
    try:
        return msgspec.convert(document[section], kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise StorageError(f"{run / RUN}: {section}: malformed: {error}") from None


def write_section(run: Path, section: Section, value: msgspec.Struct | None) -> None:
    """Writes a section, and leaves the others; None takes it out.

    Raises:
        StorageError: what is there is malformed, or it cannot be read or written.
    """
    with _locked(run):
        before = _read(run)
        after = {name: each for name, each in before.items() if name != section}
        if value is not None:
            after[section] = msgspec.to_builtins(value)
        if after != before:
            write_whole(run / RUN, to_json(after))


def _read(run: Path) -> dict[str, Any]:
    path = run / RUN
    if not path.is_file():
        return {}
    try:
        document = from_json(read_whole(path, MAX_BYTES))
    except InvalidProofError as error:
        raise StorageError(f"{path}: malformed: {error}") from None
    if not isinstance(document, dict):
        raise StorageError(f"{path}: malformed: expected an object")
    return document


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    """Keeps other processes from changing the file meanwhile; the folder itself is what is locked."""
    descriptor = os.open(run, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
