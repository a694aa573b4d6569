"""A witness: cosigns a head of a log that it knows, if the log only grew since the last one. No socket, no clock.

Source: c2sp.org/tlog-witness. One addition of ours, add-run: the first entry of a run binds the run's name to its
manager's key, so that a run can introduce itself and nobody is trusted for it.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from podlt.crypto import SigningKey
from podlt.errors import InvalidProofError, NotCheckedError, UsageError
from podlt.log.merkle import EMPTY_ROOT, is_consistent
from podlt.log.notes import WitnessKey, cosign, parse_checkpoint
from podlt.log.tree_head import open_head, origin_of
from podlt.protocol import entries as e
from podlt.witness.request import SIZE_TYPE, AddCheckpoint
from podlt.witness.state import Conflict, SeenLog, WitnessState

MAX_ENTRY = 64 * 1024
"""The longest first entry that is read."""


class Reply(msgspec.Struct, frozen=True):
    """What a witness answers.

    Attributes:
        status: of HTTP.
        body: a text.
        kind: its content type.
    """

    status: int
    body: str
    kind: str = "text/plain; charset=utf-8"


class Witness:
    """Cosigns heads.

    Args:
        name: of its key, a schema-less URL.
        key: its own, for nothing else.
        state: what it saw.
        most: how many logs it remembers.
        open: whether a run that it does not know may introduce itself.
    """

    def __init__(self, name: str, key: SigningKey, state: WitnessState, *, most: int, open: bool) -> None:
        self._name, self._key, self._state, self._most, self._open = name, key, state, most, open

    @property
    def public(self) -> WitnessKey:
        """Who it is."""
        return WitnessKey(self._name, self._key.public)

    def seen(self, origin: str) -> int:
        """How many entries it saw of a log; 0 if it does not know it."""
        with self._state.change() as change:
            log = change.log(origin)
        return 0 if log is None else log.size

    def add_checkpoint(self, body: bytes, now: int) -> Reply:
        """Answers a request for a cosignature.

        Args:
            body: as `AddCheckpoint` has it.
            now: seconds since 1970.
        """
        try:
            request = AddCheckpoint.of_body(body)
            head, _ = parse_checkpoint(request.note)
        except InvalidProofError as error:
            return Reply(HTTPStatus.BAD_REQUEST, f"{error}\n")
        with self._state.change() as change:
            seen = change.log(head.origin)
            if seen is None:
                return Reply(HTTPStatus.NOT_FOUND, "unknown log: podlt witness add, or POST add-run its first entry\n")
            if not _is_signed(request.note, seen):
                return Reply(HTTPStatus.FORBIDDEN, "the checkpoint is not signed by the log's key\n")
            if request.old > head.size:
                return Reply(HTTPStatus.BAD_REQUEST, "the old size is above the checkpoint's\n")
            if request.old != seen.size:
                return Reply(HTTPStatus.CONFLICT, f"{seen.size}\n", SIZE_TYPE)
            if request.old == head.size and seen.root != head.root:
                change.conflict(Conflict(head.origin, request.note, now))
                return Reply(HTTPStatus.CONFLICT, f"{seen.size}\n", SIZE_TYPE)
            if not is_consistent(seen.size, seen.root, head.size, head.root, request.proof):
                change.conflict(Conflict(head.origin, request.note, now))
                return Reply(HTTPStatus.UNPROCESSABLE_ENTITY, "the log is not consistent with the one seen before\n")
            change.write(SeenLog(head.origin, seen.key, head.size, head.root, now))
        return Reply(HTTPStatus.OK, cosign(head, now, self._name, self._key).line())

    def add_run(self, body: bytes, now: int) -> Reply:
        """Answers a run that introduces itself.

        Args:
            body: the run's first entry, as its log has it.
            now: seconds since 1970.
        """
        if not self._open:
            return Reply(HTTPStatus.FORBIDDEN, "this witness takes no runs but those that its owner adds\n")
        try:
            origin = self.know(body, now)
        except InvalidProofError as error:
            return Reply(HTTPStatus.BAD_REQUEST, f"{error}\n")
        except UsageError as error:
            return Reply(HTTPStatus.INSUFFICIENT_STORAGE, f"{error}\n")
        return Reply(HTTPStatus.OK, f"{origin}\n")

    def know(self, body: bytes, now: int) -> str:
        """Takes a run into its logs; one that it knows stays as it is.

        Args:
            body: the run's first entry.
            now: seconds since 1970.

        Returns:
            The log's origin.

        Raises:
            InvalidProofError: no first entry.
            UsageError: too many logs are known.
        """
        if len(body) > MAX_ENTRY:
            raise InvalidProofError("the first entry is too long")
        try:
            entry = e.decode(body)
        except NotCheckedError as error:
            raise InvalidProofError(str(error)) from None
        if not isinstance(entry, e.Begin):
            raise InvalidProofError("the entry is no first entry of a run")
        origin = origin_of(e.identity(entry))
        with self._state.change() as change:
            if change.log(origin) is None:
                if change.count() >= self._most:
                    raise UsageError(f"the witness knows {self._most:,} logs already, as many as it may")
                change.write(SeenLog(origin, entry.manager, 0, EMPTY_ROOT, now))
        return origin


def _is_signed(note: str, seen: SeenLog) -> bool:
    """Whether the log's key signed the checkpoint; signatures of keys that nobody knows are ignored."""
    text, _, signatures = note.partition("\n\n")
    for line in signatures.splitlines(keepends=True):
        try:
            open_head(f"{text}\n\n{line}", seen.key, seen.origin)
            return True
        except InvalidProofError:
            continue
    return False
