"""What is drawn for the data: 64-bit words that follow from a seed, any of which can be had without those before it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from podlt.crypto import digest

UInt64 = npt.NDArray[np.uint64]


class Draw:
    """An endless list of uniform 64-bit words: BLAKE3's extended output of a digest, read as little-endian words.

    Args:
        parts: what the words follow from, such as a seed.
        domain: what they are for.
    """

    def __init__(self, *parts: bytes, domain: str) -> None:
        self._state = blake3(digest(domain, *parts))

    def words(self, start: int, count: int) -> UInt64:
        """The words [start, start + count), uint64[count]."""
        return np.frombuffer(self._state.digest(8 * count, seek=8 * start), "<u8")

    def permutation(self, count: int) -> npt.NDArray[np.int64]:
        """The numbers 0 .. count-1, ascending by their words (equal words: by the number), int64[count]."""
        return np.argsort(self.words(0, count), kind="stable").astype(np.int64)
