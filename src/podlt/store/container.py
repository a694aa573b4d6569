"""Several files in one, in one encoding: an uncompressed POSIX tar of which every byte follows from the files.

A member is a header block, its bytes, and zeros up to a multiple of 512; two zero blocks end the container. A header
says a name and a size (in octal; from 8 GiB on in GNU tar's base 256); all else in it is fixed: mode 0644, owner 0
without a name, time 0. A reader makes each header again and compares, so that `tar tf` lists the members and no byte
can be changed unseen. Sizes are held against the file's own before anything is read.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from podlt.errors import InvalidProofError
from podlt.store.archive import is_plain

BLOCK = 512
MAX_NAME = 100
STEP = 2**20

_OCTAL_SIZES = 8**11
_LARGE = 0x80
_FORM = 1
"""The step of docs/SPEC.md, section 6, that a container belongs to: what is read has its one encoding."""


@dataclass(frozen=True)
class ContainerMember:
    """Where a file lies in a container: its name, the offset of its first byte, and how many bytes it has."""

    name: str
    offset: int
    size: int


def header(name: str, size: int) -> bytes:
    """The one header of a member, 512 bytes."""
    assert is_plain(name), name
    raw = name.encode("ascii")
    field = b"%011o\0" % size if size < _OCTAL_SIZES else bytes([_LARGE]) + size.to_bytes(11, "big")
    start = raw.ljust(MAX_NAME, b"\0") + b"0000644\0" + b"0000000\0" + b"0000000\0" + field + b"00000000000\0"
    end = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" + b"0000000\0"
    block = bytearray((start + b" " * 8 + end).ljust(BLOCK, b"\0"))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


class ContainerWriter:
    """Writes a container.

    Args:
        file: open for writing, empty, seekable: a member's size is written when its last byte is.

    Attributes:
        members: those that were written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.members: list[ContainerMember] = []

    @contextmanager
    def member(self, name: str) -> Iterator[BinaryIO]:
        """A member's file to write to."""
        start = self._file.tell()
        self._file.write(bytes(BLOCK))
        yield self._file
        end = self._file.tell()
        size = end - start - BLOCK
        self._file.write(bytes(-size % BLOCK))
        self._file.seek(start)
        self._file.write(header(name, size))
        self._file.seek(0, os.SEEK_END)
        self.members.append(ContainerMember(name, start + BLOCK, size))

    def finish(self) -> None:
        """Writes the end."""
        self._file.write(bytes(2 * BLOCK))


def read_container(file: BinaryIO) -> Iterator[ContainerMember]:
    """The members of a container, in order; all of its bytes but theirs are checked when the last was given.

    Args:
        file: the whole container, seekable; whoever takes a member may have moved in it.

    Raises:
        InvalidProofError: a byte outside the members is not what it must be, or the file was cut off.
    """
    end, position = file.seek(0, os.SEEK_END), 0
    while True:
        file.seek(position)
        block = file.read(BLOCK)
        if block == bytes(BLOCK):
            break
        name, size = _named(block, position)
        position += BLOCK
        if size > end - position:
            raise InvalidProofError(f"{name}: the bundle is cut off", step=_FORM, expected=size, actual=end - position)
        yield ContainerMember(name, position, size)
        file.seek(position + size)
        padding = -size % BLOCK
        if file.read(padding) != bytes(padding):
            raise InvalidProofError(f"{name}: the bundle has other bytes than zeros after it", step=_FORM)
        position += size + padding
    if end != position + 2 * BLOCK or file.read(BLOCK) != bytes(BLOCK):
        raise InvalidProofError("the bundle does not end after two zero blocks", step=_FORM)


def _named(block: bytes, position: int) -> tuple[str, int]:
    """Name and size that a header says.

    Raises:
        InvalidProofError: it is not the one header of that name and size.
    """
    if len(block) < BLOCK:
        raise InvalidProofError(f"the bundle is cut off at byte {position + len(block)}", step=_FORM)
    raw, field = block[:MAX_NAME].rstrip(b"\0"), block[124:136]
    try:
        name = raw.decode("ascii")
        size = int.from_bytes(field[1:], "big") if field[0] == _LARGE else int(field[:11].decode("ascii"), 8)
        canonical = is_plain(name) and size >= 0 and header(name, size) == block
    except (ValueError, OverflowError):
        canonical = False
    if not canonical:
        raise InvalidProofError(f"the header at byte {position} of the bundle is not in its one encoding", step=_FORM)
    return name, size


class Section(io.RawIOBase):
    """A part of an open file, as a file of its own that is read independently of it.

    Args:
        descriptor: of the whole file; this object keeps a copy of it.
        offset: where the part begins, in bytes.
        size: how many bytes it has.
    """

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor = os.dup(descriptor)
        self._offset, self._size, self._position = offset, size, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a byte of the part; returns which."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"expected an offset from 0 on, got {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Reads as much as fits, up to the part's end; returns how much."""
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._position)]
        count = os.preadv(self._descriptor, [view], self._offset + self._position) if len(view) else 0
        self._position += count
        return count

    def close(self) -> None:
        """Closes the copy of the descriptor."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
