"""A run's `model.safetensors`, in its one encoding, so that the log's last parameters bind every byte of it.

The file is what the safetensors library writes for the module's `state_dict()`, without metadata: the header's length
(8 bytes, little-endian), the header (JSON, padded with spaces to a multiple of 8), the tensors' bytes one after
another. Tensors go from the largest element type to the smallest, and by name within one. Plain PyTorch loads it
strictly: a tied weight is there under each of its names, as the program says. What `state_dict()` leaves out, buffers
that are not persistent, is in `buffers.safetensors`, encoded likewise, where the program has any.

Needs neither PyTorch nor NumPy: whoever was given a model checks it with `podlt verify` alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from podlt.crypto import BlobHasher
from podlt.errors import InvalidProofError
from podlt.program.ir import Program
from podlt.program.places import ALIGNMENT, Places, TensorPlace, state_fields
from podlt.store.files import make_whole
from podlt.store.run_names import BUFFERS, MODEL

MAX_HEADER = 16 * 2**20
"""The longest header that is read, in bytes: checked before any memory is taken."""

_CHUNK = 2**20
_DTYPES = {"i64": "I64", "f32": "F32", "i32": "I32", "u8": "U8", "b1": "BOOL"}
"""In the order in which a file has them, each with its name in safetensors."""

_RANKS = {dtype: rank for rank, dtype in enumerate(_DTYPES)}


@dataclass(frozen=True)
class _Saved:
    """One tensor of a file: its name there, the program's input that it is, and where that lies in the state."""

    name: str
    input: str
    place: TensorPlace


@dataclass(frozen=True)
class _Opened:
    """A file whose header was checked.

    Attributes:
        file: seekable.
        name: what to call it.
        starts: where each tensor begins in it, by the tensor's name there.
    """

    file: BinaryIO
    name: str
    starts: dict[str, int]


def state_digest(file: BinaryIO, program: Program, buffers: BinaryIO | None = None) -> bytes:
    """The digest of the parameters and buffers in a model's files, as the log's entries name it.

    Reads each tensor once: memory does not grow with the model.

    Args:
        file: the whole of `model.safetensors`, seekable.
        program: the run's.
        buffers: the whole of `buffers.safetensors`, seekable, where the program has buffers that are not persistent.

    Returns:
        BLAKE3 of the tensors in the layout of the program's state, 32 bytes.

    Raises:
        InvalidProofError: a file is missing or not in its one encoding, holds other tensors than the program's, or two
            different ones under names that are tied.
    """
    model = _open(file, MODEL, _model(program))
    others = None
    if unsaved := _unsaved(program):
        if buffers is None:
            raise InvalidProofError(f"{BUFFERS} is missing: the program has buffers that are not persistent")
        others = _open(buffers, BUFFERS, unsaved)
    elif buffers is not None:
        raise InvalidProofError(f"{BUFFERS}: the program has no buffers that are not persistent")
    state = BlobHasher()
    for name, place in Places(state_fields(program)).items():
        names = program.saved_names(name)
        opened = model if names else others
        assert opened is not None
        first, *tied = names or (_short(name),)
        if tied:
            _require_same(opened, (first, *tied), place.nbytes)
        opened.file.seek(opened.starts[first])
        _hash_next(opened, place.nbytes, state)
        state.update(bytes(-place.nbytes % ALIGNMENT))
    return state.digest()


def write_model(path: Path, program: Program, state: memoryview) -> None:
    """Writes a model's file, and `buffers.safetensors` beside it if there is a need of one, each whole or not at all.

    Args:
        path: where to.
        program: the run's.
        state: the bytes of the parameters and buffers in the layout of the program's state.

    Raises:
        StorageError: it could not be written.
        InvalidProofError: two tensors have one name.
    """
    if unsaved := _unsaved(program):
        _write(path.with_name(BUFFERS), unsaved, state.cast("B"))
    _write(path, _model(program), state.cast("B"))


def canonical_header(program: Program) -> bytes:
    """The one header of a model of this program, padded.

    Raises:
        InvalidProofError: two tensors have one name, or a name has no encoding.
    """
    return _header(_model(program))


def _model(program: Program) -> list[_Saved]:
    """The tensors of `model.safetensors`, in its order."""
    places = Places(state_fields(program)).items()
    return _in_file_order([_Saved(name, of, place) for of, place in places for name in program.saved_names(of)])


def _unsaved(program: Program) -> list[_Saved]:
    """The tensors of `buffers.safetensors`, in its order."""
    places = Places(state_fields(program)).items()
    return _in_file_order([_Saved(_short(of), of, place) for of, place in places if not program.saved_names(of)])


def _in_file_order(tensors: list[_Saved]) -> list[_Saved]:
    return sorted(tensors, key=lambda one: (_RANKS[one.place.dtype], one.name))


def _header(tensors: list[_Saved]) -> bytes:
    document = {
        one.name: {
            "dtype": _DTYPES[one.place.dtype],
            "shape": list(one.place.shape),
            "data_offsets": [start, start + one.place.nbytes],
        }
        for one, start in _starts(tensors)
    }
    if len(document) != len(tensors):
        raise InvalidProofError("program: two tensors of the state have one name")
    try:
        raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InvalidProofError("program: the name of a tensor is no text") from None
    return raw + b" " * (-len(raw) % 8)


def _starts(tensors: list[_Saved]) -> Iterator[tuple[_Saved, int]]:
    """Each tensor with where it begins, counted from the header's end."""
    offset = 0
    for one in tensors:
        yield one, offset
        offset += one.place.nbytes


def _write(path: Path, tensors: list[_Saved], state: memoryview) -> None:
    header = _header(tensors)

    def make(part: Path) -> None:
        with part.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for one in tensors:
                file.write(state[one.place.offset : one.place.end])

    make_whole(path, make)


def _open(file: BinaryIO, name: str, tensors: list[_Saved]) -> _Opened:
    """A file whose header and size are those that its tensors call for.

    Raises:
        InvalidProofError: they are not.
    """
    start = _check_header(file, name, _header(tensors))
    expected = start + sum(one.place.nbytes for one in tensors)
    size = file.seek(0, 2)
    if size != expected:
        what = "is cut off" if size < expected else "has bytes after its last tensor"
        raise InvalidProofError(f"{name} {what}", expected=expected, actual=size)
    return _Opened(file, name, {one.name: start + offset for one, offset in _starts(tensors)})


def _require_same(opened: _Opened, names: tuple[str, ...], size: int) -> None:
    """Refuses tied names under which a file has different tensors: a loader would take one or the other."""
    for at in range(0, size, _CHUNK):
        found = set()
        for name in names:
            opened.file.seek(opened.starts[name] + at)
            found.add(opened.file.read(min(_CHUNK, size - at)))
        if len(found) > 1:
            raise InvalidProofError(f"{opened.name}: {' and '.join(names)[:400]} are tied, and not the same")


def _check_header(file: BinaryIO, name: str, expected: bytes) -> int:
    """Where the tensors' bytes begin.

    Raises:
        InvalidProofError: the header is not the expected one.
    """
    file.seek(0)
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > MAX_HEADER:
        raise InvalidProofError(f"{name} is no safetensors file", expected=len(expected), actual=length)
    found = file.read(length)
    if len(found) < length:
        raise InvalidProofError(f"{name} is cut off in its header", expected=length, actual=len(found))
    if found != expected:
        raise InvalidProofError(f"{name}: {_difference(found, expected)}")
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


def _hash_next(opened: _Opened, size: int, state: BlobHasher) -> None:
    while size:
        data = opened.file.read(min(_CHUNK, size))
        if not data:
            raise InvalidProofError(f"{opened.name} is cut off")
        state.update(data)
        size -= len(data)


def _short(name: str) -> str:
    return name.partition(":")[2]
