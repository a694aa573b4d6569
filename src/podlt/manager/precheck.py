"""What is tried before anything long begins: so that a run fails in seconds, and not after its first epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from podlt.errors import PodltError, UnsupportedError, UsageError
from podlt.execution.conformance import conformance
from podlt.execution.task_executor import TaskExecutor, one_thread
from podlt.manager import events as ev
from podlt.manager.inputs import RunInputs
from podlt.manager.metrics.evaluator import Evaluator
from podlt.manager.metrics.trial import try_disk, try_evaluation
from podlt.program.capture import Captured
from podlt.program.layout import update_layout
from podlt.recipe import Recipe

SHOWN_EVERY = 10
"""Golden vectors between two events."""

TRIED = 2
"""Examples of the task that is tried: BatchNorm needs two."""


def try_inputs(inputs: RunInputs, recipe: Recipe, directory: Path, listener: ev.Listener) -> UsageError | None:
    """Tries what would else fail after the first epoch, or once the disk is full.

    Args:
        inputs: of the run.
        recipe: of the run.
        directory: of the run, which need not be made.
        listener: hears how much disk the run takes.

    Returns:
        What is wrong, if capturing does not say it better.

    Raises:
        UsageError: it fails; says why, and what to do.
    """
    missing = inputs.metrics.missing
    if missing:
        raise UsageError(f"evaluation.metrics: {'; '.join(missing.values())}")
    train = inputs.data.train
    text, tight = try_disk(directory, inputs.model, recipe, train.examples)
    if text:
        listener(ev.Notice(what=text) if tight else ev.Preparing(what=text))
    listener(ev.Preparing(what="trying the evaluation on a few examples"))
    evaluator = Evaluator.of(inputs.model, inputs.loss, inputs.metrics, inputs.data)
    return try_evaluation(evaluator, train, recipe)


def try_task(captured: Captured, executor: TaskExecutor, examples: Mapping[str, torch.Tensor]) -> None:
    """Executes a task of two examples, as workers will: an arithmetic may lack what the captured operations ask of it.

    Args:
        captured: the program, and the parameters that the run begins with.
        executor: of its tasks.
        examples: of the data.

    Raises:
        UnsupportedError: the arithmetic cannot compute it; says which operation.
    """
    out = np.zeros(update_layout(captured.program).nbytes, np.uint8)
    few = {name: value[:TRIED].clone() for name, value in examples.items()}
    try:
        with one_thread():
            executor(captured.state, few, bytes(32), out)
    except UnsupportedError:
        raise
    except PodltError:  # an example that is out of range, a loss that is not finite: the first round says more of it
        return


def check_machine(recipe: Recipe, listener: ev.Listener) -> None:
    """Exact arithmetic: the manager averages and referees, so its own bits must be right as well.

    It comes before the workers' processes: they find compiled what would else be compiled by each of them.

    Args:
        recipe: of the run.
        listener: hears that it begins.

    Raises:
        EngineError: this machine computes something else.
    """
    if recipe.arithmetic == "exact":
        what = "checking the arithmetic (a minute of processor time at its first use here: it is compiled)"

        shown: list[int] = []

        def progress(done: int, total: int) -> None:
            if done % SHOWN_EVERY == 0 and shown[-1:] != [done]:
                shown.append(done)
                listener(ev.Preparing(what=what, done=done, total=total))

        progress(0, 0)
        conformance(recipe.program_arithmetic, progress=progress).require("this machine")
