"""What a run's figures decide where its recipe asks for it: when it ends early, and which parameters were the best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

import msgspec

from podlt.errors import InvalidProofError, StopTraining, StorageError
from podlt.manager import events as ev
from podlt.manager.directory import RunDirectory
from podlt.manager.metrics.named import better_of
from podlt.manager.resume import AppliedRound
from podlt.manager.weights import Weights
from podlt.model_file import state_digest, write_model
from podlt.program.ir import Program
from podlt.protocol import entries as e
from podlt.recipe import Recipe
from podlt.store import run_names as names
from podlt.store.log_store import LogStore
from podlt.store.round_figures import RoundFigures
from podlt.store.run_json import read_section, write_section
from podlt.words import counted


class BestCheckpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which parameters best.safetensors has, as run.json says.

    Attributes:
        figure: by which they are the best.
        value: of it.
        epoch: in which they were reached, from 0.
        rounds: after how many rounds.
        parameters: their digest, hexadecimal, as the log's entry `apply` of the last of these rounds has it.
    """

    figure: str
    value: float
    epoch: int
    rounds: int
    parameters: str


class BestSoFar:
    """The best value of a figure, and for how many evaluations there was none better.

    Args:
        figure: its name.
        mode: "min" or "max"; "" for what its name says.
        min_delta: by how much a value must be better.
    """

    def __init__(self, figure: str, mode: str = "", min_delta: float = 0.0) -> None:
        self.figure = figure
        self._sign = -1.0 if (mode or better_of(figure)) == "min" else 1.0
        self.min_delta = min_delta
        self.value: float | None = None
        self.since = 0

    def take(self, metrics: Mapping[str, float]) -> bool:
        """Whether an evaluation is the best so far; one that has no such figure counts for nothing."""
        value = metrics.get(self.figure)
        if value is None:
            return False
        if self.value is None or self._sign * (value - self.value) > self.min_delta:
            self.value, self.since = value, 0
            return True
        self.since += 1
        return False


class EarlyStopping:
    """A listener that ends a run once a figure is no better for long.

    Args:
        best: of the figure.
        patience: for how many evaluations in a row.
    """

    def __init__(self, best: BestSoFar, patience: int) -> None:
        self._best, self._patience = best, patience

    def __call__(self, event: ev.Event) -> None:
        """Takes an event.

        Raises:
            StopTraining: the figure was no better in as many evaluations.
        """
        if isinstance(event, (ev.Measured, ev.Evaluated)):
            self._best.take(event.metrics)
            if self._best.since >= self._patience:
                by = f" by more than {self._best.min_delta:.6g}" if self._best.min_delta else ""
                raise StopTraining(
                    f"{self._best.figure} has not become better than {self._best.value:.6g}{by} in "
                    f"{counted(self._best.since, 'evaluation')}"
                )


class BestModel:
    """A listener that keeps the parameters of the best evaluation, in best.safetensors.

    Args:
        best: of the figure.
        directory: of the run.
        program: the run's.
        weights: the parameters, as they are when an event comes.
        rounds: how many were trained before.
        tell: gets a notice where they cannot be written, which does not stop the run.
    """

    def __init__(
        self,
        best: BestSoFar,
        directory: RunDirectory,
        program: Program,
        weights: Weights,
        rounds: int,
        tell: ev.Listener,
    ) -> None:
        self._best, self._directory, self._program = best, directory, program
        self._weights, self._rounds, self._tell = weights, rounds, tell

    def __call__(self, event: ev.Event) -> None:
        """Takes an event."""
        if isinstance(event, ev.RoundDone):
            self._rounds += 1
        if isinstance(event, (ev.Measured, ev.Evaluated)) and self._best.take(event.metrics):
            self.write(event.epoch)

    def write(self, epoch: int) -> None:
        """Writes the parameters as they are now, and what they are."""
        assert self._best.value is not None
        found = BestCheckpoint(self._best.figure, self._best.value, epoch, self._rounds, self._weights.digest().hex())
        try:
            write_model(self._directory.best, self._program, self._weights.state.data)
            write_section(self._directory.path, "best", found)
        except StorageError as error:
            with suppress(OSError):  # what run.json says of them, if it does, speaks of others
                self._directory.best.unlink(missing_ok=True)
            self._tell(ev.Notice(what=f"the best parameters so far are not kept: {error}"))


def deciding(
    recipe: Recipe,
    directory: RunDirectory,
    program: Program,
    weights: Weights,
    store: LogStore,
    listener: ev.Listener,
) -> ev.Listener:
    """A listener, and around it what decides over the run, as it stood after the evaluations so far.

    The best parameters are on the disk before anyone may end the run, and the listener knows an evaluation before it
    ends the run.

    Args:
        recipe: the run's.
        directory: the run's.
        program: the run's.
        weights: the parameters, as they are after the log so far.
        store: of the log.
        listener: of whoever trains.
    """
    spec, stop = recipe.evaluation, recipe.evaluation.early_stopping
    if not spec.keep_best and stop is None:
        return listener
    past, rounds = _past(directory, store)
    chain = [listener]
    if spec.keep_best:
        so_far, last = BestSoFar(spec.keep_best, spec.best_mode), (-1, 0)
        for after, epoch, metrics in past:
            last = (after, epoch) if so_far.take(metrics) else last
        best = BestModel(so_far, directory, program, weights, rounds, listener)
        if last[0] == rounds:  # a kill may have come before it was written
            best.write(last[1])
        chain.insert(0, best)
    if stop is not None:
        so_far = BestSoFar(stop.figure, stop.mode, stop.min_delta)
        for _, _, metrics in past:
            so_far.take(metrics)
        chain.append(EarlyStopping(so_far, stop.patience))

    def listen(event: ev.Event) -> None:
        for one in chain:
            one(event)

    return listen


def _past(directory: RunDirectory, store: LogStore) -> tuple[list[tuple[int, int, Mapping[str, float]]], int]:
    """The evaluations of a run so far (after how many rounds, in which epoch, figures), and how many rounds there were.

    They are those of the log, and in rounds.jsonl those that no entry has.
    """
    rounds, found = 0, list[tuple[int, int, Mapping[str, float]]]()
    numbers: dict[int, tuple[int, int]] = {}
    epoch = 0
    for _, _, body in store.entries():
        entry = e.decode(body)
        if isinstance(entry, e.Open):
            epoch = entry.epoch
        elif isinstance(entry, e.Apply):
            rounds += 1
            numbers[entry.round] = (rounds, epoch)
        elif isinstance(entry, e.Measure):
            found.append((rounds, entry.epoch, {f.name: f.value for f in entry.figures}))
    for line in _rounds_file(directory):
        if line.metrics and line.round in numbers:
            found.append((*numbers[line.round], line.metrics))
    return sorted(found, key=lambda one: one[0]), rounds


def _rounds_file(directory: RunDirectory) -> Iterator[RoundFigures]:
    path = directory.path / names.ROUNDS
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            yield msgspec.json.decode(line, type=RoundFigures)
        except msgspec.DecodeError:  # half a line, as a full disk leaves it
            continue


def read_best(directory: RunDirectory, applied: list[AppliedRound]) -> BestCheckpoint | None:
    """Which parameters best.safetensors has, after they were held against the log; None where none were kept.

    Args:
        directory: of the run.
        applied: what its log says of each round.

    Raises:
        InvalidProofError: they are not the parameters that the log has after these rounds.
        StorageError: a file cannot be read.
    """
    found = read_section(directory.path, "best", BestCheckpoint)
    if found is None or not directory.best.is_file():
        return None
    try:
        with directory.best.open("rb") as file:
            digest = state_digest(file, Program.from_bytes(directory.document(names.PROGRAM)))
    except OSError as error:
        raise StorageError(f"{directory.best}: cannot be read: {error.strerror}") from None
    logged = applied[found.rounds - 1].parameters if 0 < found.rounds <= len(applied) else b""
    if digest != logged or digest.hex() != found.parameters:
        raise InvalidProofError(f"{directory.best}: is not what the log has after {found.rounds} rounds")
    return found
