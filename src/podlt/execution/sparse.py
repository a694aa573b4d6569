"""Updates, and the examples of a task, without their zero words: a bit for each word says whether it follows.

Gradients have many zeros: of pixels that are black in all examples of a task, of units that were not active, of words
that did not occur. Half of an MNIST perceptron's update of 20 examples is zeros, nearly all of a large embedding's. To
leave them out takes a tenth of the time that it takes to encrypt and send them; a compressor takes ten times as long.

    packed = bits (one a word, the first in the lowest bit of the first byte; whole words), the words that are not zero

Negative zero is a word of its own: what comes out has the same bits. `sparse_kernels` does the same where there is
Numba: the process that executes tasks packs updates and unpacks examples, the manager the other way round.
"""

from __future__ import annotations

import numpy as np

WORD = 4

AT_ONCE = 8 * WORD
"""Words whose bits are one word."""

MOST = 64 * 2**20
"""Bytes of the longest update that is packed: both ends have it in memory meanwhile."""


def bits_of(nbytes: int) -> int:
    """How many bytes the bits of an update of so many take."""
    return -(-nbytes // (AT_ONCE * WORD)) * WORD


def most_packed(nbytes: int) -> int:
    """How many bytes an update of so many takes at most where it is packed: less than nine tenths; 0 if it never is."""
    return -(-9 * nbytes // 10) - 1 if not nbytes % WORD and 0 < nbytes <= MOST else 0


def packed(update: np.ndarray) -> memoryview:
    """An update in as few bytes as it takes.

    Args:
        update: uint8; it stays as it is if it has no whole number of words, is too long, or has too few zeros.
    """
    most, start = most_packed(update.nbytes), bits_of(update.nbytes)
    if not most:
        return update.data
    words = update.view("<u4")
    there = words != 0
    if start + WORD * int(np.count_nonzero(there)) > most:
        return update.data
    bits = np.packbits(there, bitorder="little").tobytes()
    return memoryview(b"".join((bits, bytes(start - len(bits)), words[there].tobytes())))
