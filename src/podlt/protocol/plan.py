"""Lines -> rounds -> fragments: what a round takes, and how it is cut. No line is dropped or repeated in an epoch."""

from __future__ import annotations

import msgspec


class Upcoming(msgspec.Struct, frozen=True):
    """What the next round must be: its place in the data, and the number of fragments."""

    epoch: int
    offset: int
    lines: int
    fragments: int


class RoundCut(msgspec.Struct, frozen=True):
    """How the lines of an epoch are cut into rounds: the numbers of a run's first entry.

    Args:
        lines: of the training set.
        block_lines: the most that a round takes.
        fragment_lines: for each useful worker; 0: a round takes a block.
    """

    lines: int
    block_lines: int
    fragment_lines: int

    def most_rounds(self, epochs: int) -> int:
        """A bound on the rounds of so many epochs, where one worker is useful: how long the chain must be."""
        per_round = min(self.block_lines, self.fragment_lines or self.block_lines)
        return epochs * -(-self.lines // per_round)

    def next_lines(self, offset: int, useful: int, usual: int = 1) -> int:
        """How many lines the round at `offset` of the epoch takes.

        Without `fragment_lines` a whole block, however many workers share it. With it, that many lines for each useful
        worker of the usual speed, at most a block; what is left of the block is carried into the next round.

        Args:
            offset: lines of the epoch that were used.
            useful: how many seats there are besides the spares.
            usual: how many of them a worker of the usual speed has.
        """
        each = self.fragment_lines
        want = max(each, useful * each // usual) or self.block_lines
        return min(self.block_lines, want, self.lines - offset)

    def upcoming(self, epoch: int, offset: int, useful: int, usual: int = 1) -> Upcoming:
        """The round at a place of the data. Arguments as `next_lines`."""
        lines = self.next_lines(offset, useful, usual)
        return Upcoming(epoch, offset, lines, min(useful, lines))


def lines_seen(lines: int, epoch: int, offset: int) -> int:
    """How many lines a run has seen, in all epochs, before the round at a place of an epoch."""
    return epoch * lines + offset


def fragment_bounds(lines: int, fragments: int) -> list[tuple[int, int]]:
    """Where each fragment begins and ends within the round's lines: sizes differ by at most one, longer ones first."""
    size, longer = divmod(lines, fragments)
    bounds, start = [], 0
    for j in range(fragments):
        stop = start + size + (j < longer)
        bounds.append((start, stop))
        start = stop
    return bounds
