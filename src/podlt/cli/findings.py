"""The table of claims, filled: what holds, what fails, what was not checked. One form for all commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from podlt.cli.options import shown
from podlt.protocol.claims import Finding, Outcome, exit_code

_MARKS = {
    Outcome.HOLDS: "[green]holds[/green]",
    Outcome.FAILS: "[bold red]FAILS[/bold red]",
    Outcome.NOT_CHECKED: "[yellow]not checked[/yellow]",
}


def print_findings(findings: Sequence[Finding], out: Console) -> None:
    """Prints each claim with what checking it came to, and why where it does not hold."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    table.add_column(ratio=3)
    table.add_column(ratio=3, style="dim")
    for finding in findings:
        claim = finding.claim
        table.add_row(str(int(claim)), _MARKS[finding.outcome], claim.title, shown(_detail(finding)))
    out.print(table)
    for finding in findings:
        if finding.outcome is Outcome.FAILS:
            out.print(f"\n[bold red]fails[/bold red]: claim {int(finding.claim)}, {finding.claim.title}: ", end="")
            out.print(shown(finding.why), soft_wrap=True)


def _detail(finding: Finding) -> str:
    if finding.outcome is Outcome.FAILS:
        return finding.figure or "see below"
    if finding.outcome is Outcome.HOLDS:
        return finding.figure
    return f"{finding.why}: {finding.remedy}" if finding.remedy else finding.why


def conclusion(findings: Sequence[Finding]) -> str:
    """One line, in rich's markup: how many claims hold, fail, were not checked."""
    count = {outcome: sum(finding.outcome is outcome for finding in findings) for outcome in Outcome}
    parts = [f"{count[Outcome.HOLDS]} claims hold"]
    if count[Outcome.FAILS]:
        parts.append(f"[bold red]{count[Outcome.FAILS]} FAIL[/bold red]")
    if unchecked := count[Outcome.NOT_CHECKED]:
        asked = sum(f.asked and f.outcome is Outcome.NOT_CHECKED for f in findings)
        of_these = f" ({asked} of these asked for)" if asked else ""
        parts.append(f"[yellow]{unchecked} were not checked[/yellow]{of_these}")
    return ", ".join(parts)


def findings_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same as JSON: `claims`, one a row, and `exit_code`."""
    return {
        "exit_code": exit_code(findings),
        "claims": [
            {
                "claim": int(finding.claim),
                "name": finding.claim.name.lower(),
                "title": finding.claim.title,
                "bound_by": finding.claim.bound_by,
                "checked_by": finding.claim.command,
                "outcome": finding.outcome.value,
                "asked": finding.asked,
                "figure": finding.figure,
                "why": finding.why,
                "remedy": finding.remedy,
            }
            for finding in findings
        ],
    }
