"""The file of a run that says who may work for it: read by its manager, written by it and by `podlt workers`."""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from podlt.access import invitation as inv
from podlt.access.policy import AccessPolicy, Admitted, Issued, Refusal, from_bytes, to_bytes
from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.store.files import read_whole, write_whole
from podlt.store.run_json import read_section, write_section
from podlt.store.run_names import ACCESS, ACCESS_LOCK

_LONGEST = 2**24


class RunAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where workers find a run: what its invitations name. `certificate` is in DER, in hexadecimal digits."""

    servers: list[str]
    certificate: Annotated[str, Meta(pattern="^([0-9a-f]{2})*$")] = ""


class Registry:
    """Who may work for a run, in its directory. Several processes may use it at once.

    Args:
        run: the run's directory.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._path = run / ACCESS
        self._mutex = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._state = AccessPolicy()

    @property
    def state(self) -> AccessPolicy:
        """What the file says now.

        Raises:
            StorageError: it is malformed, or cannot be read.
        """
        with self._mutex:
            return self._read()

    def change(self, what: Callable[[AccessPolicy], AccessPolicy]) -> AccessPolicy:
        """Changes the file; on the disk before this returns.

        Raises:
            UsageError: what `what` raises.
            StorageError: it cannot be written.
        """
        with self._mutex, self._locked():
            before = self._read()
            after = what(before)
            if after is not before:
                write_whole(self._path, to_bytes(after), mode=0o600)
            return self._read()

    def admit(self, key: bytes, invitation: str, now: int, deposit: int = 0) -> Admitted | Refusal:
        """Decides, and keeps what follows from it before anybody hears of it (a use that was counted stays counted).

        Args and Raises: as `AccessPolicy.decide` and `change`.
        """
        state = self.state
        decision = state.decide(key, invitation, now, deposit)
        if isinstance(decision, Refusal) or decision.after is state:
            return decision
        decisions: list[Admitted | Refusal] = []

        def decide(state: AccessPolicy) -> AccessPolicy:
            decisions.append(state.decide(key, invitation, now, deposit))  # anew: now nobody else can change it
            last = decisions[-1]
            return last.after if isinstance(last, Admitted) else state

        self.change(decide)
        return decisions[-1]

    def held(self, key: bytes) -> int:
        """The credits that are recorded as a key's deposit now. Raises: as `state`."""
        return self.state.held(key.hex())

    def operator(self, key: bytes) -> str:
        """Who runs the worker of a key. Raises: as `state`."""
        return self.state.operator(key.hex())

    def invite(
        self,
        key: SigningKey,
        *,
        uses: int = 1,
        expires: int = 0,
        now: int,
        note: str = "",
        operator: str = "",
        address: bool = False,
    ) -> inv.Invitation:
        """Gives out an invitation; its secret is in what is returned, and nowhere else.

        Args:
            key: the manager's.
            uses: for how many workers.
            expires: milliseconds since 1970, 0 for never.
            note: who it is for.
            operator: who runs the workers that come by it, for the log; "" for a name that no other has.
            address: without a secret, for keys that are allowed and for open runs.

        Raises:
            UsageError: there is no place to invite anybody to yet, or the invitation would let nobody in.
        """
        place = self.place()
        secret = b"" if address else secrets.token_bytes(inv.SECRET_BYTES)
        if not address and (uses < 1 or (expires and expires <= now)):
            raise UsageError("invitation would admit nobody: expected at least one use, and an expiry in the future")
        invitation = inv.Invitation(
            servers=place.servers,
            manager=key.public,
            certificate=bytes.fromhex(place.certificate),
            secret=secret,
            uses=0 if address else uses,
            expires=0 if address else expires,
            deposit=self.state.deposit or 0,
        )
        if secret:
            issued = Issued(uses=uses, issued=now, expires=expires, note=note, operator=operator)
            self.change(lambda state: state.issue(invitation.name, issued))
        return inv.sign(invitation, key)

    def place(self) -> RunAddress:
        """Where workers find the run.

        Raises:
            UsageError: it was never started for workers on other machines.
            StorageError: malformed.
        """
        found = read_section(self.run, "address", RunAddress)
        if found is None:
            raise UsageError(
                f"{self.run}: this run has no server that workers could come to; start it by podlt manager"
            )
        return found

    def set_place(self, servers: Sequence[str], certificate: bytes) -> None:
        """Says where workers find the run.

        Raises:
            UsageError: a URL that no worker would take.
            StorageError: it cannot be written.
        """
        for url in servers:
            inv.check_url(url)
        write_section(self.run, "address", RunAddress(list(servers), certificate.hex()))

    def _read(self) -> AccessPolicy:
        """The file, if it is another than the one that was read last: each change makes a new file."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._seen, self._state = None, AccessPolicy()
            return self._state
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be read: {error.strerror}") from None
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            try:
                self._state = from_bytes(read_whole(self._path, _LONGEST))
            except InvalidProofError as error:
                raise StorageError(f"{self._path}: {error.reason}; the run's directory was changed") from None
            self._seen = seen
        return self._state

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other processes from changing the file between reading and writing it."""
        try:
            descriptor = os.open(self.run / ACCESS_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"{self.run / ACCESS_LOCK}: cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
