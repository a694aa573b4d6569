"""How a recipe's lines become rounds and tasks, in the mean: what a plan needs to know of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from podlt.economics.formulas import RoundKind
from podlt.economics.options import ProofOptions


class Dealing(msgspec.Struct, frozen=True):
    """How many lines a task and a round have.

    Attributes:
        block_lines: the most that a round takes.
        fragment_lines: for each useful worker; 0: a round takes a block.
        kinds: the rounds that the proof draws.
    """

    block_lines: int
    fragment_lines: int
    kinds: Sequence[RoundKind]

    @property
    def task_lines(self) -> int:
        """Lines of a task: as many as the round with the most fragments can give each."""
        size = self.block_lines // max(kind.fragments for kind in self.kinds)
        return max(1, min(self.fragment_lines or size, size))

    def rounds(self, lines: int, epochs: int) -> int:
        """How many rounds a run has in which nobody leaves, taking each at the mean number of spares."""
        fragments = sum(kind.chance * kind.fragments for kind in self.kinds)
        each = min(float(self.block_lines), self.task_lines * fragments)
        if not self.fragment_lines:
            each = float(self.block_lines)
        return epochs * math.ceil(lines / each - 1e-9)


def options_of(protocol: Mapping[str, Any], task_lines: int) -> ProofOptions:
    """The proof's options of a recipe.

    Args:
        protocol: its table `[protocol]`; what is None or missing is the default's. Its reward is for a line.
        task_lines: lines of a task.
    """
    known = {name: protocol.get(name) for name in ProofOptions.__struct_fields__}
    given = {name: value for name, value in known.items() if value is not None}
    if "reward" in given:
        given["reward"] = given["reward"] * task_lines
    return msgspec.convert(given, ProofOptions)
