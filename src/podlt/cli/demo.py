"""`podlt demo`: the main job from end to end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer
from rich.console import Console

from podlt.cli.audit import audited, not_known, summary
from podlt.cli.dashboard import BrowserOption, DashboardOptions, companion
from podlt.cli.findings import print_findings
from podlt.cli.options import console, options_of, shown
from podlt.cli.report import write_report
from podlt.cli.run_flow import NO_PAGE, NOTHING_YET, perform
from podlt.cli.run_options import RunOptions
from podlt.cli.summary import print_summary
from podlt.cli.train import OwnMachines
from podlt.cli.verify import verified
from podlt.dashboard.claims import rows_of
from podlt.errors import ExitCode
from podlt.protocol.claims import Claim, Finding, Outcome

if TYPE_CHECKING:
    from podlt.dashboard.companion import DashboardCompanion

CHEATS = ["3:sign-flip"]


class _HasFindings(Protocol):
    @property
    def findings(self) -> Sequence[Finding]: ...


Found = TypeVar("Found", bound=_HasFindings)

FRACTION = 0.01
"""Of the tasks that the demonstration executes again."""


def demo(
    context: typer.Context,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The directory to make; runs/demo-TIME by default.")
    ] = None,
    recipe: Annotated[str, typer.Option(metavar="RECIPE", help="What to train.")] = "mnist-mlp",
    browser: BrowserOption = False,
) -> None:
    """Train MNIST over 50 workers, three of whom cheat; see them caught; verify, audit, write the report.

    Prints the address of a page that shows it as it happens, and then what checking it came to. Says of every claim of
    the run whether it holds, fails, or was not checked.

    Takes one or two minutes on two cores, one more where podlt never ran (kernels are compiled).
    `--recipe digits` takes seconds, and downloads nothing.

    Example: podlt demo
    """
    out, options = console(), options_of(context)
    options.remains = NOTHING_YET
    path = run if run is not None else Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    out.print(f"[bold]1. Train[/bold] {recipe} over untrusted workers; simulated cheats: {', '.join(CHEATS)}")
    with companion("run", DashboardOptions(dashboard=True, browser=browser), typer.echo) as page:
        perform(options, RunOptions(recipe, run=path), OwnMachines(cheat=CHEATS), page=page or NO_PAGE)
        print_summary(path, out, following=False)
        _print_damage(path, out)
        out.print("\n[bold]2. Verify[/bold] what the run claims, as anybody can who has its files; needs no PyTorch")
        _print_claims("verify", _checked("podlt verify", lambda: verified(path), page).findings, out)
        out.print(
            f"\n[bold]3. Audit[/bold]: execute {FRACTION:.0%} of the tasks again, drawn now, and all that convicted"
        )
        audit = _checked("podlt audit", lambda: audited(path, FRACTION), page)
        _print_claims("audit", audit.findings, out)
    for sentence in summary(audit):
        out.print(f"  {shown(sentence)}", soft_wrap=True)
    out.print("\n[bold]What nobody can know from that[/bold]")
    for sentence in not_known(audit):
        out.print(f"  {shown(sentence)}", soft_wrap=True)
    out.print("\n[bold]4. Look[/bold]")
    out.print(f"  report: {write_report(path)}  [dim]open it in a browser: the page, in one file[/dim]", soft_wrap=True)
    named = shown(shlex.quote(str(path)))
    for command, what in (
        (f"podlt dashboard {named}", "the page again"),
        (f"podlt report {named}", "writes that file again"),
        (f"podlt audit {named} --fraction 1", "all tasks; finds every fake that is in the model"),
        (f"podlt reproduce {named}", "train it again: it differs where fakes went in, and says where"),
        (f"podlt bundle {named}", "one file that a stranger can verify"),
        (f"podlt ledger {named}", "who has earned what"),
    ):
        out.print(f"  {command}  [dim]{what}[/dim]", soft_wrap=True)


def _checked(command: str, check: Callable[[], Found], page: DashboardCompanion | None) -> Found:
    """What a command that checks the run came to; the page shows it, and that it goes on."""
    if page is None:
        return check()
    page.say({"event": "checking", "by": command})
    found = check()
    page.say({"event": "checked", "by": command, "rows": rows_of(found.findings)})
    return found


def _print_damage(run: Path, out: Console) -> None:
    """What each cheater gained, and what it did to the model, before it was caught."""
    from podlt.manager.events import metrics_text
    from podlt.report.summary import summarise
    from podlt.report.words import cheater_text

    came_to = summarise(run)
    applied = sum(cheater.applied for cheater in came_to.cheaters)
    given = sum(cheater.fakes for cheater in came_to.cheaters)
    share = applied / max(1, came_to.updates)
    out.print(
        f"\n[bold]What the fakes did[/bold]: of {given} fakes, {applied} went into the model before their workers were "
        f"caught: {share:.2%} of its {came_to.updates:,} updates. They stay in it; with them, the test set gives "
        f"{metrics_text(came_to.metrics) or 'no figures'}.",
        soft_wrap=True,
    )
    for cheater in came_to.cheaters:
        out.print(f"  {shown(cheater_text(cheater))}", soft_wrap=True)


def _print_claims(command: str, findings: Sequence[Finding], out: Console) -> None:
    """Prints the claims that a command checks, and what they came to.

    Ends the demonstration if one fails; that fakes were applied is what a demonstration with cheaters shows.
    """
    print_findings([finding for finding in findings if finding.claim.command == command], out)
    if any(finding.outcome is Outcome.FAILS and finding.claim is not Claim.NO_FAKES for finding in findings):
        raise typer.Exit(ExitCode.FAILS)
