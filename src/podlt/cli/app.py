"""All commands under one name, and what an error becomes: one line, a hint, an exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any

import typer
from typer.main import get_command

from podlt.cli.arena import arena
from podlt.cli.attest import attest
from podlt.cli.audit import audit
from podlt.cli.bench import BENCHES, bench
from podlt.cli.bundle import bundle
from podlt.cli.checker import checker
from podlt.cli.conformance import conformance
from podlt.cli.dashboard import dashboard
from podlt.cli.data import data_app
from podlt.cli.demo import demo
from podlt.cli.deposits import workers_app
from podlt.cli.doctor import doctor
from podlt.cli.export import export
from podlt.cli.finish import finish
from podlt.cli.head import head
from podlt.cli.help import complete
from podlt.cli.init import init
from podlt.cli.interrupts import what_is_left
from podlt.cli.key import key_app
from podlt.cli.ledger import ledger
from podlt.cli.manager import manager
from podlt.cli.options import Options, options_of
from podlt.cli.plan import plan
from podlt.cli.predict import predict
from podlt.cli.receipts import receipts
from podlt.cli.recipes import recipe_app
from podlt.cli.report import report
from podlt.cli.reproduce import reproduce
from podlt.cli.show import show
from podlt.cli.simulate import simulate
from podlt.cli.store import backup, restore, store_app
from podlt.cli.train import train
from podlt.cli.verify import verify
from podlt.cli.witness import witness_app
from podlt.cli.worker import worker
from podlt.errors import ExitCode, PodltError
from podlt.extras import missing_package
from podlt.faults import crashed, version_line
from podlt.progress.text import printable

_PLAIN = {
    "Value error, ": "",
    "Input should be a valid integer.*": "expected a whole number",
    "Input should be a valid number.*": "expected a number",
    "Input should be ": "expected a value ",
}
"""What typer takes over from pydantic -> the same in plain words."""

BLOCKED = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
}
"""What the system refuses whatever podlt does: no fault of ours, wherever it comes up."""

HELP = """Train a network on machines you do not control, and prove that the work was done.

First try: [bold]podlt demo[/bold] (MNIST over 50 workers, three of whom cheat; then verified)

Train your own data: [bold]podlt init my.toml[/bold], then [bold]podlt train my.toml[/bold]

Lend a machine: [bold]podlt doctor --for worker[/bold], then [bold]podlt worker INVITATION[/bold]

Check what you were sent: [bold]podlt verify FILE[/bold]

Exit codes: 0 all that was asked for holds, or is done; 1 something fails, and only that;
2 usage, which you can repair (a wrong argument, a missing package);
3 could not go on (a full disk, too few workers, a loss that is not finite);
4 nothing fails, but something asked for was not checked; 70 a crash of podlt; 130 interrupted.
"""

TRAINS, LENDS, CHECKS = "Who trains", "Who lends a machine", "Who checks"
BEFORE = "Before, and to measure"

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    TRAINS: (demo, init, train, manager, dashboard, finish, predict, export, report, backup, restore),
    LENDS: (worker, receipts),
    CHECKS: (verify, audit, reproduce, show, ledger, head, bundle, checker, attest),
    BEFORE: (doctor, plan, simulate, arena, bench, conformance),
}
"""By whom they are used."""

GROUPS = {"recipe": (recipe_app, TRAINS), "data": (data_app, TRAINS), "workers": (workers_app, TRAINS)}
GROUPS |= {"store": (store_app, TRAINS), "key": (key_app, LENDS), "witness": (witness_app, CHECKS)}
"""Commands that have commands."""


def build() -> typer.Typer:
    """The application with all of its commands."""
    app = typer.Typer(
        name="podlt",
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(settings)
    for panel, commands in COMMANDS.items():
        for command in commands:
            own = {"allow_extra_args": True, "ignore_unknown_options": True} if command is bench else None
            app.command(rich_help_panel=panel, context_settings=own)(command)
    for name, (group, panel) in GROUPS.items():
        app.add_typer(group, name=name, rich_help_panel=panel)
    return app


@cache
def _whole() -> Any:
    """The command `podlt`, with its help: made once a process, for who calls `run` more than once."""
    command = get_command(build())
    complete(command)
    return command


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(version_line())
        raise typer.Exit


def settings(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error was raised.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version, and end.")
    ] = False,
) -> None:
    """Takes what holds for all commands."""
    options_of(context).debug = debug


def run(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns one of `ExitCode`.

    No exception leaves it: what is neither a PodltError nor typer's is a bug of ours, and `crashed` says so. Python's
    own exit code for that, 1, would read as a finding about a run.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    options = Options()
    command: Any = None
    try:
        command = _whole()
        code = command.main(args=given, prog_name="podlt", obj=options, standalone_mode=False)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BaseException as error:
        return _failed(error, _name_of(command, given), given, options)
    if code == ExitCode.INTERRUPTED:  # what typer makes of a KeyboardInterrupt: no error, somebody wanted it
        left = options.hint or options.remains or what_is_left(_name_of(command, given), given)
        return _tell("interrupted", left, ExitCode.INTERRUPTED, "")
    return code if isinstance(code, int) else ExitCode.HOLDS


def _failed(error: BaseException, name: str, argv: Sequence[str], options: Options) -> int:
    """Says how a command ended that raised; returns the exit code."""
    if _is_nobody_reading(error):
        return ExitCode.STOPPED
    missing = missing_package(error, name) if isinstance(error, ImportError) else None
    code = getattr(error, "exit_code", None)
    known = missing is not None or isinstance(error, PodltError)
    blocked = error if isinstance(error, OSError) and error.errno in BLOCKED else None
    if options.debug and (known or blocked is not None):
        traceback.print_exception(error)
    if missing is not None:
        return _tell(missing.need, missing.hint, missing.exit_code)
    if isinstance(error, PodltError):
        return _tell(str(error), options.hint, error.exit_code)
    if blocked is not None:
        where = f"{blocked.filename}: " if isinstance(blocked.filename, str) else ""
        return _tell(f"could not go on: {where}{blocked.strerror or blocked}", options.hint, ExitCode.STOPPED)
    if callable(getattr(error, "format_message", None)) and isinstance(code, int):
        return _usage(error)
    if type(error).__name__ == "Abort":
        return ExitCode.INTERRUPTED
    if options.hint:
        typer.echo(f"hint: {options.hint}", err=True)
    return crashed(error, argv, debug=options.debug)


def _is_nobody_reading(error: BaseException) -> bool:
    """Whether standard output's reader has gone (`| head`): then nobody has read how it ended, and 0 would be a lie.

    Typer and rich make a SystemExit of it, with Python's code 1.
    """
    cause = error.__context__ if isinstance(error, SystemExit) else error
    if not isinstance(cause, BrokenPipeError) and not isinstance(error, SystemExit):
        return False
    try:
        sys.stdout.flush()
        gone = isinstance(error, SystemExit) and isinstance(cause, BrokenPipeError)
    except BrokenPipeError:
        gone = True
    if gone:  # Python must not try to flush it once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def _name_of(command: Any, argv: Sequence[str]) -> str:
    """What the user calls the command that was asked for, such as "podlt data describe"."""
    words = ["podlt"]
    for word in argv:
        below = getattr(command, "commands", {})
        if word in below:
            words.append(word)
            command = below[word]
        elif words[-1] == "bench" and word in BENCHES:
            return " ".join([*words, word])
    return " ".join(words)


def _usage(error: Any) -> int:
    """Shows what typer says of wrong arguments."""
    from typer.rich_utils import rich_format_error

    for wrong, right in _PLAIN.items():
        error.message = re.sub(wrong, right, error.message or "")
    if error.format_message():
        rich_format_error(error)
    return ExitCode.USAGE


def _tell(message: str, hint: str, code: int, kind: str = "error: ") -> int:
    typer.echo(f"{kind}{chr(10).join(map(printable, message.splitlines()))}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)
    return code
