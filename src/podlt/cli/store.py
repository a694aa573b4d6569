"""`podlt backup`, `podlt restore`, `podlt store`: a run's copies, and the database that its log is in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from podlt.cli.options import JsonOption, RunArgument, console, shown
from podlt.errors import UsageError

store_app = typer.Typer(no_args_is_help=True, help="The databases that logs are in.")

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="PODLT_STORE",
        help="Keep the log in PostgreSQL: postgresql://USER@HOST/DATABASE. The password is better in PGPASSWORD or a "
        "passfile, where nobody sees it; it is never written down. By default the log is a file of the run.",
    ),
]


def backup(
    run: RunArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; nothing is overwritten.")],
    history: Annotated[
        bool, typer.Option("--history", help="With all updates and checkpoints that are there, for podlt audit.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a run into one file, also while it trains: log, keys, documents, and what it needs to be resumed from there.

    The file holds the run's secret keys: it is made for your eyes only (0600). Keep it so.

    Example: podlt backup runs/mine mine-monday.tar
    """
    from podlt.store.backup import backup as copy

    done = copy(run, file, history=history)
    if as_json:
        facts = {"file": str(file), "bytes": done.size, "run": done.manifest.run, "entries": done.manifest.entries}
        typer.echo(json.dumps({**facts, "rounds": done.manifest.rounds, "left_out": done.left_out}))
        return
    for name in done.left_out:
        typer.echo(f"left out, as it is no plain file with a plain name: {name!r}", err=True)
    out = console()
    out.print(f"{shown(str(file))}: {done.size:,} bytes, {len(done.manifest.files)} files, ", end="")
    out.print(f"up to round {done.manifest.rounds} (entry {done.manifest.entries}). It holds keys: keep it secret.")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What podlt backup wrote.")],
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory; nothing is overwritten.")],
    store: StoreOption = "",
    base: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the recipe's own files are, if they were moved.")
    ] = None,
) -> None:
    """Make a run's directory from a backup: every digest is checked first. Then: podlt train --resume DIR.

    Only one of the two may ever go on, this copy or the run that it was taken of: two logs of one run, signed by one
    manager, are what a forger would show.

    Example: podlt restore mine-monday.tar runs/mine
    """
    from podlt.store.backup import restore as unpack

    if not file.is_file():
        raise UsageError(f"{file}: no such file")
    done = unpack(file, run, store=store, base=base)
    out = console()
    out.print(f"{shown(str(run))}: run {done.run[:16]}, up to round {done.rounds} (entry {done.entries})")
    out.print(f"resume with: podlt train --resume {shown(str(run))} (or podlt manager --resume, where it was that)")
    out.print("never let the original go on as well: two logs of one run would be a forgery")


@store_app.command()
def upgrade(
    what: Annotated[
        str,
        typer.Argument(metavar="RUN|URL", help="A run's directory, or a database: postgresql://USER@HOST/DATABASE."),
    ],
) -> None:
    """Bring the tables of a log made by an earlier podlt to this one's. Stop every manager that writes there first.

    Example: podlt store upgrade runs/mine
    """
    from podlt.manager.directory import RunDirectory
    from podlt.store.address import introduce
    from podlt.store.run_log import upgrade_database, upgrade_run

    if "://" in what:
        before, after = upgrade_database(introduce(what))
    else:
        directory = RunDirectory.existing(Path(what))
        directory.lock()
        try:
            before, after = upgrade_run(directory.path)
        finally:
            directory.unlock()
    typer.echo(f"version {before} before, {after} now" if before != after else f"version {after}: nothing to do")
