"""What a command shows of a run: a bar on a terminal, plain lines elsewhere, JSON for scripts, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from podlt.cli.event_writer import write_json
from podlt.cli.options import console
from podlt.manager import events as ev
from podlt.progress.terminal import PlainLines, progress_bar


@contextmanager
def listener(*, quiet: bool, as_json: bool) -> Iterator[ev.Listener]:
    """The listener that suits the options and the output."""
    if as_json:
        yield write_json
    elif quiet:
        yield ev.ignore
    elif sys.stdout.isatty():
        with progress_bar(console()) as listen:
            yield listen
    else:
        yield PlainLines(typer.echo)
