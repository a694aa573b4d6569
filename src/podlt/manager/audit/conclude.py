"""From what an audit tallied to the table of claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podlt.manager.audit.report import AuditReport
from podlt.manager.audit.subject import Subject
from podlt.manager.audit.tally import rounds_text, sentences
from podlt.manager.audit.walk import Walk
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.verify import Verification

AGGREGATE_REMEDY = "podlt audit RUN --round N executes all tasks of a round"

_ROUNDS_OTHERWISE = (
    "by PyTorch's own arithmetic, which rounds otherwise on this machine than where the run was trained: nothing that "
    "was executed here has the bits of any result, and averages are equal up to rounding"
)
_STOCK_REMEDY = 'audit it on a machine like those that trained it, or train with arithmetic = "exact"'


def conclude(
    found: Verification,
    fraction: float,
    seed: int,
    *,
    why: str = "",
    remedy: str = "",
    known: Sequence[Finding] = (),
    walk: Walk | None = None,
    tasks: int = 0,
    rounds: int = 0,
    stock: bool = False,
    remedies: Mapping[str, str] | None = None,
    subject: Subject | None = None,
    aggregates: bool = False,
) -> AuditReport:
    """The report of an audit.

    Args:
        found: what verifying came to; its findings are taken over.
        fraction: of the tasks, as it was asked for.
        seed: of the draw.
        why: why nothing was executed, if nothing was.
        remedy: what would help.
        known: findings of the audit that are there already.
        walk: what the walk through the rounds tallied.
        tasks: how many there are.
        rounds: how many.
        stock: whether the program's arithmetic is PyTorch's own.
        remedies: the commands that would bring "data" and "code".
        subject: what was audited.
        aggregates: whether averages were to be checked by fingerprints.
    """
    findings = {finding.claim: finding for finding in found.findings if finding.claim.command == "verify"}
    findings |= {finding.claim: finding for finding in known}
    if walk is not None and subject is not None:
        made = _Findings(walk, subject, tasks, rounds, remedies or {}).all()
        if stock and _is_other_rounding(walk):
            for claim in (Claim.RESULTS, Claim.CONVICTIONS, Claim.AVERAGES, Claim.NO_FAKES):
                if walk.tallies[claim].faults or walk.tallies[claim].missing or claim is Claim.NO_FAKES:
                    made[claim] = Finding(
                        claim, Outcome.NOT_CHECKED, made[claim].figure, _ROUNDS_OTHERWISE, _STOCK_REMEDY
                    )
        findings |= made
    if not aggregates:
        findings[Claim.AGGREGATES] = Finding(
            Claim.AGGREGATES, Outcome.NOT_CHECKED, why="it was not asked for", remedy="--aggregates", asked=False
        )
    for claim in Claim:
        findings.setdefault(claim, Finding(claim, Outcome.NOT_CHECKED, why=why, remedy=remedy))
    table = [findings[claim] for claim in Claim]
    if walk is None:
        return AuditReport(table, found, fraction, seed)
    return AuditReport(
        findings=table,
        verification=found,
        fraction=fraction,
        seed=seed,
        tasks=tasks,
        executed=walk.executed,
        rounds=walk.replay.applied_again,
        averaged=walk.replay.averaged,
        not_averaged=walk.replay.not_averaged,
        mismatches=walk.mismatches,
        false_convictions=walk.false_convictions,
        fakes=walk.fakes,
    )


def _is_other_rounding(walk: Walk) -> bool:
    """Whether this machine only rounds otherwise: no result has its bits, and every average that was applied is near.

    Fakes that all agree are not near, so that they are not excused by it.
    """
    return bool(walk.mismatches) and not walk.agreeing and bool(walk.replay.near) and all(walk.replay.near)


def _of_a_part(finding: Finding) -> Finding:
    """A claim of which a drawn part was checked, as was asked for: a part that holds is not the whole."""
    if finding.outcome is not Outcome.HOLDS:
        return finding
    why = f"{finding.figure}, and hold; the others were not checked"
    return Finding(finding.claim, Outcome.NOT_CHECKED, finding.figure, why, "--fraction 1", asked=False)


class _Findings:
    """The findings of the walk."""

    def __init__(self, walk: Walk, subject: Subject, tasks: int, rounds: int, remedies: Mapping[str, str]) -> None:
        self._walk, self._subject = walk, subject
        self._tasks, self._rounds, self._remedies = tasks, rounds, remedies

    def all(self) -> dict[Claim, Finding]:
        """One for each claim that the walk is about."""
        walk, tallies = self._walk, self._walk.tallies
        convictions = tallies[Claim.CONVICTIONS].done
        figures = {
            Claim.SHARDS: f"{tallies[Claim.SHARDS].done:,} shards of {self._rounds:,} rounds",
            Claim.RESULTS: f"{walk.executed:,} of {self._tasks:,} tasks executed again",
            Claim.CONVICTIONS: f"{convictions:,} convictions and executions of the manager's, executed again",
            Claim.AVERAGES: f"{len(walk.replay.averaged):,} of {walk.applied:,} averages worked out again",
            Claim.LOSSES: f"{tallies[Claim.LOSSES].done:,} of {walk.applied:,} losses",
            Claim.PARAMETERS: f"{walk.replay.applied_again:,} of {walk.applied:,} updates applied again",
        }
        found = {claim: tallies[claim].finding(claim, figure, self._remedy(claim)) for claim, figure in figures.items()}
        found[Claim.NO_FAKES] = self._fakes()
        found[Claim.FIGURES] = self._figures()
        if walk.aggregates is not None:
            figure = f"{walk.aggregates.tally.done:,} of {walk.applied:,} averages, by fingerprints"
            found[Claim.AGGREGATES] = walk.aggregates.tally.finding(Claim.AGGREGATES, figure, AGGREGATE_REMEDY)
        whole = {
            Claim.RESULTS: walk.executed == self._tasks,
            Claim.CONVICTIONS: not walk.skipped_convictions,
            Claim.AVERAGES: len(walk.replay.averaged) == walk.applied,
            Claim.NO_FAKES: walk.fakes_among == walk.applied_tasks,
        }
        return found | {claim: _of_a_part(found[claim]) for claim, is_whole in whole.items() if not is_whole}

    def _remedy(self, claim: Claim) -> str:
        """What would check a claim that was not: the data where those are missing, else the files."""
        if claim in (Claim.LOSSES, Claim.PARAMETERS):
            return "give the run with all of its updates, or a bundle made with --updates"
        if self._subject.train is None:
            return self._remedies.get("data", "")
        return ""

    def _fakes(self) -> Finding:
        """Claim NO_FAKES: what executing shows of the results that went into the model."""
        walk, tally = self._walk, self._walk.tallies[Claim.NO_FAKES]
        figure = f"{walk.fakes_among:,} of {walk.applied_tasks:,} results executed again"
        if walk.fakes:
            workers = sorted({worker for fake in walk.fakes for worker in fake.workers})
            count = len(walk.fakes)
            convicted = sum(worker in self._subject.convicted for worker in workers)
            caught = "they were caught" if len(workers) != 1 else "it was caught"
            when = f", applied before {caught}" if workers and convicted == len(workers) else ""
            plural = "s" * (count != 1)
            whose = f" of worker{'s' * (len(workers) != 1)} {', '.join(map(str, workers))}" if workers else ""
            why = (
                f"{count:,} fake{plural}{whose} {'are' if count != 1 else 'is'} in the model{when}: "
                f"{rounds_text(fake.round for fake in walk.fakes)}. What was applied in those rounds is the average "
                "with their fake, or anything else: nobody can tell, as a fake's bytes are nowhere"
            )
            return Finding(Claim.NO_FAKES, Outcome.FAILS, f"{count:,} among {walk.fakes_among:,} results", why)
        missing = self._walk.tallies[Claim.RESULTS].missing
        if missing:
            tally.missing = missing
        return tally.finding(Claim.NO_FAKES, figure, self._remedy(Claim.NO_FAKES))

    def _figures(self) -> Finding:
        """Claim FIGURES."""
        tally, subject = self._walk.tallies[Claim.FIGURES], self._subject
        if subject.begin.test == e.NO_TEST:
            return Finding(Claim.FIGURES, Outcome.HOLDS, "there is no test set, and no figure")
        how = "the same bits" if self._walk.figures_equal else "within what plain PyTorch's rounding can differ by"
        figure = f"{tally.done:,} figures evaluated again: {how}" if tally.done else "no figure"
        if tally.faults:
            return Finding(
                Claim.FIGURES, Outcome.FAILS, f"{tally.done:,} figures evaluated again", sentences(tally.faults)
            )
        if tally.missing:
            remedy = self._remedies.get("data" if subject.test is None else "code", "")
            metrics = subject.rebuilt.metrics.missing
            if subject.test is not None and subject.rebuilt.loss is not None and not metrics:
                remedy = self._remedy(Claim.PARAMETERS)
            return Finding(
                Claim.FIGURES, Outcome.NOT_CHECKED, figure if tally.done else "", "; ".join(tally.missing), remedy
            )
        return Finding(Claim.FIGURES, Outcome.HOLDS, figure)
