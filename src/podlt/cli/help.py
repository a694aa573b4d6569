"""What every command's --help shows besides typer's: paragraphs that fit any terminal, and an example with its output.

The examples are files of the folder `examples`, one a command, such as `workers-list.txt`: a line `$ podlt ...`, and
what it prints; "..." stands for what is left out. tests/cli/test_help_examples.py executes them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

FOLDER = Path(__file__).parent / "examples"


def complete(command: Any, words: tuple[str, ...] = ()) -> None:
    """Gives a command, and all below it, what its --help shows.

    Args:
        command: as typer built it.
        words: by which it is called, after "podlt".
    """
    for name, each in getattr(command, "commands", {}).items():
        complete(each, (*words, name))
        each.help = re.sub(r"(?<=\S)\n *(?=\S)", " ", inspect.cleandoc(each.help or ""))
        if (example := example_of((*words, name))) and not hasattr(each, "commands"):
            each.format_help = partial(_help_with, example, each.format_help)


def example_of(words: tuple[str, ...]) -> str:
    """The example of a command; "" where it has none."""
    path = FOLDER / f"{'-'.join(words)}.txt"
    return path.read_text(encoding="utf-8").rstrip("\n") if path.is_file() else ""


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command below one that has none below itself, with the words by which it is called."""
    for name, each in getattr(command, "commands", {}).items():
        if hasattr(each, "commands"):
            yield from leaves(each, (*words, name))
        else:
            yield (*words, name), each


def _help_with(example: str, format_help: Any, context: Any, formatter: Any) -> None:
    format_help(context, formatter)
    Console(highlight=False).print(Panel(Text(example), title="Example", title_align="left", border_style="dim"))
