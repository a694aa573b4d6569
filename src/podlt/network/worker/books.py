"""A worker's files for its owner: a small status file, and the receipts of what it was paid."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.log.merkle import EMPTY_ROOT
from podlt.log.tree_head import MAX_NOTE, Head, open_head, origin_of
from podlt.network import messages as m
from podlt.network import receipts
from podlt.protocol import entries as e
from podlt.protocol.ledger import Account, move
from podlt.store.files import read_whole, write_whole

STATUS = "status.json"
MAX_STATUS = 2**20
STALE_SECONDS = 15.0

MOST_HEADS = 64
"""How many of the last signed heads are compared with those that come."""


class Earned(Account):
    """What one identity earned in a run, and its deposit, by its receipts.

    Attributes:
        number: in the run, -1 before it was admitted.
        tasks: how many it did.
        upto: of so many first entries of the log it knows all that moved its credits.
    """

    number: int = -1
    tasks: int = 0
    upto: int = 0


class Status(msgspec.Struct):
    """What the status file says.

    Attributes:
        pid: the worker's process.
        at: when it was written, in seconds since 1970.
        doing: what the worker did then.
        run: the run's identity in hexadecimal; empty while there is none.
        connected: whether there was a connection.
        workers: the identities by public key in hexadecimal.
        device: where tasks are computed.
    """

    pid: int
    at: float
    doing: str
    run: str = ""
    connected: bool = False
    workers: dict[str, Earned] = {}
    device: str = "cpu"


class WorkerBooks:
    """The files of a worker's folder that its owner looks at.

    Args:
        folder: exists.
        keys: the public keys of its identities.
        manager: the public key of the run's manager.
        before: what the status file says until there is a run, if anything.

    Attributes:
        settled: the last round that is known to be in the log, -1 if none is.
        status: what the status file says next.
    """

    def __init__(self, folder: Path, keys: list[bytes], manager: bytes, before: Status | None = None) -> None:
        self._folder, self._manager = folder, manager
        self._lock = threading.Lock()
        self._keys = [key.hex() for key in keys]
        self._run = b""
        self._size = 0
        self._others: dict[str, Earned] = {}
        self.settled = -1
        self._heads: dict[int, tuple[bytes, str]] = {}
        self._checked: set[str] = set()
        self._last, self._saved = "", ""
        self.status = Status(os.getpid(), time.time(), "starting", workers={key: Earned() for key in self._keys})
        self._before = before if before is not None else self.status

    @classmethod
    def open(cls, folder: Path, keys: list[bytes], manager: bytes) -> WorkerBooks:
        """The files of a folder, with the status that is there. Arguments as of the class."""
        before = None
        with suppress(StorageError, msgspec.DecodeError):
            before = msgspec.json.decode(read_whole(folder / STATUS, MAX_STATUS), type=Status)
        return cls(folder, keys, manager, before)

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._folder

    def begin(self, run: bytes) -> None:
        """Continues with what was earned in a run before."""
        with self._lock:
            self._run, self.status.run = run, run.hex()
            self._size, self._heads, self._others, self.settled = 0, {}, {}, -1
            self._last = self._saved = ""
            with suppress(StorageError, InvalidProofError, UnicodeDecodeError):  # there is none, or none of ours
                self._saved = read_whole(self._head_path(), MAX_NOTE).decode()
                self._compare(open_head(self._saved, self._manager, origin_of(run)), self._saved)
            with suppress(StorageError, msgspec.DecodeError, ValueError):
                known = msgspec.json.decode(read_whole(self._earned_path(), MAX_STATUS), type=dict[str, Earned])
                self.status.workers |= {key: _whole(known[key]) for key in self._keys if key in known}
                self._others = {key: earned for key, earned in known.items() if key not in self._keys}

    def admitted(self, key: bytes, number: int) -> None:
        """An identity is worker `number`."""
        with self._lock:
            self.status.workers[key.hex()].number = number

    def done(self, key: bytes) -> None:
        """An identity finished a task."""
        with self._lock:
            self.status.workers[key.hex()].tasks += 1

    def shown(self, note: str) -> Head:
        """Takes a signed tree head; an empty one is of an empty log.

        Raises:
            InvalidProofError: it is not the manager's, or contradicts one that it signed before: both are saved.
        """
        if not note:
            return Head(origin_of(self._run), 0, EMPTY_ROOT)
        head = open_head(note, self._manager, origin_of(self._run))
        with self._lock:
            self._compare(head, note)
        return head

    def accepted(self, note: str) -> Head:
        """Takes the tree head that a worker is about to sign; it is on the disk when this returns.

        Raises:
            InvalidProofError: as `shown`, or a head over more entries was shown before.
            StorageError: it cannot be saved.
        """
        head = self.shown(note)
        with self._lock:
            most = max(self._heads, default=0)
            if head.size < most:
                raise InvalidProofError("the manager's log is shorter than it was", expected=most, actual=head.size)
            self._save_head()
        return head

    def paid(self, paid: m.Receipts) -> dict[str, int]:
        """Takes receipts for new entries, as all workers get them: checks them, saves those about an identity.

        An identity that has missed entries before these gets them later, by `missed`: nothing is booked for it now.

        Returns:
            Key in hexadecimal -> what these entries moved for it: earned credits, less what they forfeit.

        Raises:
            InvalidProofError: a receipt does not prove what it says.
            NotCheckedError: a newer podlt wrote it.
            StorageError: it cannot be saved, and nothing is booked: it counts as missed.
        """
        verified = receipts.check(paid, self._manager, self._run)
        with self._lock:
            self._compare(verified.head, paid.head)
            mine = {w.number: key for key, w in self.status.workers.items() if w.number >= 0 and w.upto == paid.first}
            accounts, moved = self._booked(verified, mine)
            if moved:
                receipts.keep(self._folder, self._run, [paid])
            self.status.workers |= accounts
            self._settle(verified)
            for key in mine.values():
                self.status.workers[key].upto = verified.head.size
            if moved:
                self._save_earned()
        return moved

    def missed(self, key: bytes, missed: m.MissedReceipts) -> dict[str, int]:
        """Takes what one identity has missed, if it is what it misses first. Returns and raises as `paid`."""
        verified = [receipts.check(paid, self._manager, self._run) for paid in missed.paid]
        last = missed.first
        for paid, one in zip(missed.paid, verified, strict=True):
            if not last <= paid.first < one.head.size <= missed.upto:
                raise InvalidProofError("receipts out of order", expected=last, actual=paid.first)
            last = one.head.size
        with self._lock:
            account = self.status.workers[key.hex()]
            if account.number < 0 or account.upto != missed.first or missed.upto <= missed.first:
                return {}
            receipts.keep(self._folder, self._run, missed.paid)
            moved: dict[str, int] = {}
            for one in verified:
                accounts, amounts = self._booked(one, {account.number: key.hex()})
                self.status.workers |= accounts
                self._settle(one)
                for name, amount in amounts.items():
                    moved[name] = moved.get(name, 0) + amount
            self.status.workers[key.hex()].upto = missed.upto  # booking has put another account in the place of this
            self._size = max(self._size, missed.upto)
            self._save_earned()
        return moved

    def expect(self, entries: int) -> None:
        """The manager says that the log has so many entries."""
        with self._lock:
            self._size = max(self._size, entries)

    def behind(self) -> dict[bytes, int]:
        """The identities that have missed entries -> the number of the first of them."""
        with self._lock:
            found = self.status.workers.items()
            return {bytes.fromhex(key): w.upto for key, w in found if w.number >= 0 and w.upto < self._size}

    def save(self, doing: str, connected: bool) -> None:
        """Writes the status file; a disk that is full must not stop the work."""
        with self._lock, suppress(StorageError):
            self.status.at, self.status.doing, self.status.connected = time.time(), doing, connected
            if self._run:
                write_whole(self._folder / STATUS, msgspec.json.encode(self.status))
                self._save_earned()
                self._save_head()
            else:  # what it earned last is shown until it is known what there is to do now
                before = self._before
                shown = msgspec.structs.replace(self.status, run=before.run, workers=before.workers)
                write_whole(self._folder / STATUS, msgspec.json.encode(shown))

    def totals(self) -> tuple[int, int, int]:
        """Over all identities: pending, vested and forfeited credits."""
        with self._lock:
            found = self.status.workers.values()
            return sum(w.pending for w in found), sum(w.vested for w in found), sum(w.forfeited for w in found)

    def is_unchecked(self, key: bytes) -> bool:
        """Whether an identity has pay for work that no check of its work covers yet."""
        with self._lock:
            return key.hex() not in self._checked and self.status.workers[key.hex()].pending > 0

    def _booked(
        self, verified: receipts.VerifiedReceipts, mine: Mapping[int, str]
    ) -> tuple[dict[str, Earned], dict[str, int]]:
        """The accounts of identities (number -> key) after some entries, and what these moved, by key."""
        accounts = {number: msgspec.structs.replace(self.status.workers[key]) for number, key in mine.items()}
        moved: dict[str, int] = {}
        for _, entry in verified.entries:
            if isinstance(entry, e.Join) and entry.worker in mine:
                accounts[entry.worker].deposit += entry.deposit
                moved.setdefault(mine[entry.worker], 0)
            elif isinstance(entry, e.Pay | e.Return):
                self._note_checked(entry.transfers, mine)
                for transfer in entry.transfers:
                    if transfer.worker in mine:
                        move(accounts[transfer.worker], transfer)
                        sign = {"earn": 1, "forfeit": -1}.get(transfer.kind, 0)
                        key = mine[transfer.worker]
                        moved[key] = moved.get(key, 0) + sign * transfer.amount
        return {mine[number]: account for number, account in accounts.items()}, moved

    def _note_checked(self, transfers: list[e.Transfer], mine: Mapping[int, str]) -> None:
        """Who vests was checked in this round; what it earns in later ones was not."""
        self._checked -= {mine[t.worker] for t in transfers if t.kind == "earn" and t.worker in mine}
        self._checked |= {mine[t.worker] for t in transfers if t.kind == "vest" and t.worker in mine}

    def _settle(self, verified: receipts.VerifiedReceipts) -> None:
        self.settled = max([self.settled, *(entry.round for _, entry in verified.entries if isinstance(entry, e.Pay))])

    def _compare(self, head: Head, note: str) -> None:
        """Saves two heads that cannot both be of one log, as evidence against the manager."""
        self._size = max(self._size, head.size)
        other = self._heads.get(head.size)
        if other is not None and other[0] != head.root:
            document = {"run": self._run.hex(), "manager": self._manager.hex(), "heads": [other[1], note]}
            with suppress(StorageError):
                write_whole(self._folder / f"evidence-{self._run.hex()[:16]}.json", msgspec.json.encode(document))
            raise InvalidProofError(
                f"the manager signed two different logs of {head.size} entries; both heads are saved as evidence",
                expected=other[0],
                actual=head.root,
            )
        if head.size >= max(self._heads, default=0):
            self._last = note
        self._heads[head.size] = head.root, note
        if len(self._heads) > MOST_HEADS:
            del self._heads[min(self._heads)]

    def _save_head(self) -> None:
        """Writes the last head, if it is not there: `podlt verify --head` reads it too."""
        if self._last != self._saved:
            write_whole(self._head_path(), self._last.encode())
            self._saved = self._last

    def _head_path(self) -> Path:
        return self._folder / f"head-{self._run.hex()[:16]}.txt"

    def _save_earned(self) -> None:
        with suppress(StorageError):
            write_whole(self._earned_path(), msgspec.json.encode(self._others | self.status.workers))

    def _earned_path(self) -> Path:
        return self._folder / f"earned-{self._run.hex()[:16]}.json"


def _whole(earned: Earned) -> Earned:
    """What a file says; without how far it knows the log (an older podlt wrote it), nothing of it counts."""
    return earned if earned.upto else Earned(number=earned.number, tasks=earned.tasks)


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
