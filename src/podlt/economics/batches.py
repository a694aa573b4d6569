"""How a recipe's examples become rounds and tasks, in the mean: what a plan needs to know of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from podlt.economics.formulas import RoundKind
from podlt.economics.options import ProofOptions


class Dealing(msgspec.Struct, frozen=True):
    """How many examples a task and a round have.

    Attributes:
        batch_size: the most that a round takes.
        shard_size: for each useful worker; 0: a round takes a batch.
        kinds: the rounds that the proof draws.
    """

    batch_size: int
    shard_size: int
    kinds: Sequence[RoundKind]

    @property
    def task_examples(self) -> int:
        """Examples of a task: as many as the round with the most shards can give each."""
        size = self.batch_size // max(kind.shards for kind in self.kinds)
        return max(1, min(self.shard_size or size, size))

    def rounds(self, examples: int, epochs: int) -> int:
        """How many rounds a run has in which nobody leaves, taking each at the mean number of spares."""
        shards = sum(kind.chance * kind.shards for kind in self.kinds)
        each = min(float(self.batch_size), self.task_examples * shards)
        if not self.shard_size:
            each = float(self.batch_size)
        return epochs * math.ceil(examples / each - 1e-9)


def options_of(protocol: Mapping[str, Any], task_examples: int) -> ProofOptions:
    """The proof's options of a recipe.

    Args:
        protocol: its table `[protocol]`; what is None or missing is the default's. Its reward is for an example.
        task_examples: examples of a task.
    """
    known = {name: protocol.get(name) for name in ProofOptions.__struct_fields__}
    given = {name: value for name, value in known.items() if value is not None}
    if "reward" in given:
        given["reward"] = given["reward"] * task_examples
    return msgspec.convert(given, ProofOptions)
