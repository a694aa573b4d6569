"""Examples -> rounds -> shards: what a round takes, and how it is cut. No example is dropped or repeated in an
epoch."""

from __future__ import annotations

import msgspec


class Upcoming(msgspec.Struct, frozen=True):
    """What the next round must be: its place in the data, and the number of shards."""

    epoch: int
    offset: int
    examples: int
    shards: int


class RoundCut(msgspec.Struct, frozen=True):
    """How the examples of an epoch are cut into rounds: the numbers of a run's first entry.

    Args:
        examples: of the training set.
        batch_size: the most that a round takes.
        shard_size: for each useful worker; 0: a round takes a batch.
    """

    examples: int
    batch_size: int
    shard_size: int

    def most_rounds(self, epochs: int) -> int:
        """A bound on the rounds of so many epochs, where one worker is useful: how long the chain must be."""
        per_round = min(self.batch_size, self.shard_size or self.batch_size)
        return epochs * -(-self.examples // per_round)

    def next_examples(self, offset: int, useful: int, usual: int = 1) -> int:
        """How many examples the round at `offset` of the epoch takes.

        Without `shard_size` a whole batch, however many workers share it. With it, that many examples for each useful
        worker of the usual speed, at most a batch; what is left of the batch is carried into the next round.

        Args:
            offset: examples of the epoch that were used.
            useful: how many seats there are besides the spares.
            usual: how many of them a worker of the usual speed has.
        """
        each = self.shard_size
        want = max(each, useful * each // usual) or self.batch_size
        return min(self.batch_size, want, self.examples - offset)

    def upcoming(self, epoch: int, offset: int, useful: int, usual: int = 1) -> Upcoming:
        """The round at a place of the data. Arguments as `next_examples`."""
        examples = self.next_examples(offset, useful, usual)
        return Upcoming(epoch, offset, examples, min(useful, examples))


def examples_seen(examples: int, epoch: int, offset: int) -> int:
    """How many examples a run has seen, in all epochs, before the round at a place of an epoch."""
    return epoch * examples + offset


def shard_bounds(examples: int, shards: int) -> list[tuple[int, int]]:
    """Where each shard begins and ends within the round's examples: sizes differ by at most one, longer ones first."""
    size, longer = divmod(examples, shards)
    bounds, start = [], 0
    for j in range(shards):
        stop = start + size + (j < longer)
        bounds.append((start, stop))
        start = stop
    return bounds
