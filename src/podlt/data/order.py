"""The order in which an epoch uses the lines: drawn by a seed, each line exactly once.

Whole blocks are shuffled and the lines of a block keep their order, so that reading stays sequential and any line's
place can be worked out again from the seed alone, in any language: the blocks' numbers are shuffled by the dice
"order/1" of the seed and the epoch as 8 bytes, big-endian (SPEC 2.4).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from podlt.dice import Dice
from podlt.errors import UsageError


class EpochOrder:
    """The lines of one epoch, in the order of their use.

    Only full blocks are shuffled: a short last block stays last. A round may take any range of offsets, across the
    ends of blocks, so that what one round leaves over is carried into the next.

    Args:
        lines: lines of the dataset, at least 1.
        block_lines: lines of a block, at least 1.
        seed: the run's seed for its order, any bytes.
        epoch: the epoch's number, from 0.

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
        dice = Dice(seed, epoch.to_bytes(8, "big"), domain="order/1")
        self._blocks = np.array(dice.shuffle(range(lines // block_lines)), dtype=np.int64)

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
