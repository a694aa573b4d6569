"""The order in which an epoch uses the lines: drawn by a seed, each line exactly once.

Lines are mixed by a draw of two levels, so that memory does not grow with the data and reading stays sequential in the
large: *runs* of consecutive lines are drawn in some order, each `WINDOW_RUNS` of them make a *window*, and the lines of
a window are drawn in some order. Data of one window are therefore permuted freely; those of more were laid out in a
drawn order when they were prepared (mix.py), so that a run is a sample of all lines.

Any line's place follows from the seed alone, in any language (SPEC 2.4).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from podlt.data.draw import Draw
from podlt.errors import UsageError

RUN_LINES = 2**12
WINDOW_RUNS = 2**5
WINDOW_LINES = RUN_LINES * WINDOW_RUNS

Int64 = npt.NDArray[np.int64]


class EpochOrder:
    """The lines of one epoch, in the order of their use. A round may take any range of offsets.

    Args:
        lines: lines of the dataset, at least 1.
        seed: the run's seed for its order, any bytes.
        epoch: the epoch's number, from 0.

    Raises:
        UsageError: a number out of its range.
    """

    def __init__(self, lines: int, seed: bytes, epoch: int) -> None:
        if lines < 1 or epoch < 0:
            raise UsageError(f"order: expected lines >= 1 and epoch >= 0, got {lines} and {epoch}")
        self.lines = lines
        self.epoch = epoch
        self._seed = seed
        self._runs = self._draw(0).permutation(-(-lines // RUN_LINES))
        sizes = np.minimum(RUN_LINES, lines - self._runs * RUN_LINES)
        self._ends = np.cumsum(np.add.reduceat(sizes, np.arange(0, len(sizes), WINDOW_RUNS)))
        self._last: tuple[int, Int64] | None = None

    def ids(self, offset: int, count: int) -> Int64:
        """The numbers of the lines used at [offset, offset + count) of this epoch, int64[count].

        Raises:
            UsageError: the range is not inside [0, lines].
        """
        if not 0 <= offset <= offset + count <= self.lines:
            raise UsageError(f"order: expected a range inside 0..{self.lines}, got {offset}..{offset + count}")
        parts = [np.empty(0, np.int64)]
        while count:
            window = int(np.searchsorted(self._ends, offset, "right"))
            start = int(self._ends[window - 1]) if window else 0
            part = self._window(window)[offset - start : offset - start + count]
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        return np.concatenate(parts)

    def _window(self, window: int) -> Int64:
        """The lines of a window in their order; the last one is kept, for rounds are smaller than windows."""
        last = self._last
        if last is None or last[0] != window:
            runs = self._runs[window * WINDOW_RUNS : (window + 1) * WINDOW_RUNS]
            lines = np.concatenate([np.arange(r * RUN_LINES, min(self.lines, (r + 1) * RUN_LINES)) for r in runs])
            last = self._last = window, lines[self._draw(1 + window).permutation(len(lines))]
        return last[1]

    def _draw(self, number: int) -> Draw:
        return Draw(self._seed, self.epoch.to_bytes(8, "big"), number.to_bytes(8, "big"), domain="order/2")
