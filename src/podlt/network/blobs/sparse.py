"""Updates without their zero words: a bit for each word says whether it follows.

Gradients have many zeros: of pixels that are black in all examples of a task, of units that were not active, of words
that did not occur. Half of an MNIST perceptron's update of 20 examples is zeros, nearly all of a large embedding's. To
leave them out takes a tenth of the time that it takes to encrypt and send them; a compressor takes ten times as long.

    packed = bits (one a word, the first in the lowest bit; whole bytes), the words that are not zero

Negative zero is a word of its own: what comes out has the same bits.
"""

from __future__ import annotations

import numpy as np

from podlt.errors import InvalidProofError

WORD = 4

MOST = 64 * 2**20
"""Bytes of the longest update that is packed: both ends have it in memory meanwhile."""

WORTH = 0.9
"""Only what is shorter than this part of the update is packed."""


def packed(update: np.ndarray) -> memoryview:
    """An update in as few bytes as it takes: see `parts_of`."""
    parts = parts_of(update)
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def parts_of(update: np.ndarray) -> list[memoryview]:
    """An update in as few bytes as it takes, which follow one another.

    Args:
        update: uint8; it stays as it is if it has no whole number of words, is too long, or has too few zeros.
    """
    if update.nbytes % WORD or not 0 < update.nbytes <= MOST:
        return [update.data]
    words = update.view("<u4")
    there = words != 0
    count = int(np.count_nonzero(there))
    if -(-len(words) // 8) + WORD * count >= WORTH * update.nbytes:
        return [update.data]
    return [np.packbits(there, bitorder="little").data, words[there].view(np.uint8).data]


def unpack(data: memoryview, out: np.ndarray) -> None:
    """Writes the update that `packed` was given.

    Args:
        data: what it returned.
        out: uint8, as long as the update.

    Raises:
        InvalidProofError: it is no update of this length.
    """
    if len(data) == out.nbytes:
        out[:] = np.frombuffer(data, np.uint8)
        return
    count, rest = divmod(out.nbytes, WORD)
    start = -(-count // 8)
    if rest or len(data) < start or (len(data) - start) % WORD:
        raise _malformed(out.nbytes, len(data))
    there = np.unpackbits(np.frombuffer(data[:start], np.uint8), count=count, bitorder="little").view(bool)
    if start + WORD * int(np.count_nonzero(there)) != len(data):
        raise _malformed(out.nbytes, len(data))
    words = out.view("<u4")
    words.fill(0)
    words[there] = np.frombuffer(data[start:], "<u4")


def _malformed(length: int, actual: int) -> InvalidProofError:
    return InvalidProofError(f"{actual} bytes are no update of {length}")
