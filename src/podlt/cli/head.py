"""`podlt head`: the last tree head that a run's manager signed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from podlt.cli.options import RunFilesArgument
from podlt.errors import UsageError


def head(
    run: RunFilesArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; standard output by default. It is written over.")
    ] = None,
    cosigned: Annotated[
        bool, typer.Option("--cosigned", help="With the lines of the witnesses that cosigned it, as C2SP has it.")
    ] = False,
) -> None:
    """Print the last signed tree head of a run: five lines that say what the log is, up to now.

    Keep it where the manager cannot reach it. podlt verify RUN --head FILE fails later if what was logged up to now was
    changed or cut off since. The signature itself is checked then, not by this command.

    Examples: podlt head runs/mnist

              podlt head runs/mnist --out monday.head, and later: podlt verify runs/mnist --head monday.head
    """
    from podlt.store.bundle import last_head
    from podlt.store.files import write_whole
    from podlt.store.run_files import open_run_files

    with open_run_files(run) as files:
        log = files.log()
        try:
            note = last_head(log)
        finally:
            log.close()
        witnessed = files.cosignatures() if cosigned else b""
    if note is None:
        raise UsageError(f"{run}: the log has no signed head yet")
    if cosigned:
        note += _cosignatures(note, witnessed)
    if out is None:
        typer.echo(note, nl=False)
    else:
        write_whole(out, note.encode())
        typer.echo(f"head: {out} (later: podlt verify {run} --head {out})")


def _cosignatures(note: str, raw: bytes) -> str:
    """The signature lines of the witnesses that cosigned this head, one a witness; none of them is checked here."""
    from podlt.log.notes import parse_checkpoint, parse_cosignatures

    head, _ = parse_checkpoint(note)
    found = {each.name: each.line() for at, each in parse_cosignatures(raw, head.origin) if at == head}
    return "".join(found.values())
