"""Chunks of an update without their zero words: a bit for each word says whether it follows.

Gradients have many zeros: of pixels that are black in all lines of a task, of units that were not active, of words that
did not occur. Half of an MNIST perceptron's update of 20 lines is zeros, nearly all of a large embedding's. To leave
them out takes a tenth of the time that it takes to encrypt and send them twice; a compressor takes ten times as long.

    packed chunk = bits (one a word, the first in the lowest bit; whole bytes), the words that are not zero

Negative zero is a word of its own: what comes out has the same bits.
"""

from __future__ import annotations

import numpy as np

from podlt.errors import InvalidProofError
from podlt.network.blobs.disk import Buffer, flat

WORD = 4

WORTH = 0.9
"""Only what is shorter than this part of the chunk is packed."""


def packed(chunk: np.ndarray) -> list[Buffer]:
    """A chunk in as few bytes as it takes: its buffers, one after another.

    Args:
        chunk: uint8; it goes as it is if it has no whole number of words, or too few zeros.
    """
    if chunk.nbytes % WORD or not chunk.nbytes:
        return [chunk]
    words = chunk.view("<u4")
    there = words != 0
    bits = np.packbits(there, bitorder="little")
    if bits.nbytes + WORD * int(np.count_nonzero(there)) >= WORTH * chunk.nbytes:
        return [chunk]
    return [bits, words[there]]


def unpack(data: Buffer, out: np.ndarray) -> None:
    """Writes the chunk that `packed` was given.

    Args:
        data: its bytes, joined.
        out: uint8, as long as the chunk.

    Raises:
        InvalidProofError: it is no chunk of this length.
    """
    view = flat(data)
    if len(view) == out.nbytes:
        out[:] = np.frombuffer(view, np.uint8)
        return
    count, rest = divmod(out.nbytes, WORD)
    start = -(-count // 8)
    if rest or len(view) < start or (len(view) - start) % WORD:
        raise _malformed(out.nbytes, len(view))
    bits = np.frombuffer(view[:start], np.uint8)
    there = np.unpackbits(bits, count=count, bitorder="little").view(bool)
    if start + WORD * int(np.count_nonzero(there)) != len(view):
        raise _malformed(out.nbytes, len(view))
    words = out.view("<u4")
    words.fill(0)
    words[there] = np.frombuffer(view[start:], "<u4")


def _malformed(length: int, actual: int) -> InvalidProofError:
    return InvalidProofError(f"{actual} bytes are not a packed chunk of {length}")
