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
    help="Show, back up and restore a worker's key: whoever has it is the worker, and owns what it earned. "
    "And make the key by which a NATS cluster knows managers.",
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
    """Print the public key: what a manager allows, pays and, perhaps, revokes. It is no secret.

    Example: podlt key show
    """
    from podlt.network.access import worker_key

    path = key or worker_key.default_path()
    worker_key.load_key(path)  # one that is not there is not made: it would be shown, and nobody would know it
    public = [one.public.hex() for one in worker_key.load_or_create_keys(path, identities)]
    if as_json:
        typer.echo(json.dumps({"file": str(path), "keys": public}))
    else:
        typer.echo("\n".join(public))


@key_app.command("nats")
def nats_cluster(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The key file; made if it is not there.")],
    as_json: JsonOption = False,
) -> None:
    """Print what must be in the configuration of a NATS cluster's servers, once, so that runs can be on it.

    The lines hold public keys alone. The file is what managers show: podlt manager RECIPE --nats URL --nats-key FILE.
    Managers that share it share the cluster, each with its own workers; whoever has it may admit and cut off anybody's.

    Example: podlt key nats /etc/podlt/nats.key > podlt.conf
    """
    from podlt.network.access import worker_key
    from podlt.network.nats.configuration import MOST_PAYLOAD, sections

    parts = sections(worker_key.load_or_create_key(file))
    if as_json:
        typer.echo(json.dumps({"file": str(file), **parts}))
        return
    typer.echo(
        "# podlt: into the configuration of every server. Where there are accounts or authorization already, put what\n"
        "# is in these blocks into those: of two blocks of one name, only the last counts. Where there is a system\n"
        "# account already, put the user there, and its name wherever PODLT_SYSTEM is. Besides, a certificate and\n"
        "#   tls { cert_file: ..., key_file: ..., handshake_first: auto }\n"
        f"#   max_payload: at least {MOST_PAYLOAD} (1 MB unless given)\n" + "".join(parts.values()),
        nl=False,
    )
    typer.echo(f"then: podlt manager RECIPE --nats tls://HOST:4222 --nats-key {file}", err=True)


@key_app.command()
def backup(key: KeyFile = None) -> None:
    """Print the private key as one line to keep in a safe place. Whoever reads it is the worker.

    Example: podlt key backup > /media/usb/podlt-key.txt
    """
    from podlt.network.access import worker_key

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

    Example: podlt key restore /media/usb/podlt-key.txt
    """
    from podlt.network.access import worker_key

    if source is not None and not source.is_file():
        raise UsageError(f"{source}: no such file; the line itself is read from standard input")
    if source is None and sys.stdin.isatty():
        typer.echo("the line that podlt key backup printed: ", err=True, nl=False)
    text = source.read_text("utf-8", "replace") if source is not None else sys.stdin.readline()
    restored = worker_key.restore(text)
    path = key or worker_key.default_path()
    worker_key.save_key(path, restored)
    typer.echo(f"{path}: restored, {restored.public.hex()}")
