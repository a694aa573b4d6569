"""Commands that a page or a --help shows with their output, executed, and held against what is shown.

A block has lines `$ COMMAND`, each followed by what it prints. "..." alone stands for any lines, and at the end of a
line for the rest of it; numbers, digests, keys and times may be others than those shown.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from podlt.cli.app import run

_CHANGING = re.compile(r"\b[0-9a-f]{12,}\b|[A-Za-z0-9+/_-]{40,}=*|\d[\d,.:]*")
_BLANK = re.compile(r"\s+")


class Step(msgspec.Struct, frozen=True):
    """A command, and the lines that are shown below it."""

    command: str
    shown: tuple[str, ...]


def steps(block: str) -> Iterator[Step]:
    """The commands of a block, in their order."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.replace("\\\n", "").splitlines()
        yield Step(command, tuple(line for line in lines if line.strip()))


def executed(command: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of a command, called in a folder: `podlt ...` in this process, `python FILE` in another."""
    words = shlex.split(command.split(" #")[0])
    if words[0] in ("cat", "mkdir", "sh", "python"):
        if words[0] == "python":
            words[0] = sys.executable
        path = os.pathsep.join([*sys.path, str(folder)])
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
        return done.returncode, done.stdout + done.stderr
    assert words[0] == "podlt", f"only podlt, python, cat and mkdir are executed: {command}"
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    target = words[words.index(">") + 1] if ">" in words else ""
    words = words[: words.index(">")] if target else words
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run(words[1:])
    printed = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    if target:
        (folder / target).write_text(printed)
    return code, "" if target else printed


def alike(line: str) -> str:
    """A line without what differs from run to run."""
    return _BLANK.sub(" ", _CHANGING.sub("#", line)).strip()


def first_difference(shown: tuple[str, ...], printed: str) -> str:
    """The first line that is shown and was not printed in its place; "" if all were, in their order."""
    there = [alike(line) for line in printed.splitlines() if line.strip()]
    place = 0
    may_skip = False
    for line in shown:
        if line.strip() == "...":
            may_skip = True
            continue
        wanted = alike(line.removesuffix("..."))
        cut = line.endswith("...")
        found = [n for n in range(place, len(there)) if fits(there[n], wanted, cut)]
        if not found or (found[0] != place and not may_skip):
            return line
        place, may_skip = found[0] + 1, False
    return "" if may_skip or place == len(there) else f"(the end; printed is also: {there[place]})"


def fits(printed: str, wanted: str, cut: bool) -> bool:
    """Whether a line that was printed is the one that is shown."""
    return printed.startswith(wanted) if cut else printed == wanted


@contextlib.contextmanager
def started(command: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, which is ended with the context."""
    code = "from podlt.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", code, *shlex.split(command)[1:]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(words, cwd=folder, env=environment, text=True, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(path: Path) -> None:
    """Returns once there is a file."""
    while not path.exists():
        time.sleep(0.05)
