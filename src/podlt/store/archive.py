"""Archives that may come from anywhere: plain tar files of plain files, the last of which says what they all are.

Written once through, so the manifest comes last: a file that was cut off has none. What is read is a small part of
what tar can say: regular files with short, plain names, nothing else. `tar tf` shows them as well.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
from blake3 import blake3
from msgspec import Meta

from podlt.canonical import from_json, to_json
from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.store.room import free_bytes, is_full

FORMAT = "podlt-backup/1"
MANIFEST = "manifest.json"
MAX_FILES = 50_000
MAX_MANIFEST = 16 * 2**20
_BLOCK = tarfile.BLOCKSIZE
_STEP = 2**20
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NAME = re.compile(f"{_PART}(/{_PART}){{0,4}}")
_MAX_NAME = 100

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class ArchivedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file: its name with `/`, how many bytes it has, their BLAKE3 digest; `secret`: for its owner's eyes only."""

    path: Annotated[str, Meta(max_length=_MAX_NAME)]
    size: Count
    digest: Digest
    secret: bool


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an archive holds.

    Attributes:
        format: `FORMAT`.
        run: the run's identity.
        entries: of its log.
        rounds: how many of them trained.
    """

    format: str
    run: Digest
    entries: Count
    rounds: Count
    files: list[ArchivedFile]


def is_plain(name: str) -> bool:
    """Whether a file of this name can be in an archive: it stays in the folder into which it is unpacked."""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


class ArchiveWriter:
    """Writes an archive.

    Args:
        file: open for writing.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.members: list[ArchivedFile] = []

    def add(self, name: str, path: Path) -> None:
        """Adds a file as long as it is now: one that only grows may be written to meanwhile.

        Raises:
            FileNotFoundError: it is not there.
            StorageError: it cannot be read or became shorter, or there are too many.
            OSError: the archive cannot be written.
        """
        if len(self.members) == MAX_FILES:
            raise StorageError(f"too many files for one backup: expected at most {MAX_FILES}")
        with path.open("rb") as source:
            status = os.fstat(source.fileno())
            secret = not status.st_mode & 0o077
            self._header(name, status.st_size, secret)
            state, left = blake3(), status.st_size
            while left:
                try:
                    data = source.read(min(_STEP, left))
                except OSError as error:
                    raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None
                if not data:
                    raise StorageError(f"{path}: became shorter while it was copied: run the backup again")
                state.update(data)
                self._file.write(data)
                left -= len(data)
        self._pad(status.st_size)
        self.members.append(ArchivedFile(name, status.st_size, state.hexdigest(), secret))

    def finish(self, run: bytes, entries: int, rounds: int) -> Manifest:
        """Writes the manifest, and the end.

        Raises:
            StorageError: the manifest is too long.
        """
        manifest = Manifest(FORMAT, run.hex(), entries, rounds, self.members)
        data = to_json(msgspec.to_builtins(manifest))
        if len(data) > MAX_MANIFEST:
            raise StorageError(f"manifest too long: expected at most {MAX_MANIFEST} bytes, got {len(data)}")
        self._header(MANIFEST, len(data), False)
        self._file.write(data)
        self._pad(len(data))
        self._file.write(bytes(2 * _BLOCK))
        return manifest

    def _header(self, name: str, size: int, secret: bool) -> None:
        assert is_plain(name), name
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600 if secret else 0o644
        self._file.write(info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict"))

    def _pad(self, size: int) -> None:
        self._file.write(bytes(-size % _BLOCK))


def unpack(archive: Path, folder: Path) -> Manifest:
    """Unpacks an archive into an empty folder, and compares every file with the manifest.

    Raises:
        UsageError: it is no archive of this format.
        StorageError: it was cut off or changed, it cannot be read, or the files cannot be written.
        OSError: the disk of the folder is full.
    """
    try:
        with archive.open("rb") as file:
            _check_room(os.fstat(file.fileno()).st_size, folder)
            found: dict[str, tuple[int, str]] = {}
            for name, size in _headers(file, archive):
                if name == MANIFEST:
                    return _checked(archive, folder, _manifest(archive, _exactly(file, size, archive)), found)
                if name in found or len(found) == MAX_FILES:
                    raise StorageError(f"{archive}: duplicate file {name}, or more than {MAX_FILES} files")
                found[name] = size, _extract(file, archive, folder / name, size)
    except OSError as error:
        if is_full(error):  # not the archive's, which is only read
            raise
        raise StorageError(f"{error.filename or archive}: {error.strerror or error}") from None
    raise StorageError(f"{archive}: truncated: no manifest at its end")


def _headers(file: IO[bytes], archive: Path) -> Iterator[tuple[str, int]]:
    """Name and size of each file; whoever asks for the next has read this one."""
    first = True
    while (block := file.read(_BLOCK)) and any(block):
        try:
            info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, ValueError):
            raise _malformed(archive, first) from None
        if info.type != tarfile.REGTYPE or info.linkname or not is_plain(info.name) or info.size < 0:
            raise _malformed(archive, first, f": {info.name[:_MAX_NAME]!r} is not a plain file with a plain name")
        yield info.name, info.size
        first = False
        file.read(-info.size % _BLOCK)


def _malformed(archive: Path, first: bool, why: str = "") -> Exception:
    """A file that begins otherwise was never a backup; one that goes on otherwise was changed."""
    if first:
        return UsageError(f"{archive}: not a backup of podlt{why}")
    return StorageError(f"{archive}: cut off, or changed{why}")


def _extract(file: IO[bytes], archive: Path, target: Path, size: int) -> str:
    """Writes the next `size` bytes to a new file; returns their digest."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    state = blake3()
    with os.fdopen(descriptor, "wb") as out:
        left = size
        while left:
            data = _exactly(file, min(_STEP, left), archive)
            state.update(data)
            out.write(data)
            left -= len(data)
        out.flush()
        os.fsync(out.fileno())
    return state.hexdigest()


def _exactly(file: IO[bytes], size: int, archive: Path) -> bytes:
    if size > MAX_MANIFEST:
        raise StorageError(f"{archive}: manifest too long: expected at most {MAX_MANIFEST} bytes, got {size}")
    data = file.read(size)
    if len(data) < size:
        raise StorageError(f"{archive}: truncated within a file")
    return data


def _manifest(archive: Path, data: bytes) -> Manifest:
    try:
        manifest = msgspec.convert(from_json(data), Manifest)
    except (InvalidProofError, msgspec.ValidationError) as error:
        raise StorageError(f"{archive}: malformed manifest: {error}") from None
    if manifest.format != FORMAT:
        raise UsageError(f"{archive}: unsupported format of a backup: expected {FORMAT}, got {manifest.format[:100]!r}")
    return manifest


def _checked(archive: Path, folder: Path, manifest: Manifest, found: dict[str, tuple[int, str]]) -> Manifest:
    """Raises: StorageError: other files, or other bytes in them, than the manifest says."""
    named = {member.path: (member.size, member.digest) for member in manifest.files}
    if len(named) != len(manifest.files) or named.keys() != found.keys():
        wrong: list[Any] = sorted(named.keys() ^ found.keys())
        raise StorageError(f"{archive}: its files are not those of its manifest: {wrong[:5]}")
    for name, expected in named.items():
        if found[name] != expected:
            raise StorageError(f"{archive}: {name} was changed: expected digest {expected[1]}, got {found[name][1]}")
    for member in manifest.files:
        if not member.secret:
            (folder / member.path).chmod(0o644)
    return manifest


def _check_room(size: int, folder: Path) -> None:
    """All files together are shorter than the archive."""
    room = free_bytes(folder)
    if room is not None and room < size:
        raise StorageError(f"{folder}: not enough space: expected {size} bytes, got {room}")
