"""What the manager saw of each worker last, in a file of the run: for who asks from outside its process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from podlt.canonical import UNREADABLE
from podlt.errors import StorageError
from podlt.events import NetworkEvent, WorkerFigures, WorkersSeen
from podlt.store.files import read_whole, write_whole
from podlt.store.run_names import SERVER

FILE = "workers.json"
"""In the run's directory for the network."""

_LONGEST = 2**26


class WorkerFiguresFile:
    """Listens to an engine, and keeps what it saw of its workers.

    Args:
        run: its directory.
        listener: hears everything as well.
    """

    def __init__(self, run: Path, listener: Callable[[NetworkEvent], None]) -> None:
        self._path, self._listener = run / SERVER / FILE, listener

    def __call__(self, event: NetworkEvent) -> None:
        """Takes an event; a file that cannot be written stops no run."""
        self._listener(event)
        if isinstance(event, WorkersSeen):
            with suppress(StorageError):
                write_whole(self._path, msgspec.json.encode(event.workers), durable=False)


def figures_of(run: Path) -> dict[str, WorkerFigures]:
    """Key in hexadecimal -> what was seen last of its worker; empty where nothing was."""
    try:
        raw = read_whole(run / SERVER / FILE, _LONGEST)
        return {one.key: one for one in msgspec.json.decode(raw, type=list[WorkerFigures])}
    except (StorageError, *UNREADABLE):
        return {}
