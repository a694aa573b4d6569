"""`podlt workers`: who may work for a run, who does, and what the operator has to say about it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from podlt.cli.options import JsonOption, RunArgument
from podlt.cli.workers_table import connected, invitation_status, keys_of, numbers_of, pace_of, print_table, row_of
from podlt.errors import UsageError

if TYPE_CHECKING:
    from podlt.access.registry import Registry

workers_app = typer.Typer(
    no_args_is_help=True,
    help="Say who may work for a run. A manager that is running notices within a second or two.",
)

_SPAN = re.compile(r"(\d+)([mhd])")
_LEAST_DIGITS = 8
MOST_NAME = 100
"""Characters of an operator's name."""

Worker = Annotated[
    str, typer.Argument(metavar="WORKER", help="A number in the run, a public key, or the first 8 digits of it.")
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; shown to the worker.")]
OperatorOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="Who runs these workers: in the log, for all to read, and signed by the worker."),
]


@workers_app.command("list")
def list_workers(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show who may work for a run, who is connected at this moment, and which invitations are good.

    Example: podlt workers list runs/mnist --json
    """
    from podlt.remote.worker_figures import figures_of

    register = register_of(run)
    state = register.state
    logged, live, seen = numbers_of(run), connected(run), figures_of(run)
    keys = keys_of(state, logged, live)
    rows = [row_of(key, state, logged, live) | pace_of(seen.get(key), logged.get(key)) for key in keys]
    invitations = [
        {
            "name": name,
            "uses": issued.uses,
            "used": issued.used,
            "expires": issued.expires or None,
            "status": invitation_status(issued),
            "operator": issued.operator,
            "note": issued.note,
        }
        for name, issued in state.invitations.items()
    ]
    if as_json:
        document = {
            "server": "running" if live is not None else "not running",
            "open": state.deposit is not None,
            "deposit": state.deposit,
            "payee": state.payee,
            "paused": state.everybody_paused,
            "most_identities": state.most_identities,
            "operators": state.identities(),
            "workers": rows,
            "invitations": invitations,
        }
        typer.echo(json.dumps(document))
    else:
        print_table(rows, invitations, state, live is not None)


@workers_app.command()
def invite(
    run: RunArgument,
    uses: Annotated[int, typer.Option(min=1, help="For how many workers it is good.")] = 1,
    expires: Annotated[
        str, typer.Option(metavar="SPAN", help="Until when: 90m, 12h, 7d; without end by default.")
    ] = "",
    note: Annotated[str, typer.Option(metavar="TEXT", help="Who it is for: for yourself.")] = "",
    operator: OperatorOption = "",
    address: Annotated[
        bool, typer.Option("--address", help="Only where the run is: for keys that are allowed, and for open runs.")
    ] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Print the whole invitation, and not a code.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print one line to send to a worker, who then runs: podlt worker LINE. Whoever reads the line can use it.

    It is a code, whose rest a worker asks from the manager's server; --whole prints all that is in it.

    All workers that come by it are one operator, as are those of other invitations that name the same: their results
    are compared with other operators' where there are some. Give each owner of machines an invitation of its own.

    Example: podlt workers invite runs/mnist --uses 20 --expires 7d --operator "lab 3"
    """
    from podlt.access import invitation_code
    from podlt.access.invitation import write
    from podlt.manager.directory import RunDirectory

    now = time.time_ns() // 10**6
    key = RunDirectory.existing(run).manager_key()
    invitation = register_of(run).invite(
        key,
        uses=uses,
        expires=_until(expires, now),
        now=now,
        note=note[:400],
        operator=_named(operator),
        address=address,
    )
    line, code = write(invitation), invitation_code.write(invitation)
    if as_json:
        issued = None if address else register_of(run).state.invitations[invitation.name]
        document = {"invitation": line, "code": code, "name": invitation.name, "servers": invitation.servers}
        typer.echo(json.dumps(document | ({"operator": issued.operator} if issued is not None else {})))
    else:
        typer.echo(line if whole else code)


@workers_app.command()
def revoke(run: RunArgument, worker: Worker, reason: Reason = "", as_json: JsonOption = False) -> None:
    """Shut a worker out for good, or (by its name) end an invitation. Its connection ends; what it was paid stays.

    Example: podlt workers revoke runs/mnist 17 --reason "its owner asked for it"
    """
    register = register_of(run)
    if worker in register.state.invitations:
        register.change(lambda state: state.withdraw(worker))
        say(f"invitation {worker} is no longer good", {"invitation": worker, "status": "revoked"}, as_json)
        return
    key = find_key(register, run, worker)
    register.change(lambda state: state.revoke(key, reason[:400]))
    say(f"worker {key} is revoked", {"key": key, "status": "revoked"}, as_json)


@workers_app.command()
def pause(
    run: RunArgument,
    worker: Annotated[str, typer.Argument(metavar="[WORKER]", help="Who; everybody by default.")] = "",
    reason: Reason = "",
    as_json: JsonOption = False,
) -> None:
    """Shut a worker out for now, or everybody.

    Example: podlt workers pause runs/mnist 17
    """
    register = register_of(run)
    if not worker:
        register.change(lambda state: state.pause_everybody(True))
        say("everybody is paused", {"status": "paused"}, as_json)
        return
    key = find_key(register, run, worker)
    register.change(lambda state: state.pause(key, reason[:400]))
    say(f"worker {key} is paused", {"key": key, "status": "paused"}, as_json)


@workers_app.command()
def resume(
    run: RunArgument,
    worker: Annotated[str, typer.Argument(metavar="[WORKER]", help="Who; everybody by default.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Let a worker in again that was paused, or everybody.

    Example: podlt workers resume runs/mnist 17
    """
    register = register_of(run)
    if not worker:
        register.change(lambda state: state.pause_everybody(False))
        say("the run takes workers again", {"status": "resumed"}, as_json)
        return
    key = find_key(register, run, worker)
    register.change(lambda state: state.resume(key))
    say(f"worker {key} may work again", {"key": key, "status": "resumed"}, as_json)


@workers_app.command()
def allow(
    run: RunArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The public key that `podlt key show` prints.")],
    note: Annotated[str, typer.Option(metavar="TEXT", help="Whose it is: for yourself.")] = "",
    operator: OperatorOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let a key in without a secret; it still needs the address: podlt workers invite RUN --address.

    Without --operator it is an operator of its own.

    Example: podlt workers allow runs/mnist 5d1c...
    """
    if re.fullmatch(r"[0-9a-f]{64}", key) is None:
        raise UsageError(f"{key!r}: expected a public key of 64 hexadecimal digits, as `podlt key show` prints it")
    name = _named(operator)
    register_of(run).change(lambda state: state.allow(key, note[:400], name))
    say(f"worker {key} is allowed", {"key": key, "status": "allowed", "operator": name}, as_json)


@workers_app.command()
def limit(
    run: RunArgument,
    identities: Annotated[
        int | None, typer.Argument(metavar="[N]", min=1, help="How many; without it, any number again.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let in at most N workers of one operator. Who is in stays; keys of an open run are operators of their own.

    Example: podlt workers limit runs/mnist 50
    """
    register_of(run).change(lambda state: state.limit(identities))
    most = "any number of" if identities is None else f"at most {identities:,}"
    say(f"{most} workers of one operator are let in", {"most_identities": identities}, as_json)


@workers_app.command("open")
def open_run(
    run: RunArgument,
    deposit: Annotated[int, typer.Option(min=0, help="Credits that somebody must have paid for the key.")] = 0,
    to: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Payment instructions, shown to workers whose deposit is missing."),
    ] = None,
    close: Annotated[bool, typer.Option("--close", help="Open to invited and allowed workers only, again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Open a run to any key with a deposit; the address is enough to come: podlt workers invite RUN --address.

    What was paid is recorded by podlt workers deposit. It is lost with an eviction, and returned at the run's end.

    Example: podlt workers open runs/mnist --deposit 1000 --to "billing@example.org"
    """
    state = register_of(run).change(
        lambda state: state.open(None if close else deposit, None if to is None else to[:400])
    )
    text = "invited and allowed workers only" if close else f"open to all for a deposit of {deposit:,} credits"
    say(text, {"open": not close, "deposit": None if close else deposit, "payee": state.payee}, as_json)


def register_of(run: Path) -> Registry:
    """The register of a run. Raises: UsageError: there is no run."""
    from podlt.access.registry import Registry
    from podlt.manager.directory import RunDirectory

    return Registry(RunDirectory.existing(run).path)


def find_key(register: Registry, run: Path, worker: str) -> str:
    """The key of a worker that is named by number, key or the beginning of a key.

    Raises:
        UsageError: nobody is, or several are.
    """
    if re.fullmatch(r"[0-9a-f]{64}", worker):
        return worker
    state, numbers = register.state, numbers_of(run)
    if re.fullmatch(r"[0-9]{1,7}", worker):
        found = [key for key, logged in numbers.items() if logged.number == int(worker)]
    elif len(worker) >= _LEAST_DIGITS:
        found = [key for key in keys_of(state, numbers, None) if key.startswith(worker.lower())]
    else:
        found = []
    if len(found) != 1:
        raise UsageError(f"{worker}: {'several workers' if found else 'no worker of this run'}; see podlt workers list")
    return found[0]


def _named(operator: str) -> str:
    """The name of an operator, as the log can have it."""
    name = operator.strip()
    if len(name) > MOST_NAME or not name.isprintable():
        raise UsageError(f"--operator {name[:40]!r}: expected at most {MOST_NAME} printable characters")
    return name


def _until(span: str, now: int) -> int:
    if not span:
        return 0
    found = _SPAN.fullmatch(span.strip())
    if found is None or int(found[1]) == 0:
        raise UsageError(f"--expires {span!r}: expected a span such as 90m, 12h or 7d")
    return now + int(found[1]) * {"m": 60, "h": 3600, "d": 86400}[found[2]] * 1000


def say(text: str, document: dict[str, Any], as_json: bool) -> None:
    """Prints one of the two."""
    typer.echo(json.dumps(document) if as_json else text)
