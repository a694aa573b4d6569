"""What a worker keeps for its owner: a small status file, and the receipts of what it was paid."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from podlt.canonical import Decoder
from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.log.checkpoint import open_head, origin_of
from podlt.network import messages as m
from podlt.protocol import entries as e
from podlt.store.files import append_line, read_whole, write_whole

STATUS = "status.json"
MAX_STATUS = 2**20
STALE_SECONDS = 15.0

_pay: Decoder[e.Pay] = Decoder(e.Pay)


class Earned(msgspec.Struct):
    """What one identity earned in a run, by its receipts: whole credits, of which `pending` may still be forfeited."""

    number: int = -1
    pending: int = 0
    vested: int = 0
    forfeited: int = 0
    tasks: int = 0
    round: int = -1


class Status(msgspec.Struct):
    """What the status file says; `workers` by public key in hexadecimal, `at` in seconds since 1970."""

    pid: int
    at: float
    doing: str
    run: str = ""
    connected: bool = False
    workers: dict[str, Earned] = {}


class Journal:
    """The files of a worker's folder that its owner looks at.

    Args:
        folder: exists; keys: the public keys of its identities; manager: the public key of the run's manager.
    """

    def __init__(self, folder: Path, keys: list[bytes], manager: bytes) -> None:
        self._folder, self._manager = folder, manager
        self._lock = threading.Lock()
        self._keys = [key.hex() for key in keys]
        self._run = b""
        self.status = Status(os.getpid(), time.time(), "starting", workers={key: Earned() for key in self._keys})

    def begin(self, run: bytes) -> None:
        """Continues with what was earned in a run before."""
        with self._lock:
            self._run, self.status.run = run, run.hex()
            with suppress(StorageError, msgspec.DecodeError, ValueError):
                known = msgspec.json.decode(read_whole(self._earned_path(), MAX_STATUS), type=dict[str, Earned])
                self.status.workers |= {key: known[key] for key in self._keys if key in known}

    def admitted(self, key: bytes, number: int) -> None:
        """An identity is worker `number`."""
        with self._lock:
            self.status.workers[key.hex()].number = number

    def done(self, key: bytes) -> None:
        """An identity finished a task."""
        with self._lock:
            self.status.workers[key.hex()].tasks += 1

    def paid(self, paid: m.Paid) -> dict[str, int]:
        """Takes a receipt: checks who signed it, keeps it if it is about one of the identities.

        Returns:
            Key in hexadecimal -> what this receipt moved for it: earned credits, less what it forfeits.

        Raises:
            InvalidProofError: it is not signed by the manager, or not about a payment.
        """
        head = open_head(paid.head, self._manager, origin_of(self._run))
        entry = _pay.decode(paid.entry)
        if entry.round != paid.round or paid.index >= head.size:
            raise InvalidProofError("a receipt about another round, or another log")
        with self._lock:
            mine = {w.number: key for key, w in self.status.workers.items() if w.number >= 0 and w.round < paid.round}
            moved: dict[str, int] = {}
            for transfer in entry.transfers:
                if transfer.worker in mine:
                    key = mine[transfer.worker]
                    _book(self.status.workers[key], transfer)
                    sign = {"earn": 1, "vest": 0, "forfeit": -1}[transfer.kind]
                    moved[key] = moved.get(key, 0) + sign * transfer.amount
            for key in moved:
                self.status.workers[key].round = paid.round
            if moved:
                self._keep(paid)
        return moved

    def save(self, doing: str, connected: bool) -> None:
        """Writes the status file; a disk that is full must not stop the work."""
        with self._lock, suppress(StorageError):
            self.status.at, self.status.doing, self.status.connected = time.time(), doing, connected
            write_whole(self._folder / STATUS, msgspec.json.encode(self.status))
            if self._run:
                write_whole(self._earned_path(), msgspec.json.encode(self.status.workers))

    def totals(self) -> tuple[int, int, int]:
        """Over all identities: pending, vested and forfeited credits."""
        with self._lock:
            found = self.status.workers.values()
            return sum(w.pending for w in found), sum(w.vested for w in found), sum(w.forfeited for w in found)

    def _keep(self, paid: m.Paid) -> None:
        line = {"round": paid.round, "head": paid.head, "index": paid.index, "entry": paid.entry.hex()}
        with suppress(StorageError):
            append_line(self._folder / f"receipts-{self._run.hex()[:16]}.jsonl", json.dumps(line).encode())

    def _earned_path(self) -> Path:
        return self._folder / f"earned-{self._run.hex()[:16]}.json"


def _book(account: Earned, transfer: e.Transfer) -> None:
    if transfer.kind == "earn":
        account.pending += transfer.amount
        return
    account.pending = max(0, account.pending - transfer.amount)
    if transfer.kind == "vest":
        account.vested += transfer.amount
    else:
        account.forfeited += transfer.amount


def read_status(folder: Path) -> tuple[Status, bool]:
    """The status of the worker of a folder, and whether it is running.

    Raises:
        UsageError: no worker ever ran there, or the file is none of ours.
    """
    path = folder / STATUS
    if not path.is_file():
        raise UsageError(f"{folder}: no worker has run here (see podlt worker --help)")
    try:
        status = msgspec.json.decode(read_whole(path, MAX_STATUS), type=Status)
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
