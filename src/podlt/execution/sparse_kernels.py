"""`podlt.execution.sparse` in loops that Numba compiles: an update is read once, and written once."""

from __future__ import annotations

import numpy as np

from podlt.errors import InvalidProofError
from podlt.exact.constants import Array
from podlt.exact.cpu.jit import kernel
from podlt.execution.sparse import AT_ONCE, WORD, bits_of, most_packed


def room_for(nbytes: int) -> int:
    """How many bytes `pack` needs for an update of so many; 0 if it goes as it is anyway."""
    most = most_packed(nbytes)
    return most + WORD * AT_ONCE if most else 0


def pack(update: np.ndarray, room: np.ndarray) -> int:
    """Packs an update; returns how many bytes that takes, or 0 if it is to go as it is.

    Args:
        update: uint8, in memory that begins at a multiple of 4.
        room: as update, `room_for` bytes or more; takes what is packed. Where it has fewer, nothing is.
    """
    needed = room_for(update.nbytes)
    if not needed or len(room) < needed:
        return 0
    words = room[: needed // WORD * WORD].view(np.uint32)
    return WORD * int(_pack(update.view(np.uint32), words, most_packed(update.nbytes) // WORD))


def unpack(data: memoryview, out: np.ndarray) -> None:
    """Writes the update that was packed, or that came as it is.

    Args:
        data: what came.
        out: uint8, as long as the update, in memory that begins at a multiple of 4.

    Raises:
        InvalidProofError: it is no update of this length.
    """
    came = np.frombuffer(data, np.uint8)
    if len(came) == out.nbytes:
        out[:] = came
        return
    fits = not out.nbytes % WORD and not len(came) % WORD and len(came) >= bits_of(out.nbytes)
    if fits and came.ctypes.data % WORD:
        came = came.copy()
    if not fits or not _unpack(came.view(np.uint32), out.view(np.uint32)):
        raise InvalidProofError(f"{len(came)} bytes are no update of {out.nbytes}")


@kernel
def _pack(words: Array, room: Array, most: int) -> int:
    """Bits and words into `room`, where they take no more than `most`; how many there are, or 0 if it would be more."""
    count = (len(words) + AT_ONCE - 1) // AT_ONCE
    at = np.uint64(count)
    for b in range(count):
        if at > np.uint64(most):  # the next words still have room
            return 0
        part, bits = words[AT_ONCE * b : AT_ONCE * b + AT_ONCE], np.uint64(0)
        for i in range(len(part)):
            word = part[i]
            room[at] = word  # and over it, if this is none
            there = np.uint64(word != 0)
            at += there
            bits |= there << np.uint64(i)
        room[b] = np.uint32(bits)
    return int(at) if at <= np.uint64(most) else 0


@kernel
def _unpack(data: Array, words: Array) -> bool:
    """Whether as many words follow as there are bits set, and no bit stands for a word behind the last."""
    count = (len(words) + AT_ONCE - 1) // AT_ONCE
    at, last = np.uint64(count), np.uint64(len(data) - 1)
    for b in range(count):
        part, bits = words[AT_ONCE * b : AT_ONCE * b + AT_ONCE], np.uint64(data[b])
        for i in range(len(part)):
            there = bits & np.uint64(1)
            part[i] = data[min(at, last)] * np.uint32(there)
            at += there
            bits >>= np.uint64(1)
        if bits:
            return False
    return bool(at == last + np.uint64(1))
