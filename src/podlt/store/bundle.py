"""Writes a bundle: what verifying a run takes, in one file that holds no key and no path of the machine.

A run may go on meanwhile: the last tree head is read first, and the log is taken up to it. `podlt.store.bundle_reader`
describes the format.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from podlt.canonical import from_json, to_json
from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.store.bundle_reader import (
    CHEATS,
    COSIGNED,
    ENTRIES,
    FIRST_CHECKPOINT,
    FORMAT,
    FORMAT_NAME,
    HEADS,
    LENGTH_BYTES,
    NOTE_LINES,
    ROUNDS,
    aggregate_name,
    update_name,
)
from podlt.store.container import STEP, ContainerMember, ContainerWriter
from podlt.store.files import make_whole
from podlt.store.run_files import RunFiles, RunLog, open_run_files
from podlt.store.run_names import BUFFERS, MODEL, PROGRAM, RECIPE

DOCUMENTS = (RECIPE, PROGRAM)

Progress = Callable[[str, int, int], None]
"""Called now and then with a member's name, how much of it was written, and how much there is (entries or bytes)."""

_OFTEN = 1000
"""After how many entries progress is said."""

_PAGE = 50_000
"""How many tree heads are in memory at once: asking for some has a database look at all."""

_FORM, _HEADS = 1, 3


class BundleReport(msgspec.Struct, frozen=True):
    """What went into a bundle.

    Attributes:
        path: where it is.
        size: in bytes.
        entries: of the log.
        heads: of the log.
        members: every file in it.
        missing: files of a finished run that were not there: documents, model, and with `updates` what audit needs.
        paths: what looks like a path of a machine in the recipe, which the log binds as it is.
    """

    path: Path
    size: int
    entries: int
    heads: int
    members: list[ContainerMember]
    missing: list[str]
    paths: list[str]


def write_bundle(
    run: Path, out: Path, *, updates: bool = False, force: bool = False, progress: Progress | None = None
) -> BundleReport:
    """Writes a run that may go on meanwhile into one file, whole or not at all.

    Args:
        run: its directory, or another bundle or log.
        out: the file.
        updates: whether to take the first parameters, and every update and sum that is kept, for `podlt audit`.
        force: whether to write over a file that is there.
        progress: see `Progress`.

    Raises:
        UsageError: there is no run, it has not begun, or there is a file already.
        InvalidProofError: an entry of the log is missing, or a tree head is malformed.
        StorageError: a file cannot be read or written.
    """
    if out.is_dir() or (out.exists() and not force):
        raise UsageError(f"{out}: the file exists (--force overwrites it)")
    reports: list[BundleReport] = []

    def make(part: Path) -> None:
        with open_run_files(run) as files, part.open("wb") as file:
            reports.append(_Writer(files, file, progress or (lambda name, done, total: None)).write(out, updates))

    make_whole(out, make)
    return reports[0]


class _Writer:
    """Copies the files of one run into a container."""

    def __init__(self, files: RunFiles, file: BinaryIO, progress: Progress) -> None:
        self._files, self._file, self._progress = files, file, progress
        self._container = ContainerWriter(file)
        self._missing: list[str] = []

    def write(self, out: Path, updates: bool) -> BundleReport:
        """Writes everything, in the order of the members."""
        with self._container.member(FORMAT_NAME) as member:
            member.write(FORMAT)
        log = self._files.log()
        try:
            entries, heads = self._write_log(log)
        finally:
            log.close()
        if cosigned := self._files.cosignatures():
            self._add(COSIGNED, cosigned)
        paths: list[str] = []
        for name in DOCUMENTS:
            raw = self._files.document(name)
            self._add(name, raw)
            if raw is not None and name == RECIPE:
                paths = _paths_in(raw)
        self._copy(MODEL, self._files.model())
        if (buffers := self._files.buffers()) is not None:
            self._copy(BUFFERS, buffers)
        self._write_unproven()
        if updates:
            self._copy(FIRST_CHECKPOINT, self._files.checkpoint(0))
            for round in self._files.updates():
                self._copy(update_name(round), self._files.update_file(round))
            for round in self._files.aggregates():
                self._copy(aggregate_name(round), self._files.aggregate_file(round))
        self._container.finish()
        return BundleReport(
            out, self._file.tell(), entries, heads, self._container.members, sorted(self._missing), paths
        )

    def _write_log(self, log: RunLog) -> tuple[int, int]:
        """Writes the log up to a head that was there first: rows are only ever added."""
        size = count = 0
        for covered, _ in _heads(log):
            size, count = covered, count + 1
        if not size:
            raise UsageError(f"{self._files.path}: the run has not begun: nothing to bundle yet")
        with self._container.member(ENTRIES) as member:
            expected = 0
            for number, _, body in log.entries():
                if number >= size or number != expected:
                    break
                member.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
                expected += 1
                if expected % _OFTEN == 0 or expected == size:
                    self._progress(ENTRIES, expected, size)
        if expected != size:
            raise InvalidProofError("the entry is missing", entry=expected, step=_FORM)
        with self._container.member(HEADS) as member:
            for covered, note in _heads(log):
                if covered > size:
                    break
                member.write(_checked(covered, note))
        return size, count

    def _write_unproven(self) -> None:
        unproven = self._files.unproven()
        if unproven is not None:
            self._copy(ROUNDS, unproven)
        if cheats := self._files.cheats():
            self._add(CHEATS, to_json({str(worker): kind for worker, kind in sorted(cheats.items())}))

    def _add(self, name: str, raw: bytes | None) -> None:
        if raw is None:
            self._missing.append(name)
            return
        with self._container.member(name) as member:
            member.write(raw)

    def _copy(self, name: str, source: BinaryIO | None) -> None:
        """Copies a file as long as it is now: one that only grows may be written to meanwhile.

        Raises:
            StorageError: it became shorter.
        """
        if source is None:
            self._missing.append(name)
            return
        with source, self._container.member(name) as member:
            total = left = source.seek(0, os.SEEK_END)
            source.seek(0)
            while left:
                data = source.read(min(STEP, left))
                if not data:
                    raise StorageError(f"{self._files.path}: {name} became shorter while it was copied: bundle again")
                member.write(data)
                left -= len(data)
                self._progress(name, total - left, total)


def last_head(log: RunLog) -> str | None:
    """The signed note of the last tree head; None if there is none.

    Raises:
        InvalidProofError: it is not in the form of one, or holds what a terminal would act on.
    """
    last = None
    for head in _heads(log):
        last = head
    if last is None:
        return None
    size, note = last
    _checked(size, note)
    if not note.replace("\n", "").isprintable():
        raise InvalidProofError(f"the tree head over {size} entries is not plain text", step=_HEADS)
    return note


def _heads(log: RunLog) -> Iterator[tuple[int, str]]:
    """All tree heads, of which a few are in memory at once.

    Raises:
        InvalidProofError: one is over no more entries than the one before.
    """
    size = 0
    while page := log.heads(size, _PAGE):
        for covered, note in page:
            if covered <= size:
                raise InvalidProofError("tree heads out of order", step=_HEADS, expected=size + 1, actual=covered)
            yield covered, note
            size = covered


def _checked(size: int, note: str) -> bytes:
    """The bytes of a note.

    Raises:
        InvalidProofError: a reader could not find it again.
    """
    lines = note.split("\n")
    if len(lines) != NOTE_LINES + 1 or lines[-1] or lines[1] != str(size):
        raise InvalidProofError(f"the tree head over {size} entries is malformed", step=_HEADS)
    return note.encode()


def _paths_in(recipe: bytes) -> list[str]:
    """The texts of a recipe that are absolute paths."""
    found: list[str] = []
    waiting: list[object] = []
    try:
        waiting.append(from_json(recipe))
    except InvalidProofError:
        return []  # whoever verifies the bundle says what is wrong with it
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, str) and (item.startswith(("/", "~", "\\\\")) or item[1:3] == ":\\"):
            found.append(item)
    return sorted(set(found))
