"""The files of a run, wherever they are: in its directory, in a bundle, or no more than its log.

What verifies or shows a run reads it through here. A file that is missing is None, as it depends on the question
whether it is needed; what no entry binds (`unproven`, `cheats`) is not part of the proof.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal, Protocol, TypeVar

import msgspec

from podlt.canonical import UNREADABLE
from podlt.errors import StorageError, UsageError
from podlt.store import run_names as names
from podlt.store.bundle_reader import (
    CHEATS,
    COSIGNED,
    FIRST_CHECKPOINT,
    FORMAT_NAME,
    ROUNDS,
    Bundle,
    aggregate_name,
    update_name,
)
from podlt.store.container import BLOCK
from podlt.store.files import read_whole
from podlt.store.log_store import LogStore
from podlt.store.run_json import read_section
from podlt.store.run_log import has_log, open_run_log
from podlt.store.run_names import BUFFERS, MODEL

MAX_DOCUMENT = 16 * 2**20
MAX_CLAIMS = 256 * 2**20
MAX_COSIGNATURES = 64 * 2**20

Kind = Literal["directory", "bundle", "log"]

_SQLITE = b"SQLite format 3\0"
_MAGIC = FORMAT_NAME.encode()


T = TypeVar("T")


class _Settings(msgspec.Struct):
    """What the settings say of a demonstration; all else in them is not for readers."""

    cheats: dict[int, str] = {}


class RunLog(Protocol):
    """The entries and tree heads of a run."""

    def entries(self, first: int = 0) -> Iterable[tuple[int, bytes, bytes]]:
        """Number, leaf hash and bytes of each entry from `first` on."""

    def heads(self, above: int = 0, most: int | None = None) -> list[tuple[int, str]]:
        """Size and signed note of each tree head over more than `above` entries, ascending by size."""

    def close(self) -> None:
        """Closes it."""


class RunFiles(ABC):
    """One run's files, to read from; a context manager that closes them.

    Args:
        path: the directory or file.

    Attributes:
        kind: "directory", "bundle" or "log".
    """

    kind: ClassVar[Kind]

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def log(self) -> RunLog:
        """The log, opened anew.

        Raises:
            StorageError: there is none, or it cannot be read.
            InvalidProofError: it is no log of this format.
        """

    @abstractmethod
    def document(self, name: str) -> bytes | None:
        """The bytes of recipe.json or program.json.

        Raises:
            StorageError: it cannot be read, or is longer than `MAX_DOCUMENT`.
        """

    @abstractmethod
    def model(self) -> BinaryIO | None:
        """`model.safetensors`, seekable; there is none before a run's end."""

    @abstractmethod
    def buffers(self) -> BinaryIO | None:
        """`buffers.safetensors`, seekable; only a model with buffers that are not persistent has one."""

    @abstractmethod
    def checkpoint(self, rounds: int) -> BinaryIO | None:
        """Parameters and optimiser after so many training rounds, seekable."""

    @abstractmethod
    def updates(self) -> list[int]:
        """The rounds whose averaged update is kept, ascending."""

    @abstractmethod
    def update_file(self, round: int) -> BinaryIO | None:
        """The averaged update of a round, seekable."""

    def update(self, round: int, limit: int) -> bytes | None:
        """The bytes of the averaged update of a round.

        Raises:
            StorageError: it cannot be read, or is longer than `limit` bytes.
        """
        return _read(self.update_file(round), limit, f"{self.path}: the update of round {round}")

    @abstractmethod
    def aggregates(self) -> list[int]:
        """The rounds whose sum is kept, ascending."""

    @abstractmethod
    def aggregate_file(self, round: int) -> BinaryIO | None:
        """The sum of a round's updates, with its workers' fingerprints, seekable."""

    @abstractmethod
    def cosignatures(self) -> bytes:
        """What witnesses signed, a line each; no witness signed anything where it is empty.

        Raises:
            StorageError: it cannot be read, or is longer than `MAX_COSIGNATURES`.
        """

    @abstractmethod
    def unproven(self) -> BinaryIO | None:
        """The manager's figures of each round, a JSON document a line: seconds, and who faked in a demonstration."""

    @abstractmethod
    def cheats(self) -> dict[int, str]:
        """Worker -> how it was configured to cheat, in a demonstration.

        Raises:
            StorageError: malformed.
        """

    def close(self) -> None:  # noqa: B027 (a directory has nothing to close)
        """Closes what is open."""

    def __enter__(self) -> RunFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Directory(RunFiles):
    """A run's directory, as `podlt train` makes it."""

    kind = "directory"

    def log(self) -> RunLog:
        return open_run_log(self.path, readonly=True)

    def document(self, name: str) -> bytes | None:
        path = self.path / name
        return read_whole(path, MAX_DOCUMENT) if path.is_file() else None

    def model(self) -> BinaryIO | None:
        return _opened(self.path / MODEL)

    def buffers(self) -> BinaryIO | None:
        return _opened(self.path / BUFFERS)

    def checkpoint(self, rounds: int) -> BinaryIO | None:
        return _opened(self.path / names.checkpoint(rounds))

    def updates(self) -> list[int]:
        return _rounds_in(self.path / names.UPDATES)

    def update_file(self, round: int) -> BinaryIO | None:
        return _opened(self.path / update_name(round))

    def aggregate_file(self, round: int) -> BinaryIO | None:
        return _opened(self.path / aggregate_name(round))

    def aggregates(self) -> list[int]:
        return _rounds_in(self.path / names.AGGREGATES)

    def cosignatures(self) -> bytes:
        path = self.path / names.COSIGNATURES
        return read_whole(path, MAX_COSIGNATURES) if path.is_file() else b""

    def unproven(self) -> BinaryIO | None:
        return _opened(self.path / names.ROUNDS)

    def cheats(self) -> dict[int, str]:
        found = read_section(self.path, "settings", _Settings)
        return {} if found is None else found.cheats


class _BundleFiles(RunFiles):
    """A bundle, as `podlt bundle` makes it."""

    kind = "bundle"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._bundle = Bundle(path)

    def log(self) -> RunLog:
        return self._bundle.log()

    def document(self, name: str) -> bytes | None:
        return self._read(name, MAX_DOCUMENT)

    def model(self) -> BinaryIO | None:
        return self._bundle.open(MODEL)

    def buffers(self) -> BinaryIO | None:
        return self._bundle.open(BUFFERS)

    def checkpoint(self, rounds: int) -> BinaryIO | None:
        return self._bundle.open(FIRST_CHECKPOINT) if rounds == 0 else None

    def updates(self) -> list[int]:
        return self._bundle.updates

    def aggregates(self) -> list[int]:
        return self._bundle.aggregates

    def aggregate_file(self, round: int) -> BinaryIO | None:
        return self._bundle.open(aggregate_name(round))

    def update_file(self, round: int) -> BinaryIO | None:
        return self._bundle.open(update_name(round))

    def cosignatures(self) -> bytes:
        return self._read(COSIGNED, MAX_COSIGNATURES) or b""

    def unproven(self) -> BinaryIO | None:
        return self._bundle.open(ROUNDS)

    def cheats(self) -> dict[int, str]:
        raw = self._read(CHEATS, MAX_CLAIMS)
        return _decoded(raw, f"{self.path}: {CHEATS}", dict[int, str]) if raw is not None else {}

    def _read(self, name: str, limit: int) -> bytes | None:
        return _read(self._bundle.open(name), limit, f"{self.path}: {name}")

    def close(self) -> None:
        self._bundle.close()


class _BareLog(RunFiles):
    """An SQLite file that holds a log, and nothing else of the run."""

    kind = "log"

    def log(self) -> RunLog:
        return LogStore.at(self.path, readonly=True)

    def document(self, name: str) -> bytes | None:
        return None

    def model(self) -> BinaryIO | None:
        return None

    def buffers(self) -> BinaryIO | None:
        return None

    def checkpoint(self, rounds: int) -> BinaryIO | None:
        return None

    def updates(self) -> list[int]:
        return []

    def update_file(self, round: int) -> BinaryIO | None:
        return None

    def aggregates(self) -> list[int]:
        return []

    def aggregate_file(self, round: int) -> BinaryIO | None:
        return None

    def cosignatures(self) -> bytes:
        return b""

    def unproven(self) -> BinaryIO | None:
        return None

    def cheats(self) -> dict[int, str]:
        return {}


def open_run_files(path: Path) -> RunFiles:
    """The files of the run at a path: a run's directory, a bundle, or a log by itself.

    Raises:
        UsageError: the path is none of these.
        StorageError: it cannot be read.
        InvalidProofError: it is a bundle that was changed or cut off.
    """
    if path.is_dir() and (has_log(path) or (path / names.RECIPE).is_file()):
        return _Directory(path)
    if path.is_file():
        start = _start(path)
        if start.startswith(_SQLITE):
            return _BareLog(path)
        if _MAGIC in (start[: len(_MAGIC)], start[BLOCK:]):
            return _BundleFiles(path)
    if str(path).startswith(("https:/", "http:/")):
        raise UsageError(f"{path}: an address: fetch the bundle first, and give its file")
    expected = "a directory that `podlt train` made, a file that `podlt bundle` made, or a run's log.db"
    raise UsageError(f"{path}: {_what_is_there(path)}: no run here (expected {expected})")


def with_own_name(run: Path) -> Path:
    """A run's path as somebody wrote it, for a file beside it; in full where that has no name, as "." has none."""
    return run if run.name not in ("", "..") else run.resolve()


def _what_is_there(path: Path) -> str:
    """What a path is that is no run, for whoever mistyped it."""
    if path.is_file():
        return "a file of another kind"
    if not path.is_dir():
        return "there is no such file or folder"
    runs = sorted(found.parent.name for found in islice(path.glob(f"*/{names.RECIPE}"), 100))
    return f"a folder of runs ({', '.join(runs[:3])}{', ...' if len(runs) > 3 else ''})" if runs else "a folder"


def _start(path: Path) -> bytes:
    """What tells the kinds of files apart: a bundle has its format's name twice, so that a change cannot hide it."""
    try:
        with path.open("rb") as file:
            return file.read(BLOCK + len(_MAGIC))
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None


def _rounds_in(folder: Path) -> list[int]:
    """The rounds that have a file in a folder, ascending."""
    names = (path.stem for path in folder.glob("*.bin") if len(path.stem) == 8)
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb") if path.is_file() else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read(file: BinaryIO | None, limit: int, name: str) -> bytes | None:
    """The bytes of an open file, which is closed.

    Raises:
        StorageError: longer than `limit` bytes, or it cannot be read.
    """
    if file is None:
        return None
    try:
        with file:
            size = file.seek(0, os.SEEK_END)
            if size > limit:
                raise StorageError(f"{name}: {size} bytes, more than the limit of {limit}")
            file.seek(0)
            return file.read()
    except OSError as error:
        raise StorageError(f"{name}: cannot be read: {error.strerror or error}") from None


def _decoded(raw: bytes, name: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNREADABLE as error:
        raise StorageError(f"{name}: {error}") from None
