"""What executing a run's tasks again rests on, for audits and reproductions: documents, parameters, data, machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from torch import nn

from podlt.engine.shared_memory import Region
from podlt.errors import EngineError, InvalidProofError, UnsupportedError, UsageError
from podlt.execution.conformance import arithmetic_digest, conformance
from podlt.manager.amendments import Optimizers
from podlt.manager.audit.data import code_and_data
from podlt.manager.audit.replay import MOST_HEADER
from podlt.manager.capture_inputs import task_examples
from podlt.manager.weights import Weights
from podlt.program.ir import Program
from podlt.program.layout import state_layout
from podlt.program.validate import validate
from podlt.protocol import entries as e
from podlt.recipe import Recipe
from podlt.store.run_files import RunFiles
from podlt.verify import Verification


class Given(NamedTuple):
    """What a caller gives beside the run.

    Attributes:
        cache: of prepared data.
        data: where the run's data are; looked for unless given.
        code: the folder of the model's code, which the caller vouches for.
        model: the module itself, where the run was given it as an object.
    """

    cache: Path | None
    data: Path | None
    code: Path | None
    model: nn.Module | None

    @classmethod
    def of(cls, cache: Path | None, data: Path | str | None, code: Path | str | None, model: nn.Module | None) -> Given:
        """It, with paths looked at. Errors as of `code_and_data`."""
        vouched, elsewhere = code_and_data(code, data)
        return cls(cache, elsewhere, vouched, model)


class CannotExecuteError(Exception):
    """Why no task of a run can be executed here.

    Attributes:
        why: in words.
        remedy: what would help; "" if nothing is known to.
    """

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(f"{why}: {remedy}" if remedy else why)
        self.why, self.remedy = why, remedy


def executable(found: Verification) -> tuple[Recipe, Program, Optimizers]:
    """A run's documents, as far as this podlt can execute them.

    Raises:
        CannotExecuteError: it was simulated, they are not here, or they need another version.
        InvalidProofError: the program is none.
    """
    documents, begin = found.documents, found.state.begin
    assert begin is not None
    if documents.is_simulated:
        raise CannotExecuteError("the run was simulated: nothing was trained, so there is nothing to execute")
    if documents.recipe is None or documents.program is None:
        raise CannotExecuteError("recipe.json and program.json are not here", "give the run or a bundle of it")
    try:
        recipe, program = Recipe.from_bytes(documents.recipe), Program.from_bytes(documents.program)
        validate(program, examples=task_examples(recipe, begin.examples))
        return recipe, program, Optimizers(recipe, begin.examples, found.state.amendments)
    except (UnsupportedError, UsageError) as error:
        why = f"this podlt cannot run the program: {error}"
        raise CannotExecuteError(why, "use the version that began the run") from None


def why_not_here(program: Program, begin: e.Begin) -> str:
    """Why this machine, or this podlt, would give other results than an honest worker; "" if it would not."""
    here = arithmetic_digest(program.arithmetic)
    if here != begin.arithmetic:
        return (
            f"this podlt defines the arithmetic {program.arithmetic!r} otherwise than the one that began the run "
            f"(conformance {here.hex()[:16]}, the run's {begin.arithmetic.hex()[:16]}): use the version that began it"
        )
    try:
        conformance(program.arithmetic).require("this machine")
    except EngineError as error:
        return str(error)
    return ""


class FirstCheckpoint(NamedTuple):
    """What a run's first checkpoint is.

    Attributes:
        missing: why it does not give the first parameters; "" if it does.
        fault: what is wrong with it, if it is here; "" if nothing is.
    """

    missing: str
    fault: str


def load_first(files: RunFiles, begin: e.Begin, weights: Weights) -> FirstCheckpoint:
    """Puts the first parameters into `weights`, as far as the first checkpoint has them."""
    file = files.checkpoint(0)
    if file is None:
        return FirstCheckpoint("the first checkpoint is not here", "")
    with file:
        raw = file.read(weights.checkpoint_bytes + MOST_HEADER)
    fault = ""
    try:
        weights.load_bytes(raw, "the first checkpoint", e.identity(begin), begin.manager)
        if not weights.is_fresh():
            fault = "the first checkpoint has an optimiser that has taken steps before the first"
    except InvalidProofError as error:
        fault = str(error)
    weights.refresh()  # nothing but the parameters is bound by the log
    if weights.digest() == begin.parameters:
        return FirstCheckpoint("", fault)
    fault = fault or "the first checkpoint is not the parameters that the log begins with"
    return FirstCheckpoint("the first checkpoint is not the log's", fault)


@contextmanager
def state_memory(program: Program) -> Iterator[Region]:
    """Memory for a program's parameters.

    Raises:
        EngineError: there is not enough.
    """
    region = Region(state_layout(program).nbytes)
    try:
        yield region
    finally:
        region.close()
