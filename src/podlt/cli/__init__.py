"""The command line: `podlt`. One function a command; what is slow to import is imported inside it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line, and ends the process with its exit code.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Raises:
        SystemExit: always, with one of `podlt.errors.ExitCode`.
    """
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
    raise SystemExit(code)
