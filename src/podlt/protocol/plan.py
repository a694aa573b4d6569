"""Lines -> rounds -> fragments: what a round takes, and how it is cut. No line is dropped or repeated in an epoch."""

from __future__ import annotations

import msgspec

from podlt.protocol.options import RuleOptions

SHORTEST_ROUND = 8
"""A guarded round takes `fragment_lines`, or one of so many parts of a block, at least: so long is the chain."""


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

    def most_rounds(self, options: RuleOptions, epochs: int) -> int:
        """A bound on the rounds of so many epochs: how long the chain of secrets must be."""
        whole = self.block_lines if options.votes else -(-self.block_lines // SHORTEST_ROUND)
        per_round = min(whole, self.fragment_lines or whole)
        return epochs * -(-self.lines // per_round)

    def next_lines(self, options: RuleOptions, offset: int, active: int, spares: int) -> int:
        """How many lines the round at `offset` of an epoch takes.

        In classic a whole block, or `fragment_lines` for each useful worker. In guarded an equal part for each useful
        worker, so that the size of a fragment does not say how many spares there are; only an epoch's last round takes
        what is left.

        Args:
            options: of the run.
            offset: lines of the epoch that were used.
            active: how many workers there are.
            spares: how many of them repeat a fragment.
        """
        left, useful = self.lines - offset, active - spares
        if options.votes:
            return min(self.block_lines, useful * self.fragment_lines or self.block_lines, left)
        most = active - options.least_spares(active)
        rounds = -(-left // self.block_lines)
        if self.fragment_lines:
            size = min(self.fragment_lines, self.block_lines // most)
        elif rounds == 1:
            return left
        else:
            size = -(-left // rounds) // most
        return min(left, self.block_lines, useful * max(1, size))

    def upcoming(self, options: RuleOptions, epoch: int, offset: int, active: int, spares: int) -> Upcoming:
        """The round at a place of the data, with so many spares among so many workers."""
        lines = self.next_lines(options, offset, active, spares)
        return Upcoming(epoch, offset, lines, min(active - spares, lines))


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
