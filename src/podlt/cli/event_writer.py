"""Events of a run, and of a worker, as JSON for scripts."""

from __future__ import annotations

import json
import sys

import msgspec
import typer

from podlt.events import Event


def write_json(event: Event) -> None:
    """Prints an event as JSON, an object a line: in ASCII, as its text may be a stranger's."""
    typer.echo(json.dumps(msgspec.to_builtins(event), separators=(",", ":")))
    sys.stdout.flush()
