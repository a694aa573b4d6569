"""The command line: `podlt`. One function a command; what is slow to import is imported inside it."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line, and ends the process with its exit code.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Raises:
        SystemExit: always, with one of `podlt.errors.ExitCode`.
    """
    from podlt.cli.app import run

    raise SystemExit(run(argv))
