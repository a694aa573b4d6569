"""All commands under one name, and what an error becomes: one line, a hint, an exit code."""

from __future__ import annotations

import inspect
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from podlt.cli.audit import audit
from podlt.cli.bench import bench
from podlt.cli.bundle import bundle
from podlt.cli.conformance import conformance
from podlt.cli.context import Options, options_of
from podlt.cli.data import data_app
from podlt.cli.demo import demo
from podlt.cli.deposits import workers_app
from podlt.cli.head import head
from podlt.cli.key import key_app
from podlt.cli.ledger import ledger
from podlt.cli.manager import manager
from podlt.cli.proof import verify
from podlt.cli.receipts import receipts
from podlt.cli.recipes import recipe_app
from podlt.cli.report import report
from podlt.cli.show import show
from podlt.cli.simulate import simulate
from podlt.cli.store import backup, restore, store_app
from podlt.cli.train import train
from podlt.cli.worker import worker
from podlt.errors import ExitCode, PodltError
from podlt.extras import missing

INTERRUPTED = ExitCode.INTERRUPTED

HELP = """Train a network on machines you do not control, and prove that the work was done.

First try: [bold]podlt demo[/bold] (MNIST over 50 workers, three of whom cheat; then verified)

Your own: [bold]podlt recipe new my.toml[/bold], then [bold]podlt train my.toml[/bold]

Exit codes: 0 done, all that was asked for holds; 1 something fails, and only that; 2 usage, which you can repair;
3 could not go on (a full disk, too few workers); 4 nothing fails, but something asked for was not checked;
70 a bug of podlt; 130 interrupted.
"""

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Train": (train, demo),
    "Train on other machines": (manager, worker),
    "Keep": (backup, restore, bundle, head),
    "Look and check": (verify, audit, show, ledger, receipts, report),
    "Measure": (simulate, bench, conformance),
}


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
    app.add_typer(recipe_app, name="recipe", rich_help_panel="Prepare")
    app.add_typer(data_app, name="data", rich_help_panel="Prepare")
    app.add_typer(store_app, name="store", rich_help_panel="Keep")
    app.add_typer(workers_app, name="workers", rich_help_panel="Train on other machines")
    app.add_typer(key_app, name="key", rich_help_panel="Train on other machines")
    return app


def settings(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error was raised.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version, and end.")] = False,
) -> None:
    """Takes what holds for all commands."""
    options_of(context).debug = debug
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"podlt {installed('podlt')}")
        raise typer.Exit


def run(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    options = Options()
    try:
        command = get_command(build())
        _join_lines(command)
        code = command.main(args=argv, prog_name="podlt", obj=options, standalone_mode=False)
    except PodltError as error:
        if options.debug:
            raise
        return _tell(str(error), options.hint, error.exit_code)
    except BrokenPipeError:
        # Whoever read our output (`| head`) has enough; Python must not try to flush it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        absent = missing(error.name)
        return _tell(f"this {absent}", "", absent.exit_code) if absent is not None else _crashed(error, options)
    except Exception as error:  # click's own errors have no common type that typer exports
        code = _usage(error)
        return code if code is not None else _crashed(error, options)
    if code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt
        return _tell("interrupted", options.hint, INTERRUPTED)
    return code if isinstance(code, int) else 0


def _join_lines(command: Any) -> None:
    """Makes each paragraph of the helps one line, which fits any terminal: in docstrings they are broken for ours."""
    for each in getattr(command, "commands", {}).values():
        _join_lines(each)
        each.help = re.sub(r"(?<=\S)\n *(?=\S)", " ", inspect.cleandoc(each.help or ""))


def _crashed(error: Exception, options: Options) -> int:
    """Says that this is a bug of ours and no finding about any run; the traceback is kept for whoever reports it."""
    if options.debug:
        raise error
    lines = traceback.format_exception(error)
    try:
        descriptor, name = tempfile.mkstemp(prefix="podlt-crash-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("".join(lines))
        where = f"the traceback is in {name}"
    except OSError:
        where = "".join(lines)
    typer.echo(f"podlt crashed: {type(error).__name__}: {error}", err=True)
    typer.echo("this is a bug of podlt, and says nothing about any run", err=True)
    typer.echo(f"hint: {where}; README.md says where to report it", err=True)
    return ExitCode.CRASHED


def _usage(error: Exception) -> int | None:
    """Shows what typer says of wrong arguments; None for anything else: a bug of ours."""
    code = getattr(error, "exit_code", None)
    if not callable(getattr(error, "format_message", None)) or not isinstance(code, int):
        return INTERRUPTED if type(error).__name__ == "Abort" else None
    from typer.rich_utils import rich_format_error

    shown: Any = error
    if shown.format_message():
        rich_format_error(shown)
    return code


def _tell(message: str, hint: str, code: int) -> int:
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)
    return code
