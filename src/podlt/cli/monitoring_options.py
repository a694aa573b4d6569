"""The options of commands that go on for long, and what they start: metrics, health, a log."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from podlt.manager import events as ev
from podlt.monitoring.setup import Operations, operations

MetricsOption = Annotated[
    str,
    typer.Option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="Serve Prometheus metrics, /healthz and /readyz; HOST is 127.0.0.1 if not told.",
    ),
]
LogFormatOption = Annotated[
    str, typer.Option("--log-format", metavar="json|text", help="Write a log, an event a line, to standard error.")
]
LogFileOption = Annotated[
    Path | None,
    typer.Option("--log-file", metavar="FILE", help="Write that log to a file instead; as JSON if not told."),
]


def operating(asked: Operations, then: ev.Listener, *, silent: bool) -> AbstractContextManager[ev.Listener]:
    """Starts what the options ask for; gives the listener to run with, which passes every event on to `then`.

    Args:
        silent: whether nothing is to be printed of it on standard output.

    Raises:
        UsageError: as `podlt.monitoring.setup.operations` says.
    """
    return operations(asked, (lambda line: None) if silent else typer.echo, then)
