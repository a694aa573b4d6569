"""`podlt bundle`: a run in one file that can be mailed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from podlt.cli.options import JsonOption, RunFilesArgument, console, shown
from podlt.store.run_names import BUFFERS, MODEL, PROGRAM, RECIPE

if TYPE_CHECKING:
    from podlt.store.bundle import BundleReport

SUFFIX = ".podlt"


def bundle(
    run: RunFilesArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to; the run's name with .podlt, next to the run, by default."),
    ] = None,
    updates: Annotated[
        bool,
        typer.Option("--updates", help="With the first parameters and every round's update, which podlt audit needs."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a run into one file for others: its log, recipe, program, model and figures. They need nothing else.

    Whoever gets the file checks it by podlt verify FILE, without PyTorch; with --updates also by podlt audit. It holds
    no key, no setting and no path of this machine. It is an uncompressed tar: tar tf FILE lists it. A run may go on
    meanwhile: the file has its log up to the last signed head.

    A run cannot be resumed from it; podlt backup is for that, and its file is secret.

    Example: podlt bundle runs/mnist --out mnist.podlt
    """
    from rich.progress import Progress

    from podlt.store.bundle import write_bundle
    from podlt.store.run_files import with_own_name

    named = with_own_name(run)
    target = out if out is not None else named.with_name(named.name + SUFFIX)
    with Progress(console=Console(stderr=True), transient=True, disable=as_json or not sys.stderr.isatty()) as bar:
        task = bar.add_task("bundling", total=None)

        def progress(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        done = write_bundle(run, target, updates=updates, force=force, progress=progress)
    _warn(done, updates=updates)
    if as_json:
        members = {member.name: member.size for member in done.members}
        facts = {"file": str(target), "bytes": done.size, "entries": done.entries, "heads": done.heads}
        typer.echo(json.dumps({**facts, "members": members, "missing": done.missing, "paths": done.paths}))
    else:
        _print(done, console(), updates=updates)


def _warn(done: BundleReport, *, updates: bool) -> None:
    """Says on standard error what is missing, and what others can read that they perhaps should not."""
    if done.missing:
        typer.echo(f"the run has no {', no '.join(done.missing)}", err=True)
    if updates and not any(member.name.startswith("updates/") for member in done.members):
        typer.echo('the run keeps no updates (history = "last" in its recipe): audit will need them', err=True)
    if done.paths:
        names = ", ".join(repr(path) for path in done.paths)
        typer.echo(
            f"recipe.json, which the log binds as it is, names {names}: whoever gets the file can read it", err=True
        )


_WHAT = {
    "podlt-bundle": "the format's name",
    "log/cosignatures": "what witnesses signed, if any did",
    RECIPE: "what was to be trained, and by which rules",
    PROGRAM: "the training step",
    MODEL: "the trained parameters",
    BUFFERS: "buffers that the module's state_dict() leaves out",
    "unproven/rounds.jsonl": "the manager's figures; not part of the proof",
    "unproven/cheats.json": "which workers simulated a cheat, in a demonstration; not part of the proof",
    "checkpoints/00000000.safetensors": "the first parameters, for podlt audit",
}


def _print(done: BundleReport, out: Console, *, updates: bool) -> None:
    what = {
        **_WHAT,
        "log/entries": f"the log: {done.entries:,} entries",
        "log/heads": f"{done.heads:,} signed tree heads",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for member in done.members:
        if member.name in what:
            table.add_row(member.name, f"{member.size:,}", what[member.name])
    rounds = [member.size for member in done.members if member.name.startswith("updates/")]
    if rounds:
        table.add_row("updates/", f"{sum(rounds):,}", f"the averages of {len(rounds):,} rounds, for podlt audit")
    sums = [member.size for member in done.members if member.name.startswith("aggregates/")]
    if sums:
        table.add_row(
            "aggregates/", f"{sum(sums):,}", f"what proves {len(sums):,} averages, for podlt audit --aggregates"
        )
    out.print(f"{shown(str(done.path))}: {done.size:,} bytes", soft_wrap=True)
    out.print(table)
    commands = ["verify", *(["audit"] if updates and rounds else [])]
    out.print(
        "\ncheck it: " + ", then ".join(f"podlt {name} {shown(str(done.path))}" for name in commands), soft_wrap=True
    )
