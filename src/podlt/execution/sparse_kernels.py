"""`podlt.execution.sparse` in loops that Numba compiles: an update is read once, and written once."""

from __future__ import annotations

import numpy as np

from podlt.errors import InvalidProofError
from podlt.exact.constants import Array
from podlt.exact.cpu.jit import inlined, kernel, place
from podlt.exact.cpu.kernels.compress import available, compress, count_bits, expand, word_at
from podlt.exact.cpu.kernels.vectors import LANES
from podlt.execution.sparse import AT_ONCE, WORD, bits_of, most_packed

WIDE = available()
"""Whether this processor moves 16 words at once."""


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
    return WORD * int(
        (_pack_wide if WIDE else _pack)(update.view(np.uint32), words, most_packed(update.nbytes) // WORD)
    )


def packed(update: np.ndarray) -> memoryview:
    """As `sparse.packed`, in a tenth of the time."""
    room = np.empty(room_for(update.nbytes), np.uint8)
    count = pack(update, room)
    return room[:count].data if count else update.data


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
    if not fits or not (_unpack_wide if WIDE else _unpack)(came, out.view(np.uint32)):
        raise InvalidProofError(f"{len(came)} bytes are no update of {out.nbytes}")


@kernel
def _pack(words: Array, room: Array, most: int) -> int:
    """Bits and words into `room`, where they take no more than `most`; how many there are, or 0 if it would be more."""
    count = (len(words) + AT_ONCE - 1) // AT_ONCE
    return _pack_from(words, room, most, 0, count)


@kernel
def _pack_wide(words: Array, room: Array, most: int) -> int:
    """As `_pack`, 16 words at a time."""
    whole, at = len(words) // AT_ONCE, (len(words) + AT_ONCE - 1) // AT_ONCE
    source, target = place(words), place(room)
    for b in range(whole):
        if at > most:
            return 0
        low = compress(source, target + WORD * at)
        at += count_bits(low)
        high = compress(source + WORD * LANES, target + WORD * at)
        at += count_bits(high)
        room[b] = low | high << np.uint32(LANES)
        source += WORD * AT_ONCE
    return _pack_from(words, room, most, whole, at)


@inlined
def _pack_from(words: Array, room: Array, most: int, first: int, start: int) -> int:
    """As `_pack`, from the `first`-th word of bits on; what was packed before ends at `start`."""
    at = np.uint64(start)
    for b in range(first, (len(words) + AT_ONCE - 1) // AT_ONCE):
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
    """Whether as many words follow as there are bits set, and no bit stands for a word behind the last.

    `data` are bytes, as what came may begin at any of them.
    """
    return _unpack_from(data, words, 0, (len(words) + AT_ONCE - 1) // AT_ONCE)


@kernel
def _unpack_wide(data: Array, words: Array) -> bool:
    """As `_unpack`, 16 words at a time."""
    whole, at = len(words) // AT_ONCE, (len(words) + AT_ONCE - 1) // AT_ONCE
    source, target, end = place(data), place(words), len(data) // WORD
    for b in range(whole):
        bits = word_at(source + WORD * b)
        count = count_bits(bits)
        if at + count > end:
            return False
        expand(source + WORD * at, bits, target)
        behind = at + count_bits(bits & np.uint32(2**LANES - 1))
        expand(source + WORD * behind, bits >> np.uint32(LANES), target + WORD * LANES)
        at += count
        target += WORD * AT_ONCE
    return _unpack_from(data, words, whole, at)


@inlined
def _unpack_from(data: Array, words: Array, first: int, start: int) -> bool:
    """As `_unpack`, from the `first`-th word of bits on, whose words begin at `start`."""
    source, at, last = place(data), np.uint64(start), np.uint64(len(data) // WORD - 1)
    for b in range(first, (len(words) + AT_ONCE - 1) // AT_ONCE):
        part, bits = words[AT_ONCE * b : AT_ONCE * b + AT_ONCE], np.uint64(word_at(source + WORD * b))
        for i in range(len(part)):
            there = bits & np.uint64(1)
            part[i] = word_at(source + WORD * np.int64(min(at, last))) * np.uint32(there)
            at += there
            bits >>= np.uint64(1)
        if bits:
            return False
    return bool(at == last + np.uint64(1))
