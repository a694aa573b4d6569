"""A worker's books: what it was paid, by receipts that prove themselves, and which heads the manager signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from podlt.errors import InvalidProofError, StorageError
from podlt.log.merkle import EMPTY_ROOT
from podlt.log.tree_head import Head, open_head, origin_of
from podlt.protocol import entries as e
from podlt.protocol.ledger import Account, move
from podlt.protocol.receipt import CommitmentReceipt
from podlt.receipts import credits
from podlt.units import MAX_INT
from podlt.wire import messages as m

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


class BookStore(Protocol):
    """Where books are kept. What is not there is empty; what cannot be written is a `StorageError`."""

    def head(self, run: bytes) -> str:
        """The last signed tree head of a run."""

    def save_head(self, run: bytes, note: str) -> None:
        """Keeps it; on the disk when this returns."""

    def earned(self, run: bytes) -> dict[str, Earned]:
        """What identities earned in a run, by public key in hexadecimal."""

    def save_earned(self, run: bytes, earned: Mapping[str, Earned]) -> None:
        """Keeps it."""

    def keep(self, run: bytes, paid: Sequence[m.Receipts]) -> None:
        """Adds receipts; on the disk after the next `sync`."""

    def sync(self, run: bytes) -> None:
        """Has the receipts of a run on the disk."""

    def keep_bound(self, run: bytes, bound: Sequence[CommitmentReceipt]) -> None:
        """Adds receipts for commitments."""

    def save_evidence(self, run: bytes, document: Mapping[str, Any]) -> None:
        """Keeps what shows that the manager signed two different logs."""

    def save_status(self, status: Status) -> None:
        """Keeps what the worker does."""


class NoStore:
    """A `BookStore` that keeps nothing."""

    def head(self, run: bytes) -> str:
        """See `BookStore`."""
        return ""

    def earned(self, run: bytes) -> dict[str, Earned]:
        """See `BookStore`."""
        return {}

    def keep(self, *anything: object) -> None:
        """See `BookStore`."""

    def keep_bound(self, run: bytes, bound: Sequence[CommitmentReceipt]) -> None:
        """See `BookStore`."""

    save_head = save_earned = save_evidence = save_status = sync = keep


class WorkerBooks:
    """The books of one process' identities.

    Args:
        store: where they are kept.
        keys: the public keys of its identities.
        manager: the public key of the run's manager.
        before: what the status says until there is a run, if anything.
        pid: of the process.

    Attributes:
        settled: the last round that is known to be in the log, -1 if none is.
        ended: whether the log is known to have the release of the run's end.
        status: what the status file says next.
    """

    def __init__(
        self, store: BookStore, keys: list[bytes], manager: bytes, before: Status | None = None, pid: int = 0
    ) -> None:
        self._store, self._manager = store, manager
        self._keys = [key.hex() for key in keys]
        self._run = b""
        self._size = 0
        self._others: dict[str, Earned] = {}
        self.settled, self.ended = -1, False
        self._heads: dict[int, tuple[bytes, str]] = {}
        self._last, self._saved = "", ""
        self.status = Status(pid, 0.0, "starting", workers={key: Earned() for key in self._keys})
        self._before = before if before is not None else self.status

    def begin(self, run: bytes) -> None:
        """Continues with what was earned in a run before."""
        self._run, self.status.run = run, run.hex()
        self._size, self._heads, self._others, self.settled, self.ended = 0, {}, {}, -1, False
        self._last = self._saved = ""
        self._saved = self._store.head(run)
        with suppress(InvalidProofError):  # there is none, or none of ours
            self._compare(open_head(self._saved, self._manager, origin_of(run)), self._saved)
        known = self._store.earned(run)
        self.status.workers |= {key: known[key] for key in self._keys if key in known}
        self._others = {key: earned for key, earned in known.items() if key not in self._keys}

    def admitted(self, key: bytes, number: int) -> None:
        """An identity is worker `number`.

        It may have had another for a while: that of a joining which the manager did not write before it was killed, and
        then gave to somebody else. What was booked for that number is not its own.
        """
        known = self.status.workers[key.hex()]
        if known.number not in (-1, number):
            self.status.workers[key.hex()] = Earned(tasks=known.tasks)
        self.status.workers[key.hex()].number = number

    def done(self, key: bytes) -> None:
        """An identity finished a task."""
        self.status.workers[key.hex()].tasks += 1

    def shown(self, note: str) -> Head:
        """Takes a signed tree head; an empty one is of an empty log.

        Raises:
            InvalidProofError: it is not the manager's, or contradicts one that it signed before: both are saved.
        """
        if not note:
            return Head(origin_of(self._run), 0, EMPTY_ROOT)
        head = open_head(note, self._manager, origin_of(self._run))
        self._compare(head, note)
        return head

    def accepted(self, note: str) -> Head:
        """Takes the tree head that a worker is about to sign; it is on the disk when this returns.

        Raises:
            InvalidProofError: as `shown`, or a head over more entries was shown before.
            StorageError: it cannot be saved.
        """
        head = self.shown(note)
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
        verified = credits.check(paid, self._manager, self._run)
        self._compare(verified.head, paid.head)
        mine = {w.number: key for key, w in self.status.workers.items() if w.number >= 0 and w.upto == paid.first}
        accounts, moved = self._booked(verified, mine)
        if moved:
            self._store.keep(self._run, [paid])
        self.status.workers |= accounts
        self._settle(verified)
        for key in mine.values():
            self.status.workers[key].upto = verified.head.size
        return moved

    def missed(self, key: bytes, missed: m.MissedReceipts) -> dict[str, int]:
        """Takes what one identity has missed, if it is what it misses first. Returns and raises as `paid`."""
        verified = [credits.check(paid, self._manager, self._run) for paid in missed.paid]
        last = missed.first
        for paid, one in zip(missed.paid, verified, strict=True):
            if not last <= paid.first < one.head.size <= missed.upto:
                raise InvalidProofError("receipts out of order", expected=last, actual=paid.first)
            last = one.head.size
        account = self.status.workers[key.hex()]
        if account.number != missed.worker or account.upto != missed.first or missed.upto <= missed.first:
            return {}
        self._store.keep(self._run, missed.paid)
        moved: dict[str, int] = {}
        for one in verified:
            accounts, amounts = self._booked(one, {account.number: key.hex()})
            self.status.workers |= accounts
            self._settle(one)
            for name, amount in amounts.items():
                moved[name] = moved.get(name, 0) + amount
        self.status.workers[key.hex()].upto = missed.upto  # booking has put another account in the place of this
        self._size = max(self._size, missed.upto)
        return moved

    def bound(self, run: bytes, receipts: Sequence[CommitmentReceipt]) -> None:
        """Keeps receipts for commitments of a run; errors as `BookStore` says."""
        if receipts:
            self._store.keep_bound(run, receipts)

    def expect(self, entries: int) -> None:
        """The manager says that the log has so many entries."""
        self._size = max(self._size, entries)

    def behind(self) -> dict[bytes, int]:
        """The identities that have missed entries -> the number of the first of them."""
        found = self.status.workers.items()
        return {bytes.fromhex(key): w.upto for key, w in found if w.number >= 0 and w.upto < self._size}

    def save(self, doing: str, connected: bool, at: float) -> None:
        """Keeps the status, at so many seconds since 1970; a disk that is full must not stop the work."""
        with suppress(StorageError):
            self.status.at, self.status.doing, self.status.connected = at, doing, connected
            if self._run:
                self._store.save_status(self.status)
                self._save_earned()
                self._save_head()
            else:  # what it earned last is shown until it is known what there is to do now
                before = self._before
                self._store.save_status(msgspec.structs.replace(self.status, run=before.run, workers=before.workers))

    def totals(self) -> tuple[int, int, int]:
        """Over all identities: pending, vested and forfeited credits."""
        found = self.status.workers.values()
        return sum(w.pending for w in found), sum(w.vested for w in found), sum(w.forfeited for w in found)

    def _booked(
        self, verified: credits.VerifiedReceipts, mine: Mapping[int, str]
    ) -> tuple[dict[str, Earned], dict[str, int]]:
        """The accounts of identities (number -> key) after some entries, and what these moved, by key."""
        accounts = {number: msgspec.structs.replace(self.status.workers[key]) for number, key in mine.items()}
        moved: dict[str, int] = {}
        for _, entry in verified.entries:
            if isinstance(entry, e.Join) and entry.worker in mine:
                accounts[entry.worker].deposit += entry.deposit
                moved.setdefault(mine[entry.worker], 0)
            elif isinstance(entry, e.Pay | e.Release):
                for transfer in entry.transfers:
                    if transfer.worker in mine:
                        move(accounts[transfer.worker], transfer)
                        if max(msgspec.structs.astuple(accounts[transfer.worker])) > MAX_INT:
                            raise InvalidProofError("more credits than there can be", expected=MAX_INT)
                        sign = {"earn": 1, "forfeit": -1}.get(transfer.kind, 0)
                        key = mine[transfer.worker]
                        moved[key] = moved.get(key, 0) + sign * transfer.amount
        return {mine[number]: account for number, account in accounts.items()}, moved

    def _settle(self, verified: credits.VerifiedReceipts) -> None:
        for _, entry in verified.entries:  # before a run's end, credits vest by payments alone
            self.ended |= isinstance(entry, e.Release) and any(one.kind == "vest" for one in entry.transfers)
        self.settled = max([self.settled, *(entry.round for _, entry in verified.entries if isinstance(entry, e.Pay))])

    def _compare(self, head: Head, note: str) -> None:
        """Saves two heads that cannot both be of one log, as evidence against the manager."""
        self._size = max(self._size, head.size)
        other = self._heads.get(head.size)
        if other is not None and other[0] != head.root:
            document = {"run": self._run.hex(), "manager": self._manager.hex(), "heads": [other[1], note]}
            with suppress(StorageError):
                self._store.save_evidence(self._run, document)
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
            self._store.save_head(self._run, self._last)
            self._saved = self._last

    def _save_earned(self) -> None:
        """Writes what was earned, after the receipts for it: who is killed asks for those since then once more."""
        with suppress(StorageError):
            self._store.sync(self._run)
            self._store.save_earned(self._run, self._others | self.status.workers)
