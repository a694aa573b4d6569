"""Whether two safetensors files hold the same tensors, whatever their headers say besides. No NumPy."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

from podlt.model_file import MAX_HEADER

_STEP = 2**20
_Place = tuple[Any, Any, int, int]


def same_tensors(one: BinaryIO, other: BinaryIO) -> bool:
    """Whether both files have tensors of the same names, types, shapes and bytes.

    Args:
        one: the whole of a file, seekable.
        other: likewise.
    """
    first, second = _places(one), _places(other)
    if first is None or second is None or first.keys() != second.keys():
        return False
    for name, (dtype, shape, start, size) in first.items():
        found = second[name]
        if (dtype, shape, size) != (found[0], found[1], found[3]):
            return False
        if not _same_bytes(one, start, other, found[2], size):
            return False
    return True


def _places(file: BinaryIO) -> dict[str, _Place] | None:
    """Name -> type, shape, where it begins, how many bytes; None if the file is malformed."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        return None
    try:
        header = json.loads(file.read(length))
        return {
            name: (each["dtype"], each["shape"], 8 + length + begin, end - begin)
            for name, each in header.items()
            if name != "__metadata__"
            for begin, end in [each["data_offsets"]]
        }
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None


def _same_bytes(one: BinaryIO, start: int, other: BinaryIO, begin: int, size: int) -> bool:
    for at in range(0, size, _STEP):
        step = min(_STEP, size - at)
        one.seek(start + at)
        other.seek(begin + at)
        data = one.read(step)
        if len(data) != step or data != other.read(step):
            return False
    return True
