"""`podlt witness`: cosign the heads of runs, so that nobody can show two logs of one run."""

from __future__ import annotations

import json
import signal
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podlt.cli.options import JsonOption, RunFilesArgument, shown
from podlt.errors import ExitCode, UsageError
from podlt.store.run_names import RECIPE
from podlt.units import utc_text

if TYPE_CHECKING:
    from podlt.crypto import SigningKey
    from podlt.log.nodes import NodeTree
    from podlt.log.notes import WitnessKey
    from podlt.witness.witness import Witness

PORT = 7878
MOST_LOGS = 10_000

witness_app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Be a witness: remember the last tree head of each run that you saw, and cosign a newer one only if the log "
        "has grown and nothing else. A manager that shows two logs of one run finds no witness for the second.\n\n"
        "Anybody can be one: podlt witness serve on any machine, or podlt witness cosign RUN from a cron job. The "
        "manager's recipe names witnesses (the key and URL of each); readers demand them: podlt verify --witness KEY."
    ),
)

StateOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="Key and memory of the witness; ~/.podlt/witness by default."),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Of the witness, such as witness.example.org/w1; made from its key by default."),
]


@witness_app.command()
def serve(
    listen: Annotated[
        str, typer.Option(metavar="[HOST:]PORT", help="Where; only this machine reaches it unless a host is given.")
    ] = f"127.0.0.1:{PORT}",
    state: StateOption = None,
    name: NameOption = None,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Take no runs but those that podlt witness add named.")
    ] = False,
    most_logs: Annotated[int, typer.Option(min=1, help="How many runs to remember at most.")] = MOST_LOGS,
) -> None:
    """Serve as a witness over HTTP (c2sp.org/tlog-witness) until Ctrl-C.

    Makes a key at its first use, and prints what a recipe needs to name it. A run introduces itself by its first entry,
    which binds its name to its manager's key. What was seen is on the disk before a cosignature is given: keep the
    folder, a witness without memory is none.

    It speaks plain HTTP: checkpoints and cosignatures are signed. Where the Internet reaches it, put a proxy with TLS
    before it.

    Example: podlt witness serve --listen 0.0.0.0:7878 --name witness.example.org/w1
    """
    from podlt.witness.server import WitnessServer

    host, port = _address(listen)
    served = _witness(state, name, most=most_logs, open=not known_only)
    with WitnessServer(served, host, port, _now) as server:
        url = f"http://THIS-MACHINE:{server.port}" if host in ("0.0.0.0", "::") else server.url
        typer.echo(f"witness {served.public.name} on {server.url}; in a manager's recipe:\n")
        typer.echo(f'[[witnesses]]\nkey = "{served.public.text()}"\nurl = "{url}"\n')
        typer.echo(f"who verifies: podlt verify RUN --witness {served.public.text()}")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            server.wait()
    typer.echo("ended: what it saw is on the disk, and the same command goes on")


@witness_app.command()
def add(run: RunFilesArgument, state: StateOption = None, name: NameOption = None) -> None:
    """Take a run into a witness' list, for one that serves with --known-only.

    Example: podlt witness add runs/mnist
    """
    taken = _witness(state, name, most=MOST_LOGS, open=False).know(_first_entry(run), _now())
    typer.echo(f"added: {taken}")


@witness_app.command("list")
def list_logs(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Show which logs a witness has seen, how far, and proofs of managers that signed two of them.

    Ends with 1 if there is such a proof.
    """
    import msgspec

    from podlt.witness.state import WitnessState

    memory = WitnessState(_folder(state))
    logs, conflicts = memory.logs(), memory.conflicts()
    if as_json:
        rows = [{**msgspec.structs.asdict(log), "key": log.key.hex(), "root": log.root.hex()} for log in logs]
        typer.echo(json.dumps({"logs": rows, "conflicts": msgspec.to_builtins(conflicts)}))
    else:
        for log in logs:
            typer.echo(f"{log.origin}: {log.size:,} entries, {utc_text(log.at)}")
        for conflict in conflicts:
            typer.echo(f"CONFLICT {conflict.origin}, {utc_text(conflict.at)}: its key signed this as well:")
            typer.echo("".join(f"    {shown(line)}\n" for line in conflict.note.splitlines()), nl=False)
    if conflicts:
        raise typer.Exit(ExitCode.FAILS)


@witness_app.command()
def cosign(
    run: RunFilesArgument,
    state: StateOption = None,
    name: NameOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append the cosignature here; RUN/cosignatures is where verify looks."),
    ] = None,
) -> None:
    """Cosign the last head of a run that is here, after comparing it with what this witness saw before: no server.

    For a cron job, or a partner who is sent bundles. Prints the line; the manager appends it to RUN/cosignatures.

    Example: podlt witness cosign mnist.podlt --out runs/mnist/cosignatures
    """
    from http import HTTPStatus

    from podlt.errors import InvalidProofError
    from podlt.log.notes import cosignature_line, parse_checkpoint, parse_signatures
    from podlt.store.files import append_line
    from podlt.witness.request import AddCheckpoint

    witness, entry = _witness(state, name, most=MOST_LOGS, open=True), _first_entry(run)
    note, tree = _log_of(run)
    head, _ = parse_checkpoint(note)
    if head.root != tree.root(head.size):
        raise InvalidProofError(f"{run}: the entries are not those of the last head: podlt verify says what is wrong")
    origin = witness.know(entry, _now())
    seen = witness.seen(origin)
    if seen > head.size:
        raise InvalidProofError(f"{run}: this witness saw {seen:,} entries, the log has {head.size:,}: it was cut")
    reply = witness.add_checkpoint(AddCheckpoint(seen, tree.consistency_proof(seen, head.size), note).body(), _now())
    if reply.status != HTTPStatus.OK:
        raise InvalidProofError(
            f"{run}: not cosigned: this witness saw another log of the run, or the head is not its manager's "
            f"(podlt witness list; {reply.status})"
        )
    line = cosignature_line(head, parse_signatures(reply.body)[0])
    if out is not None:
        append_line(out, line.encode())
        typer.echo(f"cosigned: {head.size:,} entries, by {witness.public.text()}", err=True)
    else:
        typer.echo(line)


@witness_app.command()
def ask(
    run: Annotated[Path, typer.Argument(help="The run's directory.", metavar="RUN")],
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=URL", help="Ask this one, besides those that the recipe names. Repeatable."),
    ] = None,
) -> None:
    """Ask the witnesses of a run to cosign its last head now: after a run that ended while one was away.

    Ends with 4 if one did not cosign, 1 if one saw another log of this run.

    Example: podlt witness ask runs/mnist
    """
    from podlt.log.notes import cosignature_line, parse_checkpoint
    from podlt.recipe import Recipe
    from podlt.store.files import append_line, read_whole
    from podlt.store.run_files import MAX_DOCUMENT
    from podlt.store.run_names import COSIGNATURES
    from podlt.witness.client import WitnessClient, WitnessError, clients_of

    if not (run / RECIPE).is_file():
        raise UsageError(f"{run}: no run here (expected a directory that `podlt train` made)")
    clients = clients_of(Recipe.from_bytes(read_whole(run / RECIPE, MAX_DOCUMENT)))
    for text in witness or []:
        key, equals, url = text.rpartition("=http")
        if not equals:
            raise UsageError(f"--witness {text}: expected KEY=URL")
        clients.append(WitnessClient(read_witness(key), f"http{url}"))
    if not clients:
        raise UsageError(f"{run}: its recipe names no witnesses, and no --witness KEY=URL was given")
    entry, (note, tree) = _first_entry(run), _log_of(run)
    head, _ = parse_checkpoint(note)
    code = ExitCode.HOLDS
    for client in clients:
        try:
            signature = client.cosign(note, head, tree.consistency_proof, entry)
        except WitnessError as error:
            typer.echo(f"{client.key.name}: not cosigned: {error}", err=True)
            code = ExitCode.FAILS if error.conflict or code == ExitCode.FAILS else ExitCode.NOT_CHECKED
            continue
        append_line(run / COSIGNATURES, cosignature_line(head, signature).encode())
        typer.echo(f"{client.key.name}: cosigned {head.size:,} entries")
    if code:
        raise typer.Exit(code)


def read_witness(text: str) -> WitnessKey:
    """A witness' key, given as it is or in a file.

    Raises:
        UsageError: it is none.
    """
    from podlt.errors import InvalidProofError
    from podlt.log.notes import WitnessKey

    given = text
    if "+" not in text and Path(text).is_file():
        given = Path(text).read_text("utf-8", "replace")[:1000]
    try:
        return WitnessKey.of_text(given)
    except InvalidProofError as error:
        raise UsageError(f"--witness: {error}") from None


def _witness(state: Path | None, name: str | None, *, most: int, open: bool) -> Witness:
    """The witness whose key and memory are in a folder; both are made at their first use."""
    from podlt.access.worker_key import load_or_create_key
    from podlt.errors import InvalidProofError
    from podlt.log.notes import WitnessKey
    from podlt.witness.state import WitnessState
    from podlt.witness.witness import Witness

    folder = _folder(state)
    memory = WitnessState(folder)
    key = load_or_create_key(folder / "witness.key")
    try:
        public = WitnessKey.of_text(WitnessKey(_name(folder, name, key), key.public).text())
    except InvalidProofError:
        raise UsageError("--name: expected 1 to 200 characters without blanks and +") from None
    (folder / "witness.key.pub").write_text(f"{public.text()}\n", encoding="utf-8")
    return Witness(public.name, key, memory, most=most, open=open)


def _name(folder: Path, given: str | None, key: SigningKey) -> str:
    """The witness' name: as given, as it was before, or made from its key.

    Raises:
        UsageError: another name than before: whoever knows the witness knows it by both name and key.
    """
    path = folder / "witness.key.pub"
    before = path.read_text("utf-8").partition("+")[0] if path.is_file() else ""
    if given is not None and before and given != before:
        raise UsageError(f"--name {given}: this witness is {before}; another name needs another --state DIR")
    return given or before or f"podlt.witness/{key.public.hex()[:16]}"


def _folder(state: Path | None) -> Path:
    return state if state is not None else Path.home() / ".podlt" / "witness"


def _now() -> int:
    return int(time.time())


def _first_entry(run: Path) -> bytes:
    from podlt.store.run_files import open_run_files

    with open_run_files(run) as files, closing(files.log()) as log:
        for _, _, body in log.entries():
            return body
    raise UsageError(f"{run}: the run has not begun")


def _log_of(run: Path) -> tuple[str, NodeTree]:
    """The last head of a run, and the tree over its entries."""
    from podlt.log.nodes import NodeTree
    from podlt.store.bundle import last_head
    from podlt.store.run_files import open_run_files

    with open_run_files(run) as files, closing(files.log()) as log:
        note = last_head(log)
        if note is None:
            raise UsageError(f"{run}: the log has no signed head yet")
        tree = NodeTree()
        for _, leaf, _ in log.entries():
            tree.append(leaf)
    return note, tree


def _address(text: str) -> tuple[str, int]:
    """Host and port of `[HOST:]PORT`.

    Raises:
        UsageError: it is none.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535 or (colon and not host):
        raise UsageError(f"--listen {text}: expected [HOST:]PORT, such as {PORT} or 0.0.0.0:{PORT}")
    return host or "127.0.0.1", int(port)
