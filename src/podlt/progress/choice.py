"""Which progress a Python program gets: a notebook's panel, a terminal's bar, plain lines, or none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from podlt.manager import events as ev
from podlt.progress.notebook import Display, NotebookPanel
from podlt.progress.terminal import PlainLines, progress_bar


@contextmanager
def shown_progress(asked: bool | None) -> Iterator[ev.Listener | None]:
    """The listener that shows how a run goes on, while the context lasts; None for none.

    Args:
        asked: True for lines where there is neither notebook nor terminal; None for nothing there; False for nothing
            anywhere.
    """
    if asked is False:
        yield None
    elif (display := notebook_display()) is not None:
        yield NotebookPanel(display)
    elif sys.stdout.isatty():
        with progress_bar(Console(highlight=False)) as listen:
            yield listen
    else:
        yield PlainLines(_print) if asked else None


def notebook_display() -> Display | None:
    """What shows an output in the notebook's cell that runs this; None outside of notebooks.

    Only a kernel has a shell with one: a program that merely imports IPython has none.
    """
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return None
    show: Any = ipython.display.display
    return lambda value: show(value, display_id=True)


def _print(line: str) -> None:
    print(line, flush=True)
