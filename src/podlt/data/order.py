"""The order in which an epoch uses the lines: drawn by a seed, each line exactly once.

Whole blocks are shuffled and the lines of a block keep their order, so that reading stays sequential and any line's
place can be worked out again from the seed alone, in any language:

    words      the 64-bit big-endian words of H(0), H(1), ..., four a digest, each used once, in this order, where
               H(k) = digest("order/1", seed, epoch as 8 bytes, k as 8 bytes), big-endian
    uniform(b) the next word w with w < floor(2**64 / b) * b, mod b: words at or above are skipped, so that
               every value below b is equally likely
    shuffle    for i = blocks - 1 down to 1: swap places i and uniform(i + 1)

Source: Fisher and Yates, as in Durstenfeld, Algorithm 235 (1964).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from podlt.crypto import digest
from podlt.errors import UsageError


class EpochOrder:
    """The lines of one epoch, in the order of their use.

    Only full blocks are shuffled: a short last block stays last. A round may take any range of offsets, across the
    ends of blocks, so that what one round leaves over is carried into the next.

    Args:
        lines: lines of the dataset, at least 1; block_lines: lines of a block, at least 1.
        seed: the run's seed for its order, any bytes; epoch: the epoch's number, from 0.

    Raises:
        UsageError: a number out of its range.
    """

    def __init__(self, lines: int, block_lines: int, seed: bytes, epoch: int) -> None:
        if lines < 1 or block_lines < 1 or epoch < 0:
            raise UsageError(
                f"order: expected lines >= 1, block_lines >= 1 and epoch >= 0, got {lines}, {block_lines}, {epoch}"
            )
        self.lines = lines
        self.block_lines = block_lines
        self.epoch = epoch
        self._blocks = _shuffled(lines // block_lines, seed, epoch)

    def ids(self, offset: int, count: int) -> npt.NDArray[np.int64]:
        """The numbers of the lines used at [offset, offset + count) of this epoch, int64[count].

        Raises:
            UsageError: the range is not inside [0, lines].
        """
        if not 0 <= offset <= offset + count <= self.lines:
            raise UsageError(f"order: expected a range inside 0..{self.lines}, got {offset}..{offset + count}")
        places = np.arange(offset, offset + count, dtype=np.int64)
        blocks, within = np.divmod(places, self.block_lines)
        full = blocks < len(self._blocks)
        places[full] = self._blocks[blocks[full]] * self.block_lines + within[full]
        return places


def _shuffled(blocks: int, seed: bytes, epoch: int) -> npt.NDArray[np.int64]:
    """A uniform permutation of the blocks' numbers, int64[blocks]."""
    order = list(range(blocks))
    words = _words(seed, epoch)
    for last in range(blocks - 1, 0, -1):
        other = _uniform(words, last + 1)
        order[last], order[other] = order[other], order[last]
    return np.array(order, dtype=np.int64)


def _words(seed: bytes, epoch: int) -> Iterator[int]:
    prefix, counter = epoch.to_bytes(8, "big"), 0
    while True:
        block = digest("order/1", seed, prefix, counter.to_bytes(8, "big"))
        for start in range(0, 32, 8):
            yield int.from_bytes(block[start : start + 8], "big")
        counter += 1


def _uniform(words: Iterator[int], bound: int) -> int:
    limit = 2**64 - 2**64 % bound
    for word in words:
        if word < limit:
            return word % bound
    raise AssertionError("the words never end")
