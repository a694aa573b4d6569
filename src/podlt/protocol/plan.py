"""Lines -> rounds -> fragments: what a round takes, and how it is cut. No line is dropped or repeated in an epoch."""

from __future__ import annotations

import msgspec

MIN_WORKERS = 3
"""Below three workers no fragment can be given to a worker and two spares."""

SETTLEMENT_WORKERS = 2
"""Fewer cannot be compared with each other."""

SETTLEMENT_ROUNDS = 1
"""Rounds after the last epoch."""


class Upcoming(msgspec.Struct, frozen=True):
    """What the next round must be: its place in the data, and the number of fragments."""

    purpose: str
    epoch: int
    offset: int
    lines: int
    fragments: int


def next_lines(lines: int, offset: int, block_lines: int, fragment_lines: int, useful: int) -> int:
    """How many lines the round at `offset` of the epoch takes.

    Without `fragment_lines` a whole block, however many workers share it. With it, that many lines for each useful
    worker, at most a block; what is left of the block is carried into the next round.
    """
    wanted = min(block_lines, useful * fragment_lines) if fragment_lines else block_lines
    return min(wanted, lines - offset)


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


def most_rounds(lines: int, epochs: int, block_lines: int, fragment_lines: int) -> int:
    """A bound on the rounds of a run, reached when one useful worker is left: how long the chain of secrets must be."""
    per_round = min(block_lines, fragment_lines) if fragment_lines else block_lines
    return epochs * -(-lines // per_round)
