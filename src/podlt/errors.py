"""Errors, by whose fault they are, each with the exit code that the command line returns.

Our own bugs are assertions, and whatever else nobody foresaw: they end with `ExitCode.CRASH`, and never with a code
that says something about a run.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit code of every command means; the README and `podlt --help` have the same table."""

    HOLDS = 0
    """All that was asked for holds, or is done."""

    FAILS = 1
    """Something fails: a proof, a file that is not what its log says, a machine that computes otherwise. Only that."""

    USAGE = 2
    """The operator can repair it: a wrong argument, a malformed recipe, a package that is not installed."""

    STOPPED = 3
    """Could not go on: a full disk, an unreadable file, too few workers, a loss that is not finite."""

    NOT_CHECKED = 4
    """Nothing fails, but something that was asked for was not checked."""

    CRASH = 70
    """A bug of podlt (EX_SOFTWARE of sysexits.h): it says nothing about a run."""

    INTERRUPTED = 130
    """Asked to end, by Ctrl-C."""


class PodltError(Exception):
    """The root of every error that podlt raises on purpose."""

    exit_code: int = ExitCode.STOPPED


class UsageError(PodltError):
    """The operator asked for something impossible: a missing file, a malformed recipe, an unknown name."""

    exit_code = ExitCode.USAGE


class DataError(UsageError):
    """A line of the data is malformed; names the source and the line.

    Args:
        source: the file or named set, as the user gave it.
        line: the line's number, from 1, or None when the fault is the whole source's.
        message: lower case: what was expected, and what was found.
    """

    def __init__(self, source: str, line: int | None, message: str) -> None:
        super().__init__(f"{source}, line {line}: {message}" if line is not None else f"{source}: {message}")
        self.source = source
        self.line = line


class UnsupportedError(UsageError):
    """An operation has no definition here: it is refused by name, never replaced in silence."""


class StopTraining(Exception):
    """A listener or callback raises it to end the run here: what is applied stays and is paid.

    Args:
        reason: for the log and for people, such as "validation loss has not improved for 3 epochs".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PeerError(PodltError):
    """A worker broke the protocol. Caught at one place, becomes an entry with this reason; never stops the manager.

    Args:
        worker: who.
        reason: a short code for the log.
        message: what was expected, and what was got.
    """

    def __init__(self, worker: int, reason: str, message: str) -> None:
        super().__init__(f"worker {worker}: {message}")
        self.worker = worker
        self.reason = reason


class InvalidProofError(PodltError):
    """A log, a signature or a record does not hold. Carries where, what was expected, and what was found.

    Args:
        step: the numbered step of docs/SPEC.md that failed, 0 when outside `verify`.
        entry: the index of the first entry that is wrong, or None when it is not one entry's fault.
    """

    exit_code = ExitCode.FAILS

    def __init__(
        self, message: str, *, entry: int | None = None, step: int = 0, expected: object = None, actual: object = None
    ) -> None:
        where = f"entry {entry}: " if entry is not None else ""
        detail = f" (expected {_show(expected)}, got {_show(actual)})" if expected is not None else ""
        super().__init__(f"{where}{message}{detail}")
        self.reason = message
        self.entry = entry
        self.step = step
        self.expected = expected
        self.actual = actual


class NotCheckedError(PodltError):
    """Nothing that was looked at fails, but something that was asked for could not be checked; says what, and why."""

    exit_code = ExitCode.NOT_CHECKED


class StorageError(PodltError):
    """The disk is full, or a file cannot be read or written. Nothing that was logged is lost."""


class TooFewWorkersError(PodltError):
    """Fewer than three workers are left: no random shard can be compared. The run can be resumed with more."""


class DivergedError(PodltError):
    """The loss or the parameters are no longer finite, and the manager's own execution agrees that they are not."""


class EngineError(PodltError):
    """The workers' processes could not be started, or die again and again on the same task."""


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
