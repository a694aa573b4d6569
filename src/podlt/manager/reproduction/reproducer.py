"""`reproduce`: begins with the recipe's first parameters, and trains every round of a log again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import torch
from torch import nn

from podlt.errors import InvalidProofError, UsageError
from podlt.execution.task_executor import TaskExecutor, one_thread
from podlt.manager.audit.again import (
    CannotExecuteError,
    Given,
    executable,
    load_first,
    state_memory,
    why_not_here,
)
from podlt.manager.audit.data import AuditData, find_data
from podlt.manager.audit.logged import logged
from podlt.manager.audit.model import Rebuilt, check_start, model_remedy, rebuild
from podlt.manager.audit.program import check_program
from podlt.manager.metrics.evaluation import batch_examples
from podlt.manager.reproduction.execution import round_executor
from podlt.manager.reproduction.report import Difference, Reproduction
from podlt.manager.reproduction.rounds import RoundTrainer
from podlt.manager.weights import Weights
from podlt.model_file import write_model
from podlt.program.ir import Program
from podlt.protocol import entries as e
from podlt.protocol.claims import Outcome
from podlt.recipe import Recipe
from podlt.store.run_files import RunFiles, open_run_files
from podlt.verify import Verification, verify_files

Progress = Callable[[int, int], None]
"""Called after each round with how many were trained again, and of how many."""


_COMMAND = "podlt reproduce RUN"


def reproduce(
    run: Path | str,
    *,
    rounds: int | None = None,
    out: Path | None = None,
    cache: Path | None = None,
    data: Path | str | None = None,
    code: Path | str | None = None,
    model: nn.Module | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Trains a run again, and compares each round with the log; stops at the first that differs.

    Needs no worker, no key and no update of the run. What may be another in each run (salts, keys, who held which
    task) is no part of what is compared.

    Args:
        run: its directory, or a bundle.
        rounds: how many to train again; all by default.
        out: where the trained model is written, if all was the same.
        cache: of prepared data.
        data: where the run's data are; else they are looked for as the audit does.
        code: the folder of the model's code, which the caller vouches for.
        model: the module itself, where the run was given it as an object.
        jobs: in how many processes tasks are executed; the machine's cores by default.
        progress: see `Progress`.

    Raises:
        UsageError: there is no run, or a path is wrong.
        InvalidProofError: the log, or a document, does not hold.
        StorageError: a file cannot be read or written.
        EngineError: there is not enough memory.
    """
    given = Given.of(cache, data, code, model)
    if out is not None and out.exists():
        raise UsageError(f"--out {out}: the file exists")
    with open_run_files(Path(run)) as files, one_thread():
        found = verify_files(files)
        if found.failure is not None:
            raise InvalidProofError(f"{run}: the run does not verify: claim {found.failure.step}: {found.failure}")
        entries = _numbered(files)
        report = Reproduction(found, len(entries.applied))
        try:
            return _Reproducer(files, found, report, entries, given, jobs or _cores()).train(rounds, out, progress)
        except CannotExecuteError as error:
            return msgspec.structs.replace(report, not_checked=str(error))


class _Reproducer:
    """One run, trained again."""

    def __init__(
        self,
        files: RunFiles,
        found: Verification,
        report: Reproduction,
        entries: _Numbered,
        given: Given,
        jobs: int,
    ) -> None:
        assert found.state.begin is not None
        self._files, self._found, self._begin, self._report = files, found, found.state.begin, report
        self._entries, self._given, self._jobs = entries, given, jobs

    def train(self, rounds: int | None, out: Path | None, progress: Progress | None) -> Reproduction:
        """Trains, and reports."""
        recipe, program, optimizers = executable(self._found)
        if why := why_not_here(program, self._begin):
            raise CannotExecuteError(why)
        data = find_data(recipe, self._begin, self._files, self._given.cache, self._given.data)
        if data.train is None:
            raise CannotExecuteError(data.finding.why or data.why)
        convicted = frozenset(n for n, worker in self._found.state.workers.items() if worker.convictions)
        with state_memory(program) as region:
            weights = Weights(program, optimizers.after(0), region.bytes)
            start, rebuilt = self._start(recipe, weights, data.train.info)
            if isinstance(start, Difference):
                return msgspec.structs.replace(self._report, difference=start)
            rebuilt.examples = batch_examples(program)
            same = check_program(recipe, program, weights, data.train, rebuilt, model_remedy(_COMMAND, recipe))
            tasks = TaskExecutor(program, recipe.training.local_steps, recipe.training.local_lr)
            last = self._report.rounds if rounds is None else min(rounds, self._report.rounds)
            most = self._entries.shards
            with round_executor(self._begin.seed, data.train, weights, tasks, most, self._jobs) as executor:
                trainer = RoundTrainer(
                    self._begin,
                    weights,
                    executor,
                    optimizers,
                    self._files,
                    convicted,
                    _causes(recipe),
                    self._entries.applied,
                    recipe.arithmetic == "stock",
                )
                for done in self._rounds(trainer, last, rebuilt, data):
                    if progress is not None:
                        progress(done, last)
            report = trainer.report(msgspec.structs.replace(self._report, start=start, program=same))
            if data.finding.outcome is Outcome.FAILS and report.difference is None and not report.not_checked:
                report = msgspec.structs.replace(report, not_checked=data.finding.why)
            if trainer.unmeasured:
                notes = [*report.notes, f"figures on the test set were not evaluated: {trainer.unmeasured}"]
                report = msgspec.structs.replace(report, notes=notes)
            return self._concluded(report, recipe, program, weights, last, out)

    def _start(self, recipe: Recipe, weights: Weights, info: object) -> tuple[str | Difference, Rebuilt]:
        """Puts the first parameters into `weights`; returns where they come from, and the recipe's model."""
        first, known = load_first(self._files, self._begin, weights), info if isinstance(info, dict) else None
        rebuilt = rebuild(recipe, weights, known, self._given.code, self._given.model)
        finding = check_start(recipe, self._begin, weights, first.missing, rebuilt, model_remedy(_COMMAND, recipe))
        if finding.outcome is Outcome.FAILS:
            what = f"the first parameters are not those of the recipe's seed: {finding.why}"
            return Difference(0, 0, what, [], ["a manager that began with others (claim 17)"], []), rebuilt
        if weights.digest() != self._begin.parameters:
            why = finding.why or first.fault or first.missing
            raise CannotExecuteError(f"the first parameters cannot be had here: {why}", finding.remedy)
        if finding.outcome is Outcome.NOT_CHECKED:
            return f"the run's first checkpoint; not worked out from the seed: {finding.why}", rebuilt
        return finding.figure, rebuilt

    def _rounds(self, trainer: RoundTrainer, last: int, rebuilt: Rebuilt, data: AuditData) -> Iterator[int]:
        """Trains rounds until one differs; gives after each how many there were."""
        done = 0
        with closing(self._files.log()) as log:
            for item in logged(log):
                if not trainer.goes_on:
                    return
                if isinstance(item, e.Measure):
                    trainer.measure(item, self._entries.measures[item.epoch], rebuilt, data)
                elif done == last:
                    return
                elif item.apply is not None:
                    trainer.round(item, item.apply)
                    done += 1
                    yield done

    def _concluded(
        self, report: Reproduction, recipe: Recipe, program: Program, weights: Weights, last: int, out: Path | None
    ) -> Reproduction:
        notes = list(report.notes)
        if (said := recipe.torch) and said != str(torch.__version__):
            notes.append(f"trained by PyTorch {said}, trained again by {torch.__version__}")
        if report.difference is None and last < report.rounds and not report.not_checked:
            why = f"asked for {last:,} of {report.rounds:,} rounds"
            return msgspec.structs.replace(report, notes=notes, not_checked=why)
        if report.difference is not None or report.not_checked:
            return msgspec.structs.replace(report, notes=notes)
        if out is not None:
            write_model(out, program, weights.state.data)
            notes.append(f"the trained model: {out}")
        end = self._found.state.parameters
        assert weights.digest() == end, "every round's parameters were the log's"
        has = self._files.model()
        if has is not None:
            has.close()  # claim 15: its bytes follow from the last parameters
        model = "model.safetensors is these parameters, byte for byte" if has is not None else ""
        return msgspec.structs.replace(report, notes=notes, model=model or f"parameters {end.hex()[:16]}")


class _Numbered(msgspec.Struct, frozen=True):
    """The numbers of entries: of those that applied an update, by round, and those with figures, by epoch.

    Attributes:
        shards: the most that a round has.
    """

    applied: dict[int, int]
    measures: dict[int, int]
    shards: int = 0


def _numbered(files: RunFiles) -> _Numbered:
    found, shards = _Numbered({}, {}), 0
    with closing(files.log()) as log:
        for number, _, body in log.entries():
            entry = e.decode(body)
            if isinstance(entry, e.Apply):
                found.applied[entry.round] = number
            elif isinstance(entry, e.Measure):
                found.measures[entry.epoch] = number
            elif isinstance(entry, e.Open):
                shards = max(shards, len(entry.shards))
    return msgspec.structs.replace(found, shards=shards)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _causes(recipe: Recipe) -> list[str]:
    """What an accepted result that nobody was convicted for may come from, likeliest first."""
    causes = []
    if recipe.torch and recipe.torch != str(torch.__version__):
        causes.append(
            f"another PyTorch ({recipe.torch} then, {torch.__version__} here), if it draws or rounds otherwise"
        )
    causes.append("a fake that nobody compared: podlt audit RUN --round N names whose result it was")
    causes.append("another podlt than the one that trained it, with the same arithmetic but other code around it")
    return causes
