"""A bundle, read from where it lies: the log, documents and results of a run in one file that can be mailed.

A bundle is a container (`podlt.store.container`) with these members in this order; those in brackets may be missing:

podlt-bundle            the format's name         log/entries   each entry: its length (4 bytes, big-endian), its bytes
log/heads               the signed notes          [log/cosignatures] of witnesses
[recipe.json] [program.json] [model.safetensors] [buffers.safetensors]
[unproven/rounds.jsonl]   figures of the manager's  [unproven/cheats.json]   simulated cheats, in a demonstration
[checkpoints/00000000.safetensors] [updates/NNNNNNNN.bin ...]   what `podlt audit` applies again
[aggregates/NNNNNNNN.bin ...]             what `podlt audit --aggregates` checks averages by

Claims are not part of the proof: no entry of the log binds them.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from podlt.canonical import MAX_RECORD
from podlt.errors import InvalidProofError, StorageError
from podlt.log.merkle import leaf_hash
from podlt.log.tree_head import MAX_NOTE
from podlt.store.container import Section, read_container
from podlt.store.run_names import AGGREGATES, BUFFERS, MODEL, PROGRAM, RECIPE, UPDATES

FORMAT = b"podlt-bundle/1\n"
FORMAT_NAME = "podlt-bundle"
ENTRIES, HEADS, COSIGNED = "log/entries", "log/heads", "log/cosignatures"
ROUNDS, CHEATS = "unproven/rounds.jsonl", "unproven/cheats.json"
FIRST_CHECKPOINT = "checkpoints/00000000.safetensors"
ORDER = (FORMAT_NAME, ENTRIES, HEADS, COSIGNED, RECIPE, PROGRAM, MODEL, BUFFERS, ROUNDS, CHEATS, FIRST_CHECKPOINT)
"""The members but for those of rounds, which follow them: all updates by number, then all aggregates."""

LENGTH_BYTES = 4
NOTE_LINES = 5

_REQUIRED = ORDER[:3]
_RANKS = {name: rank for rank, name in enumerate(ORDER)}
_NUMBERED = [re.compile(rf"{folder}/([0-9]{{8}})\.bin") for folder in (UPDATES, AGGREGATES)]
"""The members of rounds, by kind, in their order."""

_SIZE_LINE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_NOTE_BYTES = 2 * MAX_NOTE
_FORM = 1


class Bundle:
    """An open bundle: every byte of its container was checked, and nothing of its members was loaded.

    Args:
        path: the file.

    Raises:
        StorageError: it cannot be read.
        InvalidProofError: it is no bundle in its one encoding, or was cut off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, tuple[int, int]] = {}
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None
        try:
            self._read()
        except OSError as error:
            self._file.close()
            raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> None:
        last = (-1, -1)
        for member in read_container(self._file):
            place = _place(member.name)
            if place <= last:
                message = f"{member.name}: twice in the bundle, or not in its place"
                raise InvalidProofError(message, step=_FORM)
            last = place
            self._parts[member.name] = member.offset, member.size
            if member.name == FORMAT_NAME:
                self._check_format(member.size)
        if missing := [name for name in _REQUIRED if name not in self._parts]:
            raise InvalidProofError(f"{', '.join(missing)}: missing in the bundle", step=_FORM)

    def _check_format(self, size: int) -> None:
        found = self._file.read(min(size, len(FORMAT)))
        if size != len(FORMAT) or found != FORMAT:
            raise InvalidProofError("bundle of another format", step=_FORM, expected=FORMAT, actual=found)

    @property
    def names(self) -> list[str]:
        """The members' names, in order."""
        return list(self._parts)

    @property
    def updates(self) -> list[int]:
        """The rounds whose updates are in the bundle, ascending."""
        return [int(match[1]) for name in self._parts if (match := _NUMBERED[0].fullmatch(name))]

    @property
    def aggregates(self) -> list[int]:
        """The rounds whose sums are in the bundle, ascending."""
        return [int(match[1]) for name in self._parts if (match := _NUMBERED[1].fullmatch(name))]

    def open(self, name: str) -> BinaryIO | None:
        """A member as a file that is read independently of others; None if the bundle has none of this name."""
        part = self._parts.get(name)
        if part is None:
            return None
        return cast(BinaryIO, io.BufferedReader(Section(self._file.fileno(), *part)))

    def log(self) -> BundleLog:
        """The log."""
        entries, heads = self.open(ENTRIES), self.open(HEADS)
        assert entries is not None and heads is not None
        return BundleLog(entries, heads)

    def close(self) -> None:
        """Closes the file; members that are open stay so."""
        self._file.close()


class BundleLog:
    """The entries and tree heads in a bundle; leaf hashes are worked out from the entries.

    Args:
        entries: the member with the entries; closed with this object.
        heads: the member with the tree heads; closed with this object.
    """

    def __init__(self, entries: BinaryIO, heads: BinaryIO) -> None:
        self._entries, self._heads = entries, heads
        self._entries_size = entries.seek(0, os.SEEK_END)
        self._page: tuple[int, int] = (0, 0)

    def entries(self, first: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        """Number, leaf hash and bytes of each entry from `first` on.

        Raises:
            InvalidProofError: an entry is longer than any may be, or cut off.
        """
        number = position = 0
        while position < self._entries_size:
            self._entries.seek(position)
            size = self._entry_size(number, position)
            position += LENGTH_BYTES + size
            if number >= first:
                body = self._entries.read(size)
                if len(body) < size:
                    raise _cut(number)
                yield number, leaf_hash(body), body
            number += 1

    def _entry_size(self, number: int, position: int) -> int:
        raw = self._entries.read(LENGTH_BYTES)
        size = int.from_bytes(raw, "big")
        if size > MAX_RECORD:
            raise InvalidProofError(f"longer than {MAX_RECORD} bytes", entry=number, step=_FORM)
        if len(raw) < LENGTH_BYTES or size > self._entries_size - position - LENGTH_BYTES:
            raise _cut(number)
        return size

    def heads(self, above: int = 0, most: int | None = None) -> list[tuple[int, str]]:
        """Size and signed note of every tree head over more than so many entries, ascending by size.

        Args:
            most: how many of them; all by default.

        Raises:
            InvalidProofError: a note is not in the form of a tree head, or they are not in order.
        """
        found: list[tuple[int, str]] = []
        size, position = self._page if self._page[0] <= above else (0, 0)
        self._heads.seek(position)
        while most is None or len(found) < most:
            head = self._next_head(size)
            if head is None:
                break
            size = head[0]
            if size > above:
                found.append(head)
        self._page = size, self._heads.tell()
        return found

    def _next_head(self, after: int) -> tuple[int, str] | None:
        lines: list[bytes] = []
        left = _NOTE_BYTES
        while len(lines) < NOTE_LINES and (line := self._heads.readline(left)):
            lines.append(line)
            left -= len(line)
        if not lines:
            return None
        match = _SIZE_LINE.fullmatch(lines[1]) if len(lines) == NOTE_LINES else None
        if match is None or not lines[-1].endswith(b"\n"):
            raise InvalidProofError(f"the tree head after that over {after} entries is malformed", step=_FORM)
        size = int(match[1])
        if size <= after:
            raise InvalidProofError("tree heads out of order", step=_FORM, expected=after + 1, actual=size)
        try:
            return size, b"".join(lines).decode()
        except UnicodeDecodeError:
            raise InvalidProofError(f"the tree head over {size} entries is no text", step=_FORM) from None

    def close(self) -> None:
        """Closes both members."""
        self._entries.close()
        self._heads.close()


def update_name(round: int) -> str:
    """The member that holds the averaged update of a round."""
    return f"updates/{round:08d}.bin"


def aggregate_name(round: int) -> str:
    """The member that holds the sum of a round's updates, with its workers' fingerprints."""
    return f"{AGGREGATES}/{round:08d}.bin"


def _place(name: str) -> tuple[int, int]:
    """Where a member comes in the order.

    Raises:
        InvalidProofError: no bundle has a member of this name.
    """
    if name in _RANKS:
        return _RANKS[name], 0
    for kind, pattern in enumerate(_NUMBERED):
        if match := pattern.fullmatch(name):
            return len(ORDER) + kind, int(match[1])
    raise InvalidProofError(f"{name!r}: no bundle has a member of this name", step=_FORM)


def _cut(number: int) -> InvalidProofError:
    return InvalidProofError("the entry is cut off", entry=number, step=_FORM)
