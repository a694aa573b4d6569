"""`audit`: verifies a run, then executes drawn tasks again and applies every update, and fills the table of claims."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
from torch import nn

from podlt import crypto
from podlt.dice import Dice
from podlt.errors import InvalidProofError, UsageError
from podlt.execution.task_executor import TaskExecutor, one_thread
from podlt.manager.amendments import Optimizers
from podlt.manager.audit.again import (
    CannotExecuteError,
    Given,
    executable,
    load_first,
    state_memory,
    why_not_here,
)
from podlt.manager.audit.aggregates import AggregateCheck
from podlt.manager.audit.conclude import conclude
from podlt.manager.audit.data import AuditData, find_data
from podlt.manager.audit.logged import LoggedRound, logged
from podlt.manager.audit.model import Rebuilt, check_start, model_remedy, rebuild
from podlt.manager.audit.program import check_program
from podlt.manager.audit.report import AuditReport
from podlt.manager.audit.subject import Subject
from podlt.manager.audit.walk import Walk, walked
from podlt.manager.metrics.evaluation import batch_examples
from podlt.manager.weights import Weights
from podlt.program.ir import Program
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.recipe import Recipe
from podlt.store.run_files import RunFiles, open_run_files
from podlt.verify import Verification, verify, verify_files

Progress = Callable[[str, int, int], None]
"""Called now and then with what goes on ("verifying", "auditing"), how far it is, and how far it goes."""


def audit(
    run: Path | str,
    fraction: float | None = None,
    *,
    round: int | None = None,
    aggregates: bool = False,
    seed: int | None = None,
    cache: Path | None = None,
    data: Path | str | None = None,
    code: Path | str | None = None,
    model: nn.Module | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    manager_key: bytes | None = None,
    trusted_head: str | None = None,
) -> AuditReport:
    """Verifies a run, and executes a drawn fraction of its tasks again, one whole round among them.

    Every conviction is executed again whatever the fraction, every shard is hashed, and every update that is here
    is applied again. With a fraction of 1 nothing is left out but what is not here.

    Args:
        run: its directory, or a bundle of it that was made with updates.
        fraction: of all tasks, in (0, 1]; 0.05 unless given, and none with `aggregates`.
        round: executes the tasks of this round, and no others: to repeat one conviction.
        aggregates: checks each round's average by the fingerprints that its workers signed, as far as the run has kept
            them: with nothing else asked for, no task is executed, and no data are needed.
        seed: of the draw; unforeseeable unless given.
        cache: where prepared data are stored.
        data: where the run's data are: the source file, or a folder with the recipe's files in it. Looked for where
            they were, here, and around the run unless given.
        code: a folder whose code the caller vouches for: a model of the recipe's author is built from it, and from
            nowhere else.
        model: the module itself, where the run was given it as an object: the caller vouches for it.
        jobs: how many processes check signatures; the machine's cores by default.
        progress: see `Progress`.
        manager_key: the manager that is expected.
        trusted_head: a signed tree head that somebody saved.

    Raises:
        UsageError: no such run, a fraction that is none, or a tree head or folder that is none.
        StorageError: the log, or a file, cannot be read.
        NotCheckedError: a newer podlt wrote the log.
    """
    if fraction is not None and not 0 < fraction <= 1:
        raise UsageError(f"fraction: expected above 0 and up to 1, got {fraction}")
    sums_only = aggregates and fraction is None and round is None
    part = fraction if fraction is not None else 0.0 if sums_only else 0.05
    given = Given.of(cache, data, code, model)
    chosen = secrets.randbits(63) if seed is None else seed
    tell = progress or (lambda what, done, total: None)

    def entries(done: int, total: int) -> None:
        tell("verifying", done, total)

    options = {"manager_key": manager_key, "trusted_head": trusted_head}
    run = Path(run)
    try:
        files = open_run_files(run)
    except InvalidProofError:  # `verify` says what is wrong with it
        found = verify(run, jobs=jobs, **options)  # type: ignore[arg-type]
        return conclude(found, part, chosen, why=_log_fails(found), aggregates=aggregates)
    with files, one_thread():
        found = verify_files(files, jobs=jobs, progress=entries, **options)  # type: ignore[arg-type]
        if why := _log_fails(found):
            return conclude(found, part, chosen, why=why, aggregates=aggregates)
        if round is not None and not 0 <= round < found.state.round:
            raise UsageError(f"--round {round}: the run has {found.state.round:,} rounds, numbered from 0")
        return _Auditor(files, found, part, chosen, given, round, aggregates).report(tell)


def _log_fails(found: Verification) -> str:
    """Why nothing can be executed again: a claim about the log fails; "" if none does."""
    fails = next((f for f in found.findings if f.outcome is Outcome.FAILS and f.claim < Claim.MODEL), None)
    return f"the log fails at claim {int(fails.claim)}" if fails is not None else ""


class _Auditor:
    """One audit of a run whose log holds."""

    def __init__(
        self,
        files: RunFiles,
        found: Verification,
        fraction: float,
        seed: int,
        given: Given,
        round: int | None,
        aggregates: bool,
    ) -> None:
        assert found.state.begin is not None
        self._files, self._found, self._begin = files, found, found.state.begin
        self._fraction, self._seed = fraction, seed
        self._given, self._round, self._aggregates = given, round, aggregates

    def report(self, tell: Progress) -> AuditReport:
        """Checks everything that can be."""
        try:
            recipe, program, optimizers = executable(self._found)
        except CannotExecuteError as error:
            return self._nothing(error.why, error.remedy)
        except InvalidProofError as error:
            fault = Finding(Claim.RESULTS, Outcome.FAILS, why=f"nobody can have executed it: {error}")
            return self._nothing("program.json is no program", known=[fault])
        with state_memory(program) as region:
            return self._audited(recipe, program, Weights(program, optimizers.after(0), region.bytes), optimizers, tell)

    def _nothing(self, why: str, remedy: str = "", known: list[Finding] | None = None) -> AuditReport:
        report = conclude(
            self._found,
            self._fraction,
            self._seed,
            why=why,
            remedy=remedy,
            known=known or [],
            aggregates=self._aggregates,
        )
        return report if self._executes else _of_sums_alone(report)

    @property
    def _executes(self) -> bool:
        """Whether tasks are executed."""
        return self._fraction > 0 or self._round is not None

    def _audited(
        self, recipe: Recipe, program: Program, weights: Weights, optimizers: Optimizers, tell: Progress
    ) -> AuditReport:
        tell("preparing the data", 0, 0)
        data = self._find_data(recipe)
        start, known, rebuilt = self._start(recipe, weights, data)
        rebuilt.examples = batch_examples(program)
        same = check_program(recipe, program, weights, data.train, rebuilt, self._remedy(recipe))
        drawn, tasks, rounds = self._draw()
        subject = Subject(
            begin=self._begin,
            files=self._files,
            convicted=frozenset(n for n, w in self._found.state.workers.items() if w.convictions),
            train=data.train,
            test=data.test,
            validation=data.validation,
            no_data=data.why,
            no_execution=why_not_here(program, self._begin),
            rebuilt=rebuilt,
            optimizers=optimizers,
        )
        execute = TaskExecutor(program, recipe.training.local_steps, recipe.training.local_lr)
        checked = (
            AggregateCheck(self._files, weights, self._found.state.run, self._keys()) if self._aggregates else None
        )
        walk = Walk(subject, weights, execute, drawn, known=known, aggregates=checked)
        for done in walked(self._logged(), walk):
            tell("auditing", done, rounds)
        remedies = {"data": f"podlt audit {self._files.path} --data PATH", "code": self._remedy(recipe)}
        report = conclude(
            self._found,
            self._fraction,
            self._seed,
            known=[data.finding, start, same],
            walk=walk,
            tasks=tasks,
            rounds=rounds,
            stock=recipe.arithmetic == "stock",
            remedies=remedies,
            subject=subject,
            aggregates=self._aggregates,
        )
        return report if self._executes else _of_sums_alone(report)

    def _keys(self) -> dict[int, bytes]:
        return {number: worker.key for number, worker in self._found.state.workers.items()}

    def _find_data(self, recipe: Recipe) -> AuditData:
        """The run's data; none where nothing is executed."""
        if self._executes:
            return find_data(recipe, self._begin, self._files, self._given.cache, self._given.data)
        why = "no task was to be executed"
        return AuditData(Finding(Claim.DATA, Outcome.NOT_CHECKED, why=why, asked=False), why=why)

    def _start(self, recipe: Recipe, weights: Weights, data: AuditData) -> tuple[Finding, bool, Rebuilt]:
        """Claim START, whether `weights` now hold the first parameters, and the model."""
        info = data.train.info if data.train is not None else None
        rebuilt = rebuild(recipe, weights, info, self._given.code, self._given.model)
        first = load_first(self._files, self._begin, weights)
        finding = check_start(recipe, self._begin, weights, first.missing, rebuilt, self._remedy(recipe))
        if first.fault:
            finding = Finding(Claim.START, Outcome.FAILS, why=first.fault)
        return finding, weights.digest() == self._begin.parameters, rebuilt

    def _remedy(self, recipe: Recipe) -> str:
        return model_remedy(f"podlt audit {self._files.path}", recipe)

    def _logged(self) -> Iterator[LoggedRound | e.Measure]:
        with closing(self._files.log()) as log:
            yield from logged(log)

    def _draw(self) -> tuple[dict[int, set[int]], int, int]:
        """Which shards of which rounds are executed again, of how many tasks, and how many rounds there are.

        One round is whole among them, and so is every conviction. Where a round is asked for, it is that one alone.
        """
        tasks: list[tuple[int, int]] = []
        drawn: dict[int, set[int]] = {}
        training: list[int] = []
        rounds = 0
        for item in self._logged():
            if isinstance(item, e.Measure):
                continue
            tasks += [(rounds, shard) for shard in item.results]
            if item.apply is not None:
                training.append(rounds)
            if self._round is not None or not self._fraction:
                if item.number == self._round:
                    drawn[rounds] = set(item.results)
            elif convicting := item.convicting():
                drawn[rounds] = set(convicting)
            rounds += 1
        if self._round is not None or not self._fraction:
            return drawn, len(tasks), rounds
        dice = Dice(crypto.digest("audit/1", self._seed.to_bytes(8, "big"), self._found.state.run))
        whole = training[dice.below(len(training))] if training else -1
        chosen = dice.shuffle(tasks)[: max(1, round(self._fraction * len(tasks)))] if self._fraction < 1 else tasks
        for place, shard in [*chosen, *(task for task in tasks if task[0] == whole)]:
            drawn.setdefault(place, set()).add(shard)
        return drawn, len(tasks), rounds


_WITHOUT_TASKS = (Claim.LOSSES, Claim.PARAMETERS, Claim.AGGREGATES)
"""What an audit of sums alone was asked for, besides verifying."""


def _of_sums_alone(report: AuditReport) -> AuditReport:
    """The report, with the claims that would take executing tasks as not asked for."""
    findings = [
        msgspec.structs.replace(finding, asked=False)
        if finding.claim.command == "audit" and finding.claim not in _WITHOUT_TASKS
        else finding
        for finding in report.findings
    ]
    return msgspec.structs.replace(report, findings=findings)
