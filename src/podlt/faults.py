"""Faults of podlt itself: a crash differs from a finding by words and exit code, and leaves its traceback."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from importlib import metadata

from podlt.errors import ExitCode, PodltError
from podlt.extras import missing_package

WHERE = '"Reporting a fault" in docs/FAQ.md of podlt'

_SECRETS = (
    (re.compile(r"podlt1-[\w-]+"), "podlt1-..."),  # an invitation holds a secret
    (re.compile(r"(:\d{1,5}/)[\w-]{40,}"), r"\1..."),  # so does its code
    (re.compile(r"(\w+://)[^\s/@]*@"), r"\1...@"),  # a URL may hold a password
)


def crashed(error: BaseException, argv: Sequence[str], *, debug: bool = False) -> int:
    """Says on standard error that podlt crashed, and keeps the traceback in a file of the temporary folder.

    Args:
        error: what nobody had foreseen.
        argv: the arguments after the program's name.
        debug: show the traceback on standard error as well.

    Returns:
        The exit code of a crash.
    """
    try:
        _say(_report(error, argv, debug))
    except Exception:  # whatever else goes wrong here must not end as Python's 1
        _say(f"error: podlt crashed ({type(error).__name__}): this is a bug of podlt, and not a finding about the run")
    return ExitCode.CRASH


def guarded(main: Callable[[], object]) -> int:
    """Runs the main function of a module that is a program of its own (`python -m podlt.bench.NAME`).

    Returns:
        What `main` returns if that is a number; else the exit code of a PodltError, or of a crash.
    """
    program = f"python -m {getattr(sys.modules['__main__'].__spec__, 'name', 'podlt')}"
    try:
        code = main()
    except PodltError as error:
        _say(f"error: {error}")
        return error.exit_code
    except Exception as error:
        found = missing_package(error, program) if isinstance(error, ImportError) else None
        if found is None:
            return crashed(error, sys.argv[1:])
        _say(f"error: {found.need}\nhint: {found.hint}")
        return found.exit_code
    return code if isinstance(code, int) else ExitCode.HOLDS


def _report(error: BaseException, argv: Sequence[str], debug: bool) -> str:
    trace = _without_secrets("".join(traceback.format_exception(error)))
    command = _without_secrets(" ".join(["podlt", *argv]))
    kind = type(error).__name__
    cause = "memory is used up" if isinstance(error, MemoryError) else f"{kind}: {_first_line(error)}".rstrip(": ")
    saved = _save(f"{version_line()}\ncommand: {command}\n\n{trace}")
    lines = [trace.rstrip()] if debug or saved is None else []
    lines += [
        f"error: podlt crashed ({cause}): this is a bug of podlt, and not a finding about the run",
        f"traceback: {saved or 'above (the temporary folder cannot be written)'}",
        f"please report it to the issue tracker of the project, with the traceback, the version ({version_line()}) and "
        f"the command: see {WHERE}",
    ]
    return "\n".join(lines)


def _save(report: str) -> str | None:
    try:
        number, path = tempfile.mkstemp(prefix="podlt-crash-", suffix=".txt")  # 0600
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(report)
    except OSError:
        return None
    return path


def _say(text: str) -> None:
    """Standard error may be closed, or its reader gone: the exit code still says it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


def version_line() -> str:
    """What a report of a fault has to name: the versions of podlt and Python, and the system."""
    try:
        version = metadata.version("podlt")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return f"podlt {version}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"


def _without_secrets(text: str) -> str:
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _first_line(error: BaseException) -> str:
    return _without_secrets((str(error).splitlines() or [""])[0][:200])
