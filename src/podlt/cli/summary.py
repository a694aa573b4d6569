"""The closing summary of a run, on a terminal."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from podlt.cli.options import shown

if TYPE_CHECKING:
    from podlt.report.summary import SimulatedCheater, Summary


UNPROVEN = "the manager's word"
"""What stands next to a figure that no entry of the log binds."""


def print_summary(run: Path, out: Console, *, following: bool = True) -> None:
    """Prints what a run came to.

    Args:
        following: whether to name the commands to try next.
    """
    from podlt.report.summary import summarise

    summary = summarise(run)
    out.print(f"\n[bold]{shown(str(run))}[/bold]: {shown(summary.status)}")
    for name, text in _facts(summary).items():
        out.print(f"  {name:10}  {text}", soft_wrap=True)
    if following:
        out.print("\n[dim]next:[/dim]")
        named = shown(shlex.quote(str(run)))
        for command, why in (
            ("verify", "check draws, signatures, verdicts, payments, terms and model; without PyTorch"),
            ("audit", "execute drawn tasks again, all with --fraction 1"),
            ("reproduce", "train it again, and say where it first differs, if it does"),
            ("bundle", "one file that a stranger can verify"),
            ("show", "look into rounds, workers, entries"),
            ("ledger", "who has earned what"),
            ("dashboard", "look at it on a page"),
            ("report", "the page in one file"),
        ):
            out.print(f"  podlt {command} {named}  [dim]{why}[/dim]", soft_wrap=True)
        out.print(
            "  podlt attest --new-key me.pem, then podlt attest "
            f"{named} --key me.pem  [dim]sign how its model was trained, for in-toto, SLSA and OpenSSF tools[/dim]",
            soft_wrap=True,
        )


def _facts(summary: Summary) -> dict[str, str]:
    from podlt.manager.events import metrics_text
    from podlt.words import counted

    facts = {}
    if summary.metrics:
        facts["test set"] = f"[bold]{metrics_text(summary.metrics)}[/bold] (logged; podlt audit evaluates it again)"
    facts["rounds"] = f"{summary.rounds:,} over {counted(summary.epochs, 'epoch')}, {summary.examples:,} examples"
    if summary.examples_per_second is not None:
        facts["time"] = (
            f"{summary.seconds:,.1f} s of rounds, {summary.examples_per_second:,.0f} examples/s ({UNPROVEN})"
        )
    facts["workers"] = (
        f"{summary.left} of {summary.workers} active at the end, {len(summary.convicted)} convicted, "
        f"{len(summary.evicted)} of them evicted"
    ) + (f", {counted(summary.withdrawn, 'withdrawal')}" if summary.withdrawn else "")
    facts["compared"] = (
        f"{counted(summary.proofs, 'shard')} whose results are all the same, {summary.disputes:,} in which "
        f"they differed or were missing; the manager executed {summary.executed:,} itself; "
        f"{summary.spare_share:.1%} of the tasks repeat another"
    )
    if summary.clipped:
        facts["clipped"] = f"{summary.clipped:,} updates were scaled down before they were averaged"
    if summary.proof_share is not None:
        facts[""] = (
            f"{summary.proof_share:.0%} of the processors' time went to hashes, signatures and the log ({UNPROVEN}; "
            "podlt bench overhead compares with and without)"
        )
    if summary.demonstration:
        facts["cheats"] = f"simulated by {counted(len(summary.cheaters), 'worker')}, for a demonstration ({UNPROVEN})"
        for cheater in summary.cheaters:
            facts[f"worker {cheater.worker}"] = _fate(cheater)
        facts["honest"] = _honest(summary)
    return facts


def _fate(cheater: SimulatedCheater) -> str:
    if cheater.began is None:
        return f"{cheater.kind}: never got to cheat"
    fakes = f"{cheater.applied} of its {cheater.fakes} fakes were applied"
    if cheater.convicted is None:
        return f"[bold red]{cheater.kind}: not caught[/bold red], {fakes}"
    paid = "nothing vested" if not cheater.vested else f"[bold red]{cheater.vested:,} credits vested[/bold red]"
    return (
        f"{cheater.kind}: caught in round {cheater.convicted}, its {_ordinal(cheater.lasted or 0)} as a cheater, and "
        f"{cheater.status}; {fakes}, {paid} since its first"
    )


def _honest(summary: Summary) -> str:
    if not summary.honest_convicted:
        return "no honest worker was convicted"
    names = ", ".join(str(worker) for worker in summary.honest_convicted)
    why = (
        "two cheaters gave the same fake and outvoted it. A vote of three cannot tell (docs/THREATS.md, 10)"
        if summary.votes
        else "the manager's execution gave another result: podlt audit says which is right"
    )
    return f"[bold red]convicted: {names}[/bold red]: {why}"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
