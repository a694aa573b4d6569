"""A run's `model.safetensors`, in its one encoding, so that the log's last parameters bind every byte of it.

The file is what the safetensors library writes for the tensors of a program's state, without metadata: the header's
length (8 bytes, little-endian), the header (JSON, padded with spaces to a multiple of 8), the tensors' bytes one after
another. Tensors go from the largest element type to the smallest, and by name within one; a name is that of the
program's input without its "param:", "frozen:" or "buffer:".

Needs neither PyTorch nor NumPy: whoever was given a model checks it with `podlt verify` alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

from podlt.crypto import BlobHasher
from podlt.errors import InvalidProofError
from podlt.program.ir import Program
from podlt.program.places import ALIGNMENT, Places, TensorPlace, state_fields
from podlt.store.files import make_whole

MAX_HEADER = 16 * 2**20
"""The longest header that is read, in bytes: checked before any memory is taken."""

_CHUNK = 2**20
_DTYPES = {"i64": "I64", "f32": "F32", "i32": "I32", "u8": "U8", "b1": "BOOL"}
"""In the order in which a file has them, each with its name in safetensors."""

_RANKS = {dtype: rank for rank, dtype in enumerate(_DTYPES)}


def state_digest(file: BinaryIO, program: Program) -> bytes:
    """The digest of the parameters and buffers in a model's file, as the log's entries name it.

    Reads the file once, tensor by tensor: memory does not grow with the model.

    Args:
        file: the whole of `model.safetensors`, seekable.
        program: the run's.

    Returns:
        BLAKE3 of the tensors in the layout of the program's state, 32 bytes.

    Raises:
        InvalidProofError: the file is not in its one encoding, or holds other tensors than the program's.
    """
    places = Places(state_fields(program))
    expected = canonical_header(program)
    start = _check_header(file, expected)
    starts, end = _offsets(places)
    size = file.seek(0, 2)
    if size != start + end:
        what = "is cut off" if size < start + end else "has bytes after its last tensor"
        raise InvalidProofError(f"model.safetensors {what}", expected=start + end, actual=size)
    state = BlobHasher()
    for name, place in places.items():
        file.seek(start + starts[name])
        _hash_next(file, place.nbytes, state)
        state.update(bytes(-place.nbytes % ALIGNMENT))
    return state.digest()


def write_model(path: Path, program: Program, state: memoryview) -> None:
    """Writes a model's file, whole or not at all.

    Args:
        path: where to.
        program: the run's.
        state: the bytes of the parameters and buffers in the layout of the program's state.

    Raises:
        StorageError: it could not be written.
        InvalidProofError: two tensors have one name.
    """
    header, state = canonical_header(program), state.cast("B")

    def make(part: Path) -> None:
        with part.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for _, place in _in_file_order(Places(state_fields(program))):
                file.write(state[place.offset : place.end])

    make_whole(path, make)


def canonical_header(program: Program) -> bytes:
    """The one header of a model of this program, padded.

    Raises:
        InvalidProofError: two tensors have one name, or a name has no encoding.
    """
    places = Places(state_fields(program))
    starts, _ = _offsets(places)
    document = {
        _short(name): {
            "dtype": _DTYPES[place.dtype],
            "shape": list(place.shape),
            "data_offsets": [starts[name], starts[name] + place.nbytes],
        }
        for name, place in _in_file_order(places)
    }
    if len(document) != len(starts):
        raise InvalidProofError("program: two tensors of the state have one name")
    try:
        raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InvalidProofError("program: the name of a tensor is no text") from None
    return raw + b" " * (-len(raw) % 8)


def _check_header(file: BinaryIO, expected: bytes) -> int:
    """Where the tensors' bytes begin.

    Raises:
        InvalidProofError: the header is not the expected one.
    """
    file.seek(0)
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > MAX_HEADER:
        raise InvalidProofError("model.safetensors is no safetensors file", expected=len(expected), actual=length)
    found = file.read(length)
    if len(found) < length:
        raise InvalidProofError("model.safetensors is cut off in its header", expected=length, actual=len(found))
    if found != expected:
        raise InvalidProofError(f"model.safetensors: {_difference(found, expected)}")
    return 8 + length


def _difference(found: bytes, expected: bytes) -> str:
    """What differs between two headers, for a person."""
    try:
        document = json.loads(found)
    except (ValueError, RecursionError):
        return "its header is no JSON"
    wanted = json.loads(expected)
    if not isinstance(document, dict):
        return "its header is no map of tensors"
    if "__metadata__" in document:
        return "its header has metadata, which nothing binds"
    for name in sorted(document.keys() ^ wanted.keys()):
        return f"the program has no tensor {name[:200]!r}" if name in document else f"tensor {name[:200]!r} is missing"
    for name, tensor in wanted.items():
        if document[name] != tensor:
            return f"tensor {name[:200]!r}: expected {tensor}, got {str(document[name])[:200]}"
    return "its header is not in its one encoding"


def _hash_next(file: BinaryIO, size: int, state: BlobHasher) -> None:
    while size:
        data = file.read(min(_CHUNK, size))
        if not data:
            raise InvalidProofError("model.safetensors is cut off")
        state.update(data)
        size -= len(data)


def _in_file_order(places: Places) -> list[tuple[str, TensorPlace]]:
    return sorted(places.items(), key=lambda item: (_RANKS[item[1].dtype], _short(item[0])))


def _offsets(places: Places) -> tuple[dict[str, int], int]:
    """Where each tensor begins, counted from the header's end, and where the last ends."""
    starts, offset = {}, 0
    for name, place in _in_file_order(places):
        starts[name] = offset
        offset += place.nbytes
    return starts, offset


def _short(name: str) -> str:
    return name.partition(":")[2]
