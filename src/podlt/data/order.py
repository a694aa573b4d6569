"""The order in which an epoch uses the examples: drawn by a seed, each example exactly once.

Examples are mixed by a draw of two levels, so that memory does not grow with the data and reading stays sequential in
the large: *runs* of consecutive examples are drawn in some order, each `WINDOW_RUNS` of them make a *window*, and the
examples of a window are drawn in some order. Data of one window are therefore permuted freely; those of more were laid
out in a drawn order when they were prepared (mix.py), so that a run is a sample of all examples.

Any example's place follows from the seed alone, in any language (SPEC 2.4).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from podlt.data.draw import Draw
from podlt.errors import UsageError

RUN_EXAMPLES = 2**12
WINDOW_RUNS = 2**5
WINDOW_EXAMPLES = RUN_EXAMPLES * WINDOW_RUNS

Int64 = npt.NDArray[np.int64]


class EpochOrder:
    """The examples of one epoch, in the order of their use. A round may take any range of offsets.

    Args:
        examples: examples of the dataset, at least 1.
        seed: the run's seed for its order, any bytes.
        epoch: the epoch's number, from 0.

    Raises:
        UsageError: a number out of its range.
    """

    def __init__(self, examples: int, seed: bytes, epoch: int) -> None:
        if examples < 1 or epoch < 0:
            raise UsageError(f"order: expected examples >= 1 and epoch >= 0, got {examples} and {epoch}")
        self.examples = examples
        self.epoch = epoch
        self._seed = seed
        self._runs = self._draw(0).permutation(-(-examples // RUN_EXAMPLES))
        sizes = np.minimum(RUN_EXAMPLES, examples - self._runs * RUN_EXAMPLES)
        self._ends = np.cumsum(np.add.reduceat(sizes, np.arange(0, len(sizes), WINDOW_RUNS)))
        self._last: tuple[int, Int64] | None = None

    def ids(self, offset: int, count: int) -> Int64:
        """The numbers of the examples used at [offset, offset + count) of this epoch, int64[count].

        Raises:
            UsageError: the range is not inside [0, examples].
        """
        if not 0 <= offset <= offset + count <= self.examples:
            raise UsageError(f"order: expected a range inside 0..{self.examples}, got {offset}..{offset + count}")
        parts = [np.empty(0, np.int64)]
        while count:
            window = int(np.searchsorted(self._ends, offset, "right"))
            start = int(self._ends[window - 1]) if window else 0
            part = self._window(window)[offset - start : offset - start + count]
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        return np.concatenate(parts)

    def _window(self, window: int) -> Int64:
        """The examples of a window in their order; the last one is kept, for rounds are smaller than windows."""
        last = self._last
        if last is None or last[0] != window:
            runs = self._runs[window * WINDOW_RUNS : (window + 1) * WINDOW_RUNS]
            examples = np.concatenate(
                [np.arange(r * RUN_EXAMPLES, min(self.examples, (r + 1) * RUN_EXAMPLES)) for r in runs]
            )
            last = self._last = window, examples[self._draw(1 + window).permutation(len(examples))]
        return last[1]

    def _draw(self, number: int) -> Draw:
        return Draw(self._seed, self.epoch.to_bytes(8, "big"), number.to_bytes(8, "big"), domain="order/2")
