"""What the proof of a run costs and finds, in a line: said before the run starts."""

from __future__ import annotations

import msgspec

from podlt.economics.lines import Dealing, options_of
from podlt.economics.plan import kinds_of
from podlt.economics.words import one_line
from podlt.recipe import Recipe


def proof_line(recipe: Recipe, lines: int) -> str:
    """The summary of `podlt plan` for a recipe.

    Args:
        recipe: as many workers as it says.
        lines: of the training set.
    """
    training, protocol = recipe.training, msgspec.to_builtins(recipe.protocol)
    options = options_of(protocol, 1)
    if training.workers < 2:
        return (
            f"proof: {options.preset}; one worker: a record, in which no result is compared with another's; the "
            f"manager executes {options.own:.0%} itself; podlt reproduce trains it again"
        )
    dealing = Dealing(training.block_lines, training.fragment_lines, kinds_of(options, training.workers))
    return one_line(training.workers, options, dealing.rounds(lines, training.epochs))
