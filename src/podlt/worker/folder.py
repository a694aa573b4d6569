"""A worker's folder: made for its owner alone, locked by the process that works there; and its files."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from podlt.errors import StorageError, UsageError
from podlt.log.tree_head import MAX_NOTE
from podlt.protocol.receipt import CommitmentReceipt
from podlt.receipts import commitments, credits
from podlt.store.files import read_whole, sync_file, write_whole
from podlt.wire import messages as m
from podlt.worker.books import Earned, Status, WorkerBooks

STATUS, LOCK = "status.json", "lock"
HEAD, EARNED, EVIDENCE = "head-{}.txt", "earned-{}.json", "evidence-{}.json"
"""Names of files; those with a place in them are of one run (the receipts' is `credits.path_of`)."""

MAX_FILE = 2**20
MOST_RECEIPTS = 2**28
"""Bytes: a receipt a round is some hundred, so this is a million rounds; a manager must not fill a disk with them."""

STALE_SECONDS = 15.0
"""A status that is older is of a process that has ended."""

LEAST_DISK = 64 * 2**20
"""Free bytes that a worker needs for its keys, status and receipts."""


def make_folder(path: Path) -> None:
    """Makes a worker's folder, for its owner alone.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be made: {error.strerror}") from None


def lock(folder: Path) -> int:
    """Locks a folder against a second worker while this process lives; returns the descriptor that does.

    Raises:
        UsageError: another worker runs there.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UsageError(f"{folder}: another worker runs in this folder; give this one its own with --folder") from None
    return descriptor


def check_disk(folder: Path) -> None:
    """Refuses a full disk.

    Raises:
        StorageError: says how much is free, and how much is needed.
    """
    free = shutil.disk_usage(folder).free
    if free < LEAST_DISK:
        raise StorageError(f"{folder}: {free >> 20} MiB are free on this disk, and {LEAST_DISK >> 20} MiB are needed")


Soon = Callable[[Callable[[], object]], object]
"""Has something done soon."""


class BookFiles:
    """A `BookStore` in a folder.

    Args:
        folder: exists.
        most: how many bytes the receipts of a run may take.
        soon: has what waits for the disk done, in the order in which it is given; at once unless given.
    """

    def __init__(self, folder: Path, most: int = MOST_RECEIPTS, soon: Soon = lambda what: what()) -> None:
        self._folder, self._most, self._soon, self._unsynced = folder, most, soon, False

    def head(self, run: bytes) -> str:
        """See `BookStore`."""
        with suppress(StorageError, UnicodeDecodeError):
            return read_whole(self._path(HEAD, run), MAX_NOTE).decode()
        return ""

    def save_head(self, run: bytes, note: str) -> None:
        """See `BookStore`; `podlt verify --head` reads it too."""
        self._soon(partial(write_whole, self._path(HEAD, run), note.encode()))

    def earned(self, run: bytes) -> dict[str, Earned]:
        """See `BookStore`."""
        with suppress(StorageError, msgspec.DecodeError, ValueError):
            return msgspec.json.decode(read_whole(self._path(EARNED, run), MAX_FILE), type=dict[str, Earned])
        return {}

    def save_earned(self, run: bytes, earned: Mapping[str, Earned]) -> None:
        """See `BookStore`."""
        path, data = self._path(EARNED, run), msgspec.json.encode(earned)
        self._soon(partial(write_whole, path, data, durable=False))  # the receipts are

    def keep(self, run: bytes, paid: Sequence[m.Receipts]) -> None:
        """See `BookStore`."""
        path = credits.path_of(self._folder, run)
        if path.exists() and path.stat().st_size > self._most:
            raise StorageError(f"{path}: the receipts of this run take more than {self._most >> 20} MiB")
        credits.keep(self._folder, run, paid)
        self._unsynced = True

    def sync(self, run: bytes) -> None:
        """See `BookStore`."""
        if self._unsynced:
            self._soon(partial(sync_file, credits.path_of(self._folder, run)))
            self._unsynced = False

    def keep_bound(self, run: bytes, bound: Sequence[CommitmentReceipt]) -> None:
        """See `BookStore`."""
        commitments.keep(self._folder, run, bound, min(self._most, commitments.MOST_BYTES))

    def save_evidence(self, run: bytes, document: Mapping[str, Any]) -> None:
        """See `BookStore`."""
        write_whole(self._path(EVIDENCE, run), msgspec.json.encode(document))

    def save_status(self, status: Status) -> None:
        """See `BookStore`."""
        self._soon(partial(write_whole, self._folder / STATUS, msgspec.json.encode(status), durable=False))

    def _path(self, name: str, run: bytes) -> Path:
        return self._folder / name.format(run.hex()[:16])


def open_books(
    folder: Path, keys: list[bytes], manager: bytes, most: int = MOST_RECEIPTS, soon: Soon = lambda what: what()
) -> WorkerBooks:
    """The books of a folder, with the status that is there. Arguments as of `BookFiles` and `WorkerBooks`."""
    before = None
    with suppress(StorageError, msgspec.DecodeError):
        before = msgspec.json.decode(read_whole(folder / STATUS, MAX_FILE), type=Status)
    return WorkerBooks(BookFiles(folder, min(most, MOST_RECEIPTS), soon), keys, manager, before, os.getpid())


def note_waiting(folder: Path, doing: str, device: str) -> None:
    """Keeps in a folder's status that its worker waits, now and then; a worker that runs there keeps its own.

    Args:
        folder: where keys, receipts and status are.
        doing: what it waits for.
        device: where it computes tasks.
    """
    try:
        status = read_status(folder)[0]
    except UsageError:
        status = Status(0, 0.0, doing)
    if status.doing == doing and status.pid == os.getpid() and time.time() - status.at < STALE_SECONDS / 3:
        return
    with suppress(UsageError, StorageError):  # nothing depends on it
        held = lock(folder)
        try:
            now = msgspec.structs.replace(
                status, pid=os.getpid(), at=time.time(), doing=doing, connected=False, device=device
            )
            BookFiles(folder).save_status(now)
        finally:
            os.close(held)


def read_status(folder: Path) -> tuple[Status, bool]:
    """The status of the worker of a folder, and whether it is running.

    Raises:
        UsageError: no worker ever ran there, or the file is none of ours.
    """
    path = folder / STATUS
    if not path.is_file():
        raise UsageError(f"{folder}: no worker has run here (see podlt worker --help)")
    try:
        status = msgspec.json.decode(read_whole(path, MAX_FILE), type=Status)
    except (msgspec.DecodeError, StorageError) as error:
        raise UsageError(f"{path}: not a worker's status: {error}") from None
    return status, time.time() - status.at < STALE_SECONDS and _runs(status.pid)


def as_json(status: Status, running: bool) -> Mapping[str, Any]:
    """The status for scripts."""
    return {**msgspec.to_builtins(status), "running": running}


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
