"""`podlt key`: who a worker is, and how to keep a copy of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from podlt.cli.options import JsonOption
from podlt.errors import UsageError

key_app = typer.Typer(
    no_args_is_help=True,
    help="Show, back up and restore a worker's key: whoever has it is the worker, and owns what it earned.",
)

KeyFile = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="The key file; ~/.podlt/worker.key by default.")
]


@key_app.command()
def show(
    key: KeyFile = None,
    identities: Annotated[int, typer.Option(min=1, max=1000, help="Of so many workers in one process.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Print the public key: what a manager allows, pays and, perhaps, revokes. It is no secret."""
    from podlt.access import worker_key

    path = key or worker_key.default_path()
    worker_key.load_key(path)  # one that is not there is not made: it would be shown, and nobody would know it
    public = [one.public.hex() for one in worker_key.load_or_create_keys(path, identities)]
    if as_json:
        typer.echo(json.dumps({"file": str(path), "keys": public}))
    else:
        typer.echo("\n".join(public))


@key_app.command()
def backup(key: KeyFile = None) -> None:
    """Print the private key as one line to keep in a safe place. Whoever reads it is the worker."""
    from podlt.access import worker_key

    typer.echo(worker_key.backup(worker_key.load_key(key or worker_key.default_path())))
    typer.echo("keep this line secret: whoever has it owns what this worker earns", err=True)


@key_app.command()
def restore(
    source: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A file with the line; standard input by default.")
    ] = None,
    key: KeyFile = None,
) -> None:
    """Make the key file from a line that `podlt key backup` printed. An existing key is never overwritten.

    The line is not taken as an argument: arguments are seen by everybody on a machine, and stay in histories.
    """
    from podlt.access import worker_key

    if source is not None and not source.is_file():
        raise UsageError(f"{source}: no such file; the line itself is read from standard input")
    if source is None and sys.stdin.isatty():
        typer.echo("the line that podlt key backup printed: ", err=True, nl=False)
    text = source.read_text("utf-8", "replace") if source is not None else sys.stdin.readline()
    restored = worker_key.restore(text)
    path = key or worker_key.default_path()
    worker_key.save_key(path, restored)
    typer.echo(f"{path}: restored, {restored.public.hex()}")
