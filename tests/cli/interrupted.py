"""A command in a session of its own, as on a terminal, and Ctrl-C to all of its processes at a drawn moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from podlt.cli import main; main()"
"""A test that runs in the background of a shell ignores Ctrl-C, and so would what it starts."""

LONGEST = 600.0


class Session:
    """A command, its output in two files, and the processes that it started."""

    def __init__(self, folder: Path, *argv: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.argv, self.folder = [str(argument) for argument in argv], folder
        number = len(list(folder.glob("*.stdout")))
        self._out, self._err = folder / f"{number}.stdout", folder / f"{number}.stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", COMMAND, *self.argv],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def runs(self) -> bool:
        return self._popen.poll() is None

    def until_says(self, words: str) -> None:
        """Waits until it prints something, or ends."""
        deadline = time.monotonic() + LONGEST
        while words not in self.out and self.runs:
            assert time.monotonic() < deadline, (words, self.out, self.err)
            time.sleep(0.02)

    def interrupt(self) -> None:
        """Ctrl-C, for every process of the session's foreground."""
        if self.runs:
            os.killpg(self._popen.pid, signal.SIGINT)

    def code(self) -> int:
        return self._popen.wait(LONGEST)

    def left(self) -> list[str]:
        """Processes of the session that live on; they are ended."""
        deadline = time.monotonic() + 20
        while (members := _members(self._popen.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in members:
            os.kill(pid, signal.SIGKILL)
        return list(members.values())


def _members(session: int) -> dict[int, str]:
    found = {}
    for process in Path("/proc").iterdir():
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split() if process.name.isdigit() else []
            if fields and int(fields[3]) == session and fields[0] not in "ZX":
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
        except (OSError, ValueError):  # it ended meanwhile
            continue
    return found


def interrupted(chance: random.Random, folder: Path, argv: tuple[object, ...], words: str, within: float) -> Session:
    """A command that was interrupted at a drawn moment, once, or twice within a second.

    Args:
        words: of its standard output after which it is interrupted; none for its beginning.
        within: so many seconds after that, at most.
    """
    session = Session(folder, *argv)
    session.until_says(words)
    time.sleep(chance.uniform(0, within))
    session.interrupt()
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0, 1))
        session.interrupt()
    return session
