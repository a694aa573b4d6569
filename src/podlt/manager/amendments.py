"""Terms that changed while a run went on: which recipe holds in each of its rounds, and what may change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from podlt import canonical
from podlt.crypto import HashChain
from podlt.errors import UsageError
from podlt.manager.weights import recipe_optimizer
from podlt.program.optimizer import Optimizer
from podlt.protocol import entries as e
from podlt.protocol.rules import RunState
from podlt.protocol.state import most_paid
from podlt.recipe import Recipe
from podlt.recipe_changes import changed
from podlt.units import MAX_TEXT


class Amendment(msgspec.Struct, frozen=True):
    """What an `amend` entry is to say. Fields are the entry's."""

    epochs: int
    optimizer: str
    reason: str


class Optimizers:
    """The optimiser of every training round of a run.

    Args:
        recipe: with which the run began.
        examples: of the training set.
        amendments: each with the number of training rounds before it.

    Raises:
        UsageError: an amendment's optimiser is none.
    """

    def __init__(self, recipe: Recipe, examples: int, amendments: Sequence[tuple[int, e.Amend]]) -> None:
        self.recipe = recipe
        self._parts = [(0, recipe_optimizer(recipe, examples))]
        for steps, entry in amendments:
            self.recipe = amended(self.recipe, entry)
            self._parts.append((steps, recipe_optimizer(self.recipe, examples)))

    def at(self, step: int) -> Optimizer:
        """That of a training round, counted from 0."""
        return next(optimizer for steps, optimizer in reversed(self._parts) if steps <= step)

    def after(self, steps: int) -> Optimizer:
        """Whose state there is after so many training rounds, before the next one: that of the last of them."""
        return self.at(steps - 1) if steps else self._parts[0][1]


def amended(recipe: Recipe, entry: e.Amend) -> Recipe:
    """The recipe that holds after an amendment. One that ended training in the first epoch leaves it with one."""
    training = msgspec.structs.replace(recipe.training, epochs=max(1, entry.epochs))
    table: Any = canonical.from_json(entry.optimizer.encode()) if entry.optimizer else recipe.optimizer
    return msgspec.structs.replace(recipe, training=training, optimizer=table)


def amendment(recipe: Recipe, changes: Mapping[str, Any], state: RunState, chain: HashChain) -> Amendment | None:
    """What the log is to say so that changes hold from here on; None where they change nothing.

    Args:
        recipe: that holds now.
        changes: dotted path of a field -> its value.
        state: the run after its log.
        chain: of the manager's secrets, one a round.

    Raises:
        UsageError: a field cannot change once a run has begun, a value is none that it can have, or it asks for more
            rounds than there are secrets.
    """
    begin = state.begin
    assert begin is not None
    after = changed(recipe, changes)
    for path in changes:
        if path != "training.epochs" and path.partition(".")[0] != "optimizer":
            cure = ": use --workers" if path == "training.workers" else ""
            raise UsageError(
                f"{path}: is fixed by the first entry of the run's log; training.epochs and optimizer.* can change"
                f"{cure or '. For another value begin a new run'}"
            )
    recipe_optimizer(after, begin.examples)  # or it is none
    same = after.optimizer == recipe.optimizer
    epochs = after.training.epochs if "training.epochs" in changes else state.epochs
    if not changes or (same and epochs == state.epochs):
        return None
    if epochs <= state.epoch:
        done = f"{state.epoch} epochs are done"
        cure = "to end the run: podlt finish" if "training.epochs" in changes else "set training.epochs as well"
        raise UsageError(f"training.epochs: {done}, and {epochs} are to be: nothing is left to train; {cure}")
    optimizer = "" if same else canonical.to_json(after.optimizer).decode()
    if len(optimizer) > MAX_TEXT:
        raise UsageError(f"optimizer: {len(optimizer):,} characters as JSON; an amendment holds {MAX_TEXT:,}")
    _require_room(state, epochs, chain)
    said = ", ".join(f"{path}={value!r}" for path, value in changes.items())
    return Amendment(epochs, optimizer, f"resumed with {said}"[:MAX_TEXT])


def _require_room(state: RunState, epochs: int, chain: HashChain) -> None:
    """A run is amended only as far as its secrets and its accounts reach."""
    begin = state.begin
    assert begin is not None
    each = begin.cut.most_rounds(1)
    left = chain.length - state.round
    if (epochs - state.epoch) * each > left:
        raise UsageError(
            f"training.epochs: {epochs:,} epochs are up to {(epochs - state.epoch) * each:,} rounds more, and the "
            f"run's chain of secrets, fixed when it began, has {left:,} left: at most {state.epoch + left // each:,} "
            "epochs. For more, begin a new run from model.safetensors"
        )
    if most_paid(begin, epochs + 1) > state.room():
        raise UsageError(f"training.epochs: {epochs:,} epochs could pay more than an account can hold")
