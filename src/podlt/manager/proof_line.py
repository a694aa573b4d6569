"""What the proof of a run costs and finds, in an example: said before the run starts."""

from __future__ import annotations

import msgspec

from podlt.economics.batches import Dealing, options_of
from podlt.economics.plan import kinds_of
from podlt.economics.words import one_line
from podlt.recipe import Recipe


def proof_line(recipe: Recipe, examples: int) -> str:
    """The summary of `podlt plan` for a recipe.

    Args:
        recipe: as many workers as it says.
        examples: of the training set.
    """
    training, protocol = recipe.training, msgspec.to_builtins(recipe.protocol)
    options = options_of(protocol, 1)
    if training.workers < 2:
        return (
            f"proof: {options.preset}; one worker: a record, in which no result is compared with another's; the "
            f"manager executes {options.own:.0%} itself; podlt reproduce trains it again"
        )
    dealing = Dealing(training.batch_size, training.shard_size, kinds_of(options, training.workers))
    return one_line(training.workers, options, dealing.rounds(examples, training.epochs))
