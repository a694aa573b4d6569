"""`podlt verify` and `podlt audit`: whether a run's log is a proof, and whether its results are what the work gives."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from podlt.cli.context import JsonOption, RunArgument, console, short, shown
from podlt.errors import UsageError

if TYPE_CHECKING:
    from podlt.training.audit import AuditReport
    from podlt.verify import Verification

UNSOUND = 1


def verify(
    run: RunArgument,
    as_json: JsonOption = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that check signatures; one a core by default.")
    ] = None,
    manager_key: Annotated[
        str | None, typer.Option(metavar="HEX", help="The key of the manager whose run this is said to be.")
    ] = None,
    head: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A signed tree head that you kept: the log must contain it.")
    ] = None,
) -> None:
    """Verify a run's proof, step by step: every draw, signature, verdict, payment and Merkle head. No PyTorch.

    Ends with 0 if everything holds, 1 if something does not (the first entry that is wrong is named), 3 if the log
    cannot be read. What is not shown here is that a result is right which nobody compared: see `podlt audit`.

    Example: podlt verify runs/mnist
    """
    trusted = _read_note(head) if head is not None else None
    key = _key(manager_key) if manager_key is not None else None
    if not run.is_dir():
        raise UsageError(f"{run}: no run here (expected a directory that `podlt train` made)")
    result = verified(run, jobs=jobs, manager_key=key, trusted_head=trusted, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(_document(result)))
    else:
        print_verification(result, console())
    if not result.ok:
        raise typer.Exit(UNSOUND)


def verified(
    run: Path,
    *,
    jobs: int | None = None,
    manager_key: bytes | None = None,
    trusted_head: str | None = None,
    quiet: bool = False,
) -> Verification:
    """The verification of a run's log; shows how far it is on a terminal."""
    from rich.progress import Progress

    from podlt.verify import verify as check

    with Progress(console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("verifying", total=None)
        return check(
            run,
            jobs=jobs,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            manager_key=manager_key,
            trusted_head=trusted_head,
        )


def print_verification(result: Verification, out: Console) -> None:
    """The numbered steps of docs/SPEC.md, and what they came to."""
    marks = {True: "[green]ok[/green]", False: "[red]FAIL[/red]", None: "[dim]-[/dim]"}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_column(ratio=3)
    table.add_column(ratio=2, style="dim")
    for report in result.steps:
        table.add_row(str(int(report.step)), marks[report.passed], report.step.title, shown(report.figure))
    out.print(table)
    if result.failure is not None:
        out.print(f"\n[bold red]unsound[/bold red] at step {result.failure.step}: ", end="")
        out.print(shown(str(result.failure)), soft_wrap=True)
        return
    rest = "" if result.finished else ", as far as it goes (the run is not finished)"
    out.print(f"\n[bold green]sound[/bold green]: the log is a proof{rest}")


def _document(result: Verification) -> dict[str, Any]:
    failure = result.failure
    return {
        "sound": result.ok,
        "finished": result.finished,
        "run": result.state.run.hex(),
        "entries": result.state.index,
        "rounds": result.state.round,
        "head": result.head.text() if result.head is not None else None,
        "steps": [
            {"step": int(r.step), "title": r.step.title, "passed": r.passed, "figure": r.figure} for r in result.steps
        ],
        "failure": None if failure is None else {"step": failure.step, "entry": failure.entry, "message": str(failure)},
    }


def _read_note(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise UsageError("--manager-key: expected 64 hexadecimal digits, as `podlt show RUN` prints them")
    return key


def audit(
    run: RunArgument,
    fraction: Annotated[float, typer.Option(help="The share of the run's tasks to execute again.")] = 0.05,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Repeat the draw of an earlier audit; by default unforeseeable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Execute drawn tasks of a run again, one whole round among them, and compare with the log. Needs PyTorch.

    Every update that was applied is applied again as well, so that the final parameters are known to follow from the
    results in the log. Ends with 1 if a result differs whose worker was not evicted for it.

    Example: podlt audit runs/mnist --fraction 0.05
    """
    from rich.progress import Progress

    from podlt.training.audit import audit as execute

    hidden = as_json or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task("auditing", total=None)
        found = execute(
            run, fraction, seed=seed, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        typer.echo(json.dumps(_audit_document(found)))
    else:
        _print_audit(found, console())
    if not found.sound:
        raise typer.Exit(UNSOUND)


def _print_audit(found: AuditReport, out: Console) -> None:
    out.print(f"{found.executed:,} of {found.tasks:,} tasks executed again (the draw's seed: {found.seed})")
    whole = ", ".join(str(number) for number in found.averaged) or "none"
    out.print(f"{found.rounds:,} updates applied again; averaged anew from all of their tasks: round {whole}")
    out.print(f"{found.refereed:,} results of the manager's own execution checked")
    caught = [m for m in found.mismatches if m.evicted]
    open_ = [m for m in found.mismatches if not m.evicted]
    if caught:
        workers = sorted({m.worker for m in caught})
        out.print(f"{len(caught)} results of workers that were evicted differ, as they should: workers {workers}")
    for m in open_:
        out.print(
            f"[red]round {m.round}, fragment {m.fragment}: worker {m.worker} logged {short(m.logged)}, "
            f"executing the task gives {short(m.executed)}, and it was never evicted[/red]"
        )
    for f in found.false_verdicts:
        out.print(
            f"[red]round {f.round}, fragment {f.fragment}: the manager said that it had executed the task, and that "
            f"{short(f.accepted)} came out; {short(f.executed)} does[/red]"
        )
    out.print("[bold green]sound[/bold green]" if found.sound else "[bold red]unsound[/bold red]")


def _audit_document(found: AuditReport) -> dict[str, Any]:
    return {
        "sound": found.sound,
        "tasks": found.tasks,
        "executed": found.executed,
        "rounds": found.rounds,
        "averaged": found.averaged,
        "seed": found.seed,
        "refereed": found.refereed,
        "false_verdicts": [
            {"round": f.round, "fragment": f.fragment, "accepted": f.accepted.hex(), "executed": f.executed.hex()}
            for f in found.false_verdicts
        ],
        "mismatches": [
            {
                "round": m.round,
                "fragment": m.fragment,
                "worker": m.worker,
                "evicted": m.evicted,
                "logged": m.logged.hex(),
                "executed": m.executed.hex(),
            }
            for m in found.mismatches
        ],
    }
