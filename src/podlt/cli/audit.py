"""`podlt audit`: whether a run's results are what its tasks give, by executing them again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from podlt.cli.attest import write_summary
from podlt.cli.findings import conclusion, findings_document, print_findings
from podlt.cli.options import CodeOption, DataOption, JsonOption, RunFilesArgument, console, print_facts, shown
from podlt.cli.predict import ModelOption
from podlt.cli.signing import (
    KeylessOption,
    KeyOption,
    StagingOption,
    SummaryOption,
    TokenOption,
    TrustOption,
    signer_of,
)
from podlt.cli.verify import read_key, read_note, run_facts, unknown

if TYPE_CHECKING:
    from podlt.attestation.summary import Level
    from podlt.manager.audit import AuditReport


def audit(
    run: RunFilesArgument,
    fraction: Annotated[
        float | None,
        typer.Option(
            help="The share of the run's tasks to execute again; 1 for all, leaving nothing out; 0.05 by default.",
            show_default=False,
        ),
    ] = None,
    round: Annotated[
        int | None,
        typer.Option("--round", min=0, metavar="N", help="Execute the tasks of this round only: what it convicted."),
    ] = None,
    aggregates: Annotated[
        bool,
        typer.Option(
            "--aggregates",
            help="Check each round's average by its workers' fingerprints. Executes no task unless --fraction or "
            "--round is given; needs no data.",
        ),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Repeat the draw of an earlier audit; by default unforeseeable."),
    ] = None,
    data: DataOption = None,
    code: CodeOption = None,
    model: ModelOption = None,
    head: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A tree head that you saved: the log must continue it.")
    ] = None,
    manager_key: Annotated[
        str | None, typer.Option(metavar="HEX", help="The key of the manager whose run this is said to be.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that check signatures; one a core by default.")
    ] = None,
    summary: SummaryOption = None,
    key: KeyOption = None,
    keyless: KeylessOption = False,
    token: TokenOption = None,
    staging: StagingOption = False,
    trust_config: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Execute tasks of a run again, and check what a log alone cannot show. Needs PyTorch and the data.

    RUN is a run's directory, or a bundle made with updates (`podlt bundle`). It is verified first, as `podlt verify`
    does. Then drawn tasks are executed again, one whole round among them, and every conviction whatever the draw; every
    shard of the data is hashed, every update applied again, the figures on the test set are evaluated again. With
    --fraction 1 nothing is left out; with --round N the tasks of that round are executed and no others, which repeats
    a conviction (podlt show RUN names them). Every claim is printed with one of three outcomes: it holds, it fails, or
    it was not checked, and what would check it.

    The data are looked for where they were, here, and around the run; --data says where else. A recipe may name a model
    of its author's: that is code, which is run only if it lies in the folder that you give by --code, after you have
    read it. Where a Python program gave its model as an object, --model names what makes that.

    Ends with 0 if all that was asked for holds, 1 if something fails, 4 if nothing fails but something was missing.

    Examples: podlt audit runs/mnist

              podlt audit runs/mnist --round 17    whether worker 3, whom round 17 convicted, did cheat

              podlt audit runs/mnist --aggregates    every average, if the manager kept the sums (--aggregates)

              podlt audit mine.podlt --fraction 1 --data ~/data/mine.csv --code ~/models
    """
    from podlt.manager.trained import module_of

    trusted = read_note(head) if head is not None else None
    manager = read_key(manager_key) if manager_key is not None else None
    signer = None
    if summary is not None:
        signer = signer_of(key, keyless, token=token, staging=staging, trust_config=trust_config)
    found = audited(
        run,
        fraction,
        round=round,
        aggregates=aggregates,
        seed=seed,
        data=data,
        code=code,
        model=module_of(model) if model is not None else None,
        jobs=jobs,
        manager_key=manager,
        trusted_head=trusted,
        quiet=as_json,
    )
    if as_json:
        typer.echo(json.dumps(audit_document(found)))
    else:
        print_audit(found, console(), drawn=round is None)
    if summary is not None and signer is not None:
        level: Level = "PODLT_AUDITED_ALL" if 0 < found.tasks == found.executed else "PODLT_AUDITED_SAMPLE"
        write_summary(summary, run, found.findings, found.verification, ["PODLT_VERIFIED", level], signer)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def audited(run: Path, fraction: float | None, *, quiet: bool = False, **options: Any) -> AuditReport:
    """The audit of a run; shows how far it is on a terminal. Options as those of `podlt.audit`."""
    from rich.progress import Progress

    from podlt.manager.audit import audit as execute

    with Progress(console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("verifying", total=None)
        return execute(
            run,
            fraction,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None),
            **options,
        )


def print_audit(found: AuditReport, out: Console, *, drawn: bool = True) -> None:
    """Whose run it is, the claims with what checking them came to, and what was executed, in plain words.

    Args:
        drawn: whether what was executed was drawn, and is repeated by a seed.
    """
    print_facts(run_facts(found.verification), out)
    out.print()
    print_findings(found.findings, out)
    out.print(f"\n{conclusion(found.findings)}", soft_wrap=True)
    for sentence in summary(found, drawn=drawn):
        out.print(f"  {shown(sentence)}", soft_wrap=True)
    for sentence in not_known(found):
        out.print(f"  [dim]not known: {shown(sentence)}[/dim]", soft_wrap=True)


def not_known(found: AuditReport) -> list[str]:
    """What no audit can show, in sentences."""
    every = 0 < found.tasks == found.executed
    return unknown(found.verification, executed=found.executed > 0, all_executed=every)


def summary(found: AuditReport, *, drawn: bool = True) -> list[str]:
    """What was done, and what it showed, in sentences. Arguments as `print_audit`."""
    from podlt.manager.audit import rounds_text

    sentences = [
        f"{found.executed:,} of {found.tasks:,} tasks executed again"
        f"{f' (repeat the draw with --seed {found.seed})' if drawn else ''}; "
        f"{found.rounds:,} updates applied again, {len(found.averaged):,} of them averaged anew from their tasks"
    ]
    caught = sorted({m.worker for m in found.mismatches if m.convicted})
    if caught:
        count = sum(m.convicted for m in found.mismatches)
        who = f"worker{'s' * (len(caught) != 1)} {', '.join(map(str, caught))}"
        sentences.append(f"results that differ: {count:,}, of {who}, convicted by the run itself")
    if found.fakes:
        sentences.append(
            f"{len(found.fakes):,} of these were in the model before that: fakes that nobody compared in their round "
            f"({rounds_text(fake.round for fake in found.fakes)})"
        )
    for why in dict.fromkeys(item.why for item in found.not_averaged):
        rounds = rounds_text(item.round for item in found.not_averaged if item.why == why)
        sentences.append(f"not averaged anew: {rounds}: {why}")
    return sentences


def audit_document(found: AuditReport) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "holds": found.ok,
        **findings_document(found.findings),
        **run_facts(found.verification),
        "fraction": found.fraction,
        "seed": found.seed,
        "tasks": found.tasks,
        "executed": found.executed,
        "rounds": found.rounds,
        "averaged": found.averaged,
        "not_averaged": [{"round": item.round, "why": item.why} for item in found.not_averaged],
        "mismatches": [
            {
                "round": m.round,
                "shard": m.shard,
                "worker": m.worker,
                "convicted": m.convicted,
                "logged": m.logged.hex(),
                "executed": m.executed.hex(),
            }
            for m in found.mismatches
        ],
        "false_convictions": [
            {
                "round": f.round,
                "shard": f.shard,
                "outcome": f.outcome,
                "accepted": f.accepted.hex(),
                "executed": f.executed.hex(),
                "innocent": f.innocent,
            }
            for f in found.false_convictions
        ],
        "fakes": [{"round": f.round, "shard": f.shard, "workers": f.workers} for f in found.fakes],
        "not_known": not_known(found),
    }
