"""The one way in which everything that shows a run reads its log: through the rules, entry by entry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from podlt.errors import InvalidProofError
from podlt.protocol import entries as e
from podlt.protocol.round import RoundState
from podlt.protocol.rules import RunState
from podlt.store.run_files import RunLog, open_run_files


class Visit(msgspec.Struct, frozen=True):
    """An entry of the log, and the run around it.

    Attributes:
        number: its place in the log.
        entry: what it says.
        state: the run just after it; it changes as the walk goes on.
        round: the round that the entry belongs to, or None between rounds.
    """

    number: int
    entry: e.AnyEntry
    state: RunState
    round: RoundState | None


def open_log(run: Path) -> RunLog:
    """The log of a run's directory, bundle or log file, to read from.

    Raises:
        UsageError: there is no run.
        StorageError: it cannot be read.
        InvalidProofError: its log is no log.
    """
    with open_run_files(run) as files:
        return files.log()


def walk(run: Path) -> Iterator[Visit]:
    """Every entry of a run's log, as the rules take it. Signatures and tree heads are `verify`'s.

    Raises:
        UsageError: there is no run.
        InvalidProofError: the rules do not allow an entry, or it is malformed.
    """
    with closing(open_log(run)) as store:
        yield from visits(RunState(), store.entries())


def visits(state: RunState, rows: Iterable[tuple[int, bytes, bytes]]) -> Iterator[Visit]:
    """The next entries of a log, as the rules take them. Errors as `walk`.

    Args:
        state: the run before the first of them.
        rows: number, leaf hash and bytes of each.
    """
    for number, _, body in rows:
        if number != state.index:
            raise InvalidProofError("the entry is missing", entry=state.index)
        entry = decode(number, body)
        before = state.current
        state.apply(entry)
        yield Visit(number, entry, state, state.current if state.current is not None else before)


def decode(number: int, body: bytes) -> e.AnyEntry:
    """The entry whose bytes these are.

    Raises:
        InvalidProofError: malformed; names the entry's number.
    """
    try:
        return e.decode(body)
    except InvalidProofError as error:
        raise InvalidProofError(error.reason, entry=number) from None
