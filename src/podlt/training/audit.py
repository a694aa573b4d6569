"""Re-executes drawn tasks of a run, applies every update again, and compares all of it with the log.

For a third party that has the run's directory and the data: it needs neither the workers nor trust in the manager.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from podlt import crypto
from podlt.data.dataset import fragment_digest_of
from podlt.data.order import EpochOrder
from podlt.data.prepare import prepare
from podlt.dice import Dice
from podlt.engine.execution import TaskExecutor, as_batch, one_thread
from podlt.engine.shared import Region
from podlt.errors import InvalidProofError, UsageError
from podlt.program.ir import Program
from podlt.program.layout import state_layout
from podlt.program.validate import validate
from podlt.protocol import entries as e
from podlt.protocol.plan import Upcoming, fragment_bounds
from podlt.protocol.rules import RunState
from podlt.recipe import Recipe
from podlt.store.log_store import LogStore
from podlt.training.blocks import line_ids
from podlt.training.directory import RunDirectory
from podlt.training.replay import check_documents, replay_log
from podlt.training.weights import Weights, recipe_optimizer


class LoggedRound(msgspec.Struct, frozen=True):
    """What the log says of a training round: for each fragment who answered what, and what counts."""

    open: e.Open
    results: list[dict[int, bytes]]
    accepted: list[bytes]
    randomness: list[bytes]
    refereed: list[int]
    apply: e.Apply


class Mismatch(msgspec.Struct, frozen=True):
    """A worker's logged result is not what executing its task gives; `evicted` if the run found out by itself."""

    round: int
    fragment: int
    worker: int
    evicted: bool
    logged: bytes
    executed: bytes


class FalseVerdict(msgspec.Struct, frozen=True):
    """The manager said that it had executed a task itself, and that this came out; something else does."""

    round: int
    fragment: int
    accepted: bytes
    executed: bytes


class AuditReport(msgspec.Struct, frozen=True):
    """What an audit found.

    Attributes:
        tasks: how many there are; executed: how many were executed again; rounds: how many updates were applied again;
        averaged: the rounds whose average was worked out again from all of their tasks;
        mismatches: results that are not what executing the task gives; seed: repeats the same draw.
        refereed: how many results of the manager's own were checked (all of them); false_verdicts: the wrong ones.
    """

    tasks: int
    executed: int
    rounds: int
    averaged: list[int]
    mismatches: list[Mismatch]
    refereed: int
    false_verdicts: list[FalseVerdict]
    seed: int

    @property
    def sound(self) -> bool:
        """Whether every result that differs is one whose author was evicted, and no verdict is false."""
        return not self.false_verdicts and all(mismatch.evicted for mismatch in self.mismatches)


def audit(
    run: Path,
    fraction: float = 0.05,
    *,
    seed: int | None = None,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Executes a drawn fraction of a run's tasks again, one whole round among them.

    Args:
        fraction: of all tasks, in (0, 1]; seed: of the draw, or None for an unforeseeable one;
        cache: of prepared data; progress: is called with rounds done and rounds in all.

    Raises:
        UsageError: no such run, or nothing to audit; StorageError: an update's file is gone (`history = "last"`).
        InvalidProofError: the log, the data, or an update that was applied is not what the log says.
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"fraction: expected above 0 and up to 1, got {fraction}")
    chosen_seed = secrets.randbits(63) if seed is None else seed
    auditor = _Auditor(RunDirectory.existing(run), cache)
    drawn = auditor.draw(fraction, chosen_seed)
    with one_thread():
        return auditor.walk(drawn, chosen_seed, progress or (lambda done, total: None))


class _Auditor:
    """Walks a run's rounds again, from the first parameters on."""

    def __init__(self, directory: RunDirectory, cache: Path | None) -> None:
        self._directory = directory
        recipe = Recipe.from_bytes(directory.document("recipe.json"))
        program = Program.from_bytes(directory.document("program.json"))
        validate(program, lines=recipe.training.block_lines)
        with closing(directory.log()) as store:
            self._state, _, _ = replay_log(store)
            self._rounds = logged_rounds(store)
        if not self._rounds or self._state.begin is None:
            raise UsageError(f"{directory.path}: no round was trained yet, so there is nothing to audit")
        self._begin = self._state.begin
        self._dataset = prepare(recipe.data, cache, None, Path(directory.settings().base)).train
        check_documents(self._begin, directory.document("recipe.json"), program, self._dataset)
        training = recipe.training
        self._execute = TaskExecutor(program, training.local_steps, training.local_lr)
        self._memory = Region(state_layout(program).nbytes)
        self._weights = Weights(program, recipe_optimizer(recipe, self._dataset.lines), self._memory.bytes)
        self._orders: dict[int, EpochOrder] = {}

    def draw(self, fraction: float, seed: int) -> dict[int, set[int]]:
        """Which fragments of which rounds are executed again; one round is whole among them."""
        dice = Dice(crypto.digest("audit/1", seed.to_bytes(8, "big"), self._state.run))
        tasks = [(i, fragment) for i, logged in enumerate(self._rounds) for fragment in range(len(logged.accepted))]
        count = max(1, round(fraction * len(tasks)))
        whole = dice.below(len(self._rounds))
        drawn: dict[int, set[int]] = {whole: set(range(len(self._rounds[whole].accepted)))}
        for i, fragment in dice.shuffle(tasks)[:count]:
            drawn.setdefault(i, set()).add(fragment)
        for i, logged in enumerate(self._rounds):  # the manager's own word convicts: it is never left to chance
            if logged.refereed:
                drawn.setdefault(i, set()).update(logged.refereed)
        return drawn

    def walk(self, drawn: dict[int, set[int]], seed: int, progress: Callable[[int, int], None]) -> AuditReport:
        """Executes what was drawn, and applies every update."""
        self._weights.load(self._directory.checkpoint(0), self._state.run, self._begin.manager)
        if self._weights.digest() != self._begin.parameters:
            raise InvalidProofError("the first checkpoint is not the parameters that the log begins with")
        mismatches: list[Mismatch] = []
        averaged: list[int] = []
        false_verdicts: list[FalseVerdict] = []
        for i, logged in enumerate(self._rounds):
            progress(i, len(self._rounds))
            executed = self._execute_again(logged, sorted(drawn.get(i, ())))
            mismatches += self._compare(logged, executed)
            false_verdicts += _false_verdicts(logged, executed)
            digests = {fragment: crypto.blob_digest(update.data) for fragment, update in executed.items()}
            if digests == dict(enumerate(logged.accepted)):  # all of them, as of the whole round
                self._check_average(logged, executed)
                averaged.append(logged.open.round)
            done = logged.apply
            self._weights.replay(self._directory.update(done.round), done.update, done.parameters)
        progress(len(self._rounds), len(self._rounds))
        return AuditReport(
            tasks=sum(len(logged.accepted) for logged in self._rounds),
            executed=sum(len(fragments) for fragments in drawn.values()),
            rounds=len(self._rounds),
            averaged=averaged,
            mismatches=mismatches,
            refereed=sum(len(logged.refereed) for logged in self._rounds),
            false_verdicts=false_verdicts,
            seed=seed,
        )

    def _execute_again(self, logged: LoggedRound, fragments: list[int]) -> dict[int, np.ndarray]:
        if not fragments:
            return {}
        opened = logged.open
        plan = Upcoming(opened.purpose, opened.epoch, opened.offset, opened.lines, len(opened.fragments))
        ids = line_ids(self._orders, self._dataset.lines, self._begin.block_lines, self._begin.seed, plan)
        bounds = fragment_bounds(opened.lines, len(opened.fragments))
        results = {}
        for fragment in fragments:
            start, stop = bounds[fragment]
            piece = ids[start:stop]
            lines = self._dataset.read(piece)
            found = fragment_digest_of(self._dataset.fields, lines)
            if found != opened.fragments[fragment]:
                message = f"round {opened.round}: fragment {fragment} is not made of the lines that are due"
                raise InvalidProofError(message, expected=found, actual=opened.fragments[fragment])
            out = np.zeros(self._weights.update_layout.nbytes, np.uint8)
            self._execute(self._weights.views, as_batch(lines), logged.randomness[fragment], out)
            results[fragment] = out
        return results

    def _compare(self, logged: LoggedRound, executed: dict[int, np.ndarray]) -> list[Mismatch]:
        found = []
        for fragment, update in executed.items():
            digest = crypto.blob_digest(update.data)
            for worker, result in sorted(logged.results[fragment].items()):
                if result != digest:
                    evicted = self._state.workers[worker].status == "evicted"
                    found.append(Mismatch(logged.open.round, fragment, worker, evicted, result, digest))
        return found

    def _check_average(self, logged: LoggedRound, executed: dict[int, np.ndarray]) -> None:
        average = self._weights.average([executed[f] for f in sorted(executed)], logged.open.lines)
        if average.digest() != logged.apply.update:
            raise InvalidProofError(
                f"round {logged.open.round}: the update that was applied is not the average of the tasks' results",
                expected=average.digest(),
                actual=logged.apply.update,
            )


def _false_verdicts(logged: LoggedRound, executed: dict[int, np.ndarray]) -> list[FalseVerdict]:
    """Which results that the manager said were its own are not what executing the task gives."""
    digests = {fragment: crypto.blob_digest(executed[fragment].data) for fragment in logged.refereed}
    return [
        FalseVerdict(logged.open.round, fragment, logged.accepted[fragment], digest)
        for fragment, digest in digests.items()
        if logged.accepted[fragment] != digest
    ]


def logged_rounds(store: LogStore) -> list[LoggedRound]:
    """Every training round of a log, with who answered what."""
    state, found = RunState(), []
    for _, _, body in store.entries():
        entry = e.decode(body)
        state.apply(entry)
        current = state.current
        if isinstance(entry, e.Apply) and current is not None:
            fragments = range(len(current.open.fragments))
            found.append(
                LoggedRound(
                    current.open,
                    [current.fragment_results(fragment) for fragment in fragments],
                    [current.accepted(fragment) for fragment in fragments],
                    [state.task(fragment).randomness for fragment in fragments],
                    [v.fragment for v in current.verdicts.values() if v.outcome == "referee"],
                    entry,
                )
            )
    return found
