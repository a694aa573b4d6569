"""Follows a run's files, while it goes on or when it is over: from its log and its figures to messages of a stream.

Nothing here is part of the process that trains: it reads what that has written.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from podlt.canonical import UNREADABLE
from podlt.dashboard.header import what_is_trained
from podlt.dashboard.recorder import Message, Recorder
from podlt.dashboard.stream import MessageStream
from podlt.errors import PodltError, StorageError, UsageError
from podlt.protocol.rules import RunState
from podlt.report.fold import visits
from podlt.store.round_figures import RoundFigures
from podlt.store.run_files import RunFiles, RunLog, open_run_files
from podlt.store.run_names import ROUNDS

POLL_SECONDS = 0.25
DISK_SECONDS = 10.0
MOST_AT_ONCE = 16
"""Signed heads (rounds, mostly) whose entries are taken before the page gets them."""

LONGEST_LINE = 2**20


class RunSource:
    """One run, followed into a stream by a thread of its own.

    Args:
        path: the run's directory or bundle.
        stream: gets the messages.

    Attributes:
        caught_up: set once all that was there at first was taken.
    """

    def __init__(self, path: Path, stream: MessageStream) -> None:
        self._path, self._stream = path, stream
        self._state, self._recorder = RunState(), Recorder()
        self._stop, self.caught_up = threading.Event(), threading.Event()
        self._figures = FiguresFile()
        self._thread = threading.Thread(target=self._follow, name="podlt-dashboard", daemon=True)

    @property
    def state(self) -> RunState:
        """The run as far as it was followed."""
        return self._state

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Takes what there is, and ends."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        try:
            self._wait_for_files()
            with open_run_files(self._path) as files:
                self._stream.show("header", name=self._path.resolve().name, **_header(self._path, files))
                self._wait_for_log(files)
                with closing(files.log()) as log:
                    self.take(log, files)
                    self.caught_up.set()
                    self._go_on(log, files)
        except PodltError as error:
            number = getattr(error, "entry", None)
            self._stream.show("broken", why=str(error), entry=number)
        except _StoppedError:
            pass

    def _wait_for_files(self) -> None:
        while not self._path.exists():
            self._pause()

    def _wait_for_log(self, files: RunFiles) -> None:
        while files.kind == "directory":
            try:
                files.log().close()
                return
            except StorageError:  # a run that begins has none yet
                self._pause()

    def _pause(self) -> None:
        if self._stop.wait(POLL_SECONDS):
            raise _StoppedError

    def _go_on(self, log: RunLog, files: RunFiles) -> None:
        """Takes what comes, until it is to stop; a bundle is over."""
        looked = time.monotonic()
        self._show_disk()
        while files.kind == "directory" and not self._stop.wait(POLL_SECONDS):
            self.take(log, files)
            if time.monotonic() - looked > DISK_SECONDS:
                looked = time.monotonic()
                self._show_disk()
        if files.kind == "directory":
            self.take(log, files)

    def take(self, log: RunLog, files: RunFiles) -> None:
        """Takes the entries, and the figures, that are there and were not taken.

        Raises:
            InvalidProofError: the rules do not allow an entry.
            StorageError: they cannot be read.
        """
        while heads := log.heads(self._state.index, MOST_AT_ONCE):
            size = heads[-1][0]
            rows = islice(log.entries(self._state.index), size - self._state.index)
            messages: list[Message] = []
            for visit in visits(self._state, rows):
                messages += self._recorder.take(visit)
            self._stream.add(messages)
            self._stream.add(self._figures.read(files.unproven()))
        self._stream.add(self._figures.read(files.unproven()))
        self._stream.show("caught_up", entries=self._state.index)

    def _show_disk(self) -> None:
        self._stream.show("disk", bytes=size_on_disk(self._path))


class _StoppedError(Exception):
    """It is to stop."""


class FiguresFile:
    """A run's rounds.jsonl, read line by line as it grows: the manager's word, which no entry binds."""

    def __init__(self) -> None:
        self._offset = 0

    def read(self, file: BinaryIO | None) -> list[Message]:
        """The figures that came since; the file is closed. A line that is not whole yet comes later.

        Raises:
            StorageError: it cannot be read, or a line is not what this format writes.
        """
        if file is None:
            return []
        found: list[Message] = []
        try:
            with file:
                if file.seek(0, os.SEEK_END) < self._offset:  # a run that was resumed writes its last lines again
                    self._offset = 0
                file.seek(self._offset)
                while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
                    self._offset += len(line)
                    found.append(_message(msgspec.json.decode(line, type=RoundFigures)))
        except OSError as error:
            raise StorageError(f"{ROUNDS}: cannot be read: {error.strerror or error}") from None
        except UNREADABLE as error:
            raise StorageError(f"{ROUNDS}: {error}") from None
        return found


def _message(one: RoundFigures) -> Message:
    named: dict[str, Any] = {"f": one.faked, "a": one.applied, "m": one.metrics}
    figures = {"t": "figures", "r": one.round, "s": one.seconds, "c": one.compute, "p": one.proof}
    return figures | {name: value for name, value in named.items() if value}


def _header(path: Path, files: RunFiles) -> dict[str, Any]:
    return {"path": str(path), "files": files.kind, **what_is_trained(files)}


def size_on_disk(path: Path) -> int:
    """Bytes of a run's files."""
    try:
        found = [path] if path.is_file() else list(path.rglob("*"))
        return sum(each.stat().st_size for each in found if each.is_file())
    except OSError:  # one was deleted meanwhile
        return 0


def read_messages(path: Path) -> list[Message]:
    """Everything that a page shows of a run, as it is now; what does not stay comes first.

    Raises:
        UsageError: there is no run, or nothing in its log.
        InvalidProofError: its log breaks the rules.
        StorageError: a file cannot be read.
    """
    stream = MessageStream()
    source = RunSource(path, stream)
    with open_run_files(path) as files, closing(files.log()) as log:
        stream.show("header", name=path.resolve().name, **_header(path, files))
        source.take(log, files)
    if source.state.begin is None:
        raise UsageError(f"{path}: the log is empty: nothing was trained yet")
    stream.show("disk", bytes=size_on_disk(path))
    _, messages, newest = stream.after(0, 0, 0.0)
    return [msgspec.json.decode(raw) for raw in (*(raw for _, raw in newest.values()), *messages)]
