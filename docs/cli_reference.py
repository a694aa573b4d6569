"""The reference of the command line, written from the commands themselves: it cannot say anything that they do not."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from typer.main import get_command

from podlt.cli.app import COMMANDS, GROUPS, build
from podlt.cli.help import complete, example_of, leaves
from podlt.errors import ExitCode

HEAD = """# Command line

Written from the commands themselves, as `podlt COMMAND --help` shows them. Every example is executed by the tests.

"""


def write_reference(path: Path) -> None:
    """Writes the page, if it is another than the one that is there."""
    text = reference()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def reference() -> str:
    """The page."""
    command = get_command(build())
    complete(command)
    parts = [HEAD, _exit_codes()]
    for panel, commands in COMMANDS.items():
        names = [each.__name__.replace("_", "-") for each in commands]
        names += [name for name, (_, where) in GROUPS.items() if where == panel]
        parts.append(f"## {panel}\n\n")
        for words, each in leaves(command):
            if words[0] in names:
                parts.append(_section(words, each))
    return "".join(parts)


def _exit_codes() -> str:
    rows = "".join(f"| {code.value} | {_meaning(code)} |\n" for code in ExitCode)
    return f"## Exit codes\n\n| code | meaning |\n| --- | --- |\n{rows}\n"


def _meaning(code: ExitCode) -> str:
    """What its source says below it."""
    found = re.search(rf'{code.name} = \d+\n    """(.*?)"""', inspect.getsource(ExitCode), re.DOTALL)
    assert found is not None
    return found[1].strip()


def _section(words: tuple[str, ...], command: Any) -> str:
    title = " ".join(("podlt", *words))
    help_text = re.sub(r"\n\n +", "\n\n", command.help or "").replace("<", "&lt;")
    text = f"### `{title}`\n\n{_unmarked(help_text)}\n\n"
    if example := example_of(words):
        text += f"```console\n{example}\n```\n\n"
    rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
    rows = [row for row in rows if row]
    if rows:
        text += "| argument or option | |\n| --- | --- |\n" + "".join(rows) + "\n"
    return text


def _unmarked(text: str) -> str:
    """Help without rich's marks, and with podlt's commands as code where a paragraph is examples."""
    text = re.sub(r"\[/?[a-z]+\]", "", text)
    paragraphs = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("Example"):
            paragraph = re.sub(r"^(Examples?:) (.*)$", r"\1 `\2`", paragraph, flags=re.DOTALL)
        elif paragraph.startswith("podlt "):
            paragraph = f"`{paragraph.strip()}`"
        paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


def _row(parameter: Any) -> str:
    if parameter.name == "help":
        return ""
    is_argument = parameter.param_type_name == "argument"
    names = [] if is_argument else [*parameter.opts, *parameter.secondary_opts]
    shown = ", ".join(f"`{name}`" for name in names)
    metavar = parameter.metavar or (parameter.name.upper() if is_argument else "")
    is_flag = getattr(parameter, "is_flag", False)
    if metavar and not is_flag:
        shown = f"{shown} `{metavar}`".strip()
    words = re.sub(r"\\?\[", "[", getattr(parameter, "help", "") or "")
    default = parameter.default
    if default not in (None, False, "", 0, ()) and not callable(default) and not is_argument and not is_flag:
        words += f" Default: `{default}`."
    return f"| {_cell(shown)} | {_cell(words)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
