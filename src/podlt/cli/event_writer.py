"""Events of a run, and of a worker, as JSON for scripts."""

from __future__ import annotations

import sys

import msgspec
import typer

from podlt.events import Event


def write_json(event: Event) -> None:
    """Prints an event as JSON, an object a line."""
    typer.echo(msgspec.json.encode(event).decode())
    sys.stdout.flush()
