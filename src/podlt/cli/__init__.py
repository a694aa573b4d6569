"""The command line: `podlt`. One function a command; what is slow to import is imported inside it."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Sequence

from podlt.tuning import tune_process


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line, and ends the process with its exit code.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Raises:
        SystemExit: always, with one of `podlt.errors.ExitCode`.
    """
    ended: list[int] = []
    if argv is None:  # the process is this command's, and nothing has registered yet what is to be done at its end
        atexit.register(_end, ended)
        tune_process()
    try:
        from podlt.cli.app import run

        code = run(argv)
    except KeyboardInterrupt:  # while modules are imported, before any command has begun
        sys.stderr.write("interrupted\n")
        code = 130
    except Exception as error:  # an installation that is damaged must not end with Python's 1 either
        from podlt.faults import crashed

        code = crashed(error, sys.argv[1:] if argv is None else argv)
    if code == 130 and argv is None:  # whoever presses Ctrl-C twice has no use for a traceback of the exit
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended.append(code)
    raise SystemExit(code)


def _end(ended: Sequence[int]) -> None:
    """Ends the process where Python would take its modules down: for PyTorch's that lasts seconds, and frees nothing.

    Threads have ended by then, and what was registered later (files to delete, trackers to close) is done.

    Args:
        ended: the exit code; empty if the command did not return, which Python knows how to end.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):  # what was printed did not arrive: Python says so, and ends with its code for it
        return
    if ended:
        os._exit(ended[0])
