"""Callbacks: a Python program's own code at the usual moments of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from podlt.errors import StopTraining, UsageError
from podlt.manager import events as ev
from podlt.manager.metrics import load_state
from podlt.manager.setup import TrainingRun
from podlt.recipe import Recipe


class LiveRun:
    """A run while it is trained, as callbacks see it.

    Args:
        training: the run.
    """

    def __init__(self, training: TrainingRun) -> None:
        self._training = training

    @property
    def path(self) -> Path:
        """Its directory."""
        return self._training.directory.path

    @property
    def recipe(self) -> Recipe:
        """What is trained, and how."""
        return self._training.recipe

    @property
    def model(self) -> nn.Module:
        """The user's module with a copy of the run's parameters, as they are now: copied when this is asked for.

        It is put into eval mode where figures are taken. Changing it does not change the run.

        Raises:
            UsageError: training has not begun, or is over.
        """
        trainer = self._training.trainer
        if trainer is None:
            raise UsageError("the run has parameters from on_start to on_end only")
        module = self._training.inputs.model
        load_state(module, trainer.weights.views)
        return module

    @property
    def at_epoch_end(self) -> bool:
        """Whether every example of the epoch was trained on."""
        trainer = self._training.trainer
        return trainer is not None and trainer.manager.state.offset == 0

    @property
    def is_measured(self) -> bool:
        """Whether figures are taken at the end of an epoch: there are examples that were held out."""
        data = self._training.inputs.data
        return data.test is not None or data.validation is not None


class Callback:
    """What is called while a run is trained, on the thread that trains; every method may be left as it is.

    Any method may raise `podlt.StopTraining(reason)`: the round in progress is finished, what was applied
    stays and is paid, and the call returns a result.
    """

    def on_start(self, run: LiveRun) -> None:
        """The workers are there, and the first round (or the next, of a run that is resumed) is about to begin."""

    def on_round(self, run: LiveRun, round: ev.RoundDone) -> None:
        """A round was applied and paid.

        Args:
            run: as it is now.
            round: number, loss, examples, seconds and workers.
        """

    def on_epoch(self, run: LiveRun, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch is over.

        Args:
            run: as it is now.
            epoch: from 0.
            metrics: the figures of held-out examples, by name; empty without any.
        """

    def on_conviction(self, run: LiveRun, conviction: ev.Convicted) -> None:
        """A worker was convicted of a wrong result. It comes before the round's `on_round`.

        Args:
            run: as it is now; the round's update is applied.
            conviction: who, how it was found out, and whether it was suspended or evicted.
        """

    def on_end(self, run: LiveRun) -> None:
        """The run is complete, or was ended by `StopTraining`."""

    def on_failure(self, run: LiveRun, error: BaseException) -> None:
        """The run stopped with an error, as by Ctrl-C; it may be resumed later. There is no `on_end` then.

        Args:
            run: without a model.
            error: what is raised.
        """


class CallbackListener:
    """Calls callbacks for a run's events. Each is called, whatever another raises to stop the run.

    Args:
        callbacks: in the order in which they are called.

    Raises:
        UsageError: one is none.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        given: list[Any] = [callbacks] if isinstance(callbacks, Callback | type) else list(callbacks)
        for one in given:
            if not isinstance(one, Callback):
                name = one.__name__ if isinstance(one, type) else type(one).__name__
                hint = f": give an object, {name}()" if isinstance(one, type) else ""
                raise UsageError(f"callbacks: expected objects of podlt.callbacks.Callback, got {name}{hint}")
        self._callbacks = given
        self._run: LiveRun | None = None
        self._stop: StopTraining | None = None
        self._handlers: ev.Handlers = {
            ev.Started: lambda event: self._each(lambda c, run: c.on_start(run)),
            ev.RoundDone: self._round,
            ev.Convicted: lambda event: self._each(lambda c, run: c.on_conviction(run, event)),
            ev.Measured: lambda event: self._epoch(event.epoch, event.metrics),
            ev.Finished: lambda event: self._each(lambda c, run: c.on_end(run)),
        }

    def attach(self, training: TrainingRun) -> None:
        """Says which run it is, before the first event of training."""
        self._run = LiveRun(training)

    def __call__(self, event: ev.Event) -> None:
        """Takes an event.

        Raises:
            StopTraining: a callback wants the run to end.
        """
        ev.handle(self._handlers, event)
        stop, self._stop = self._stop, None
        if stop is not None:
            raise stop

    def failed(self, error: BaseException) -> None:
        """The run stopped with an error."""
        self._each(lambda c, run: c.on_failure(run, error))

    def _round(self, event: ev.RoundDone) -> None:
        self._each(lambda c, run: c.on_round(run, event))
        if self._run is not None and self._run.at_epoch_end and not self._run.is_measured:
            self._epoch(event.epoch, {})

    def _epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._each(lambda c, run: c.on_epoch(run, epoch, metrics))

    def _each(self, moment: Callable[[Callback, LiveRun], None]) -> None:
        if self._run is None:
            return
        for callback in self._callbacks:
            try:
                moment(callback, self._run)
            except StopTraining as stop:
                self._stop = self._stop or stop
