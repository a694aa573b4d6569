"""The options by which a command that takes long is watched: its output, metrics, health, a log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from podlt.cli.options import JsonOption, QuietOption
from podlt.monitoring.setup import Monitoring

PANEL = "Output and monitoring"


@dataclass(frozen=True)
class LogOptions:
    """What a command prints, and the log that it writes."""

    quiet: QuietOption = False
    as_json: JsonOption = False
    log_format: Annotated[
        str,
        typer.Option(
            metavar="json|text", rich_help_panel=PANEL, help="Write a log, one event a line, to standard error."
        ),
    ] = ""
    log_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=PANEL, help="Write that log to a file instead; as JSON unless given."
        ),
    ] = None

    @property
    def silent(self) -> bool:
        """Whether nothing for people is to be printed on standard output."""
        return self.quiet or self.as_json

    def monitoring(self) -> Monitoring:
        """What is to be started."""
        return Monitoring(log_format=self.log_format, log_file=self.log_file)


@dataclass(frozen=True)
class MonitoringOptions(LogOptions):
    """The same, with metrics and health over HTTP."""

    metrics: Annotated[
        str,
        typer.Option(
            metavar="[HOST:]PORT",
            rich_help_panel=PANEL,
            help="Serve Prometheus metrics, /healthz and /readyz; HOST is 127.0.0.1 unless given.",
        ),
    ] = ""

    def monitoring(self) -> Monitoring:
        """What is to be started."""
        return Monitoring(self.metrics, self.log_format, self.log_file)
