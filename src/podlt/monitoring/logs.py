"""A log that programs read: one event a line, with its run, round and worker, and no secret in it.

Secrets are left out three times: an event's field that holds one is never taken; fields are dropped by name; and what
looks like an invitation, a key or a password in a URL is blotted out of every text, other libraries' included.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

import msgspec
import structlog
from structlog.typing import Processor

from podlt.errors import PodltError, UsageError
from podlt.manager import events as ev

NAME = "podlt.run"
FORMATS = ("json", "text")
EVERY = 1.0
"""Seconds between two lines about rounds that went well: a small model has hundreds of them a second."""

HIDDEN = "[hidden]"
SECRET_FIELDS = frozenset(
    {"invitation", "invitation_code", "password", "token", "secret", "seed", "private_key", "chain"}
)
SECRET_TEXTS = (
    (re.compile(r"podlt1-[A-Za-z0-9_=-]+"), HIDDEN),
    (re.compile(r"(:\d{1,5}/)[A-Za-z0-9_-]{40,}"), rf"\1{HIDDEN}"),  # an invitation's code
    (re.compile(r"(?i)podlt-key-1[-a-z2-7]*"), HIDDEN),
    (re.compile(r"(?<=://)\S*@"), f"{HIDDEN}@"),
    (re.compile(r"(?i)\b(password|passwd|token|secret)=[^\s&]+"), rf"\1={HIDDEN}"),
)
ORDER = ["time", "level", "event", "run", "round", "worker"]

Fields = MutableMapping[str, Any]


def hidden(text: str) -> str:
    """The text without what looks like a secret."""
    for pattern, instead in SECRET_TEXTS:
        text = pattern.sub(instead, text)
    return text


class EventLog:
    """A listener that writes events as lines.

    What is said again and again is written when it changes, rounds once a second, and how each round's parameters went
    out never: metrics add that up.

    Args:
        write: takes a level, an event's name and its fields.
        clock: seconds, monotonic.
    """

    def __init__(self, write: Callable[[int, str, Fields], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._run = ""
        self._stage: object = None
        self._connected = 0
        self._next, self._unsaid = 0.0, 0
        self._handlers: ev.Handlers = {
            ev.Published: ev.ignore,
            ev.WorkersSeen: ev.ignore,
            ev.Started: self._started,
            ev.Preparing: lambda event: self._if_new(event, event.what),
            ev.Waiting: lambda event: self._if_new(event, (event.workers, event.wanted)),
            ev.Gathered: self._gathered,
            ev.Connected: self._counted,
            ev.RoundDone: self._round,
            ev.Joined: lambda event: self.say(event.name, **_renamed(_fields(event), "key", "public_key")),
        }

    def __call__(self, event: ev.Event) -> None:
        """Takes an event of a run."""
        if type(event) in self._handlers:
            ev.handle(self._handlers, event)
        else:
            self.record(event)

    def record(self, event: ev.Event) -> None:
        """Writes an event as it is."""
        self.say(event.name, event.level, **_fields(event))

    def _started(self, event: ev.Started) -> None:
        self._run = event.run
        self.record(event)

    def _if_new(self, event: ev.Event, stage: object) -> None:
        if stage != self._stage:
            self._stage = stage
            self.record(event)

    def _gathered(self, event: ev.Gathered) -> None:
        self._stage = None
        self.record(event)

    def _counted(self, event: ev.Connected) -> None:
        if event.workers != self._connected:
            self._connected = event.workers
            self.record(event)

    def _round(self, event: ev.RoundDone) -> None:
        self._stage = None
        if self._clock() < self._next and event.round + 1 < event.rounds:
            self._unsaid += 1
            return
        self._next = self._clock() + EVERY
        self.say(event.name, **_fields(event), rounds_unsaid=self._unsaid)
        self._unsaid = 0

    def say(self, name: str, level: int = logging.INFO, **fields: object) -> None:
        """Writes something that is no event: its name, and what is to be said of it."""
        self._write(level, name, self._with_run(fields))

    def failed(self, error: BaseException) -> None:
        """Writes how the command ended, if not well."""
        if isinstance(error, PodltError):
            fields: Fields = {"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
        elif isinstance(error, KeyboardInterrupt):
            fields = {"error": "interrupted", "message": "asked to end (SIGINT or SIGTERM)"}
        else:
            fields = {"error": type(error).__name__, "message": str(error), "exc_info": error}
        self._write(logging.ERROR, "failed", self._with_run(fields))

    def _with_run(self, fields: Fields) -> Fields:
        return {"run": self._run, **fields} if self._run else fields


def _fields(event: object) -> dict[str, Any]:
    return msgspec.structs.asdict(event)  # type: ignore[arg-type]


def _renamed(fields: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: value for name, value in fields.items()}


@contextmanager
def event_log(format: str, file: Path | None) -> Iterator[EventLog]:
    """Writes lines to a file, or to standard error; warnings of other libraries go there as well, in the same form.

    A file that logrotate has moved away is opened anew.

    Raises:
        UsageError: no such format, or the file cannot be written.
    """
    handler = _handler(file)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, _at, _logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _clean,
                _renderer(format),
            ],
        )
    )
    own, root = logging.getLogger(NAME), logging.getLogger()
    logger = structlog.wrap_logger(
        own,
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.add_log_level,
            _at,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
    )
    own.setLevel(logging.INFO)
    own.propagate = False  # secrets are taken out by this handler alone: no other may see what comes before it
    for each in (own, root):
        each.addHandler(handler)
    try:
        yield EventLog(lambda level, name, fields: logger.log(level, name, **fields))
    finally:
        for each in (own, root):
            each.removeHandler(handler)
        handler.close()


def _handler(file: Path | None) -> logging.Handler:
    if file is None:
        return logging.StreamHandler(sys.stderr)
    try:
        return WatchedFileHandler(file, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--log-file {file}: cannot be written: {error.strerror}") from None


def _renderer(format: str) -> Processor:
    if format == "json":
        return structlog.processors.JSONRenderer()
    if format == "text":
        return structlog.processors.LogfmtRenderer(key_order=ORDER, drop_missing=True, bool_as_flag=False)
    raise UsageError(f"--log-format {format}: expected one of {', '.join(FORMATS)}")


def _at(logger: object, method: str, fields: Fields) -> Fields:
    fields["time"] = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")(logger, method, {})["time"]
    return fields


def _logger_name(logger: object, method: str, fields: Fields) -> Fields:
    fields["logger"] = fields["_record"].name
    return fields


def _clean(logger: object, method: str, fields: Fields) -> Fields:
    """In a fixed order, without secrets, and without what would end a line or steer a terminal."""
    first = [name for name in ORDER if name in fields]
    return {name: _safe(name, fields[name]) for name in [*first, *(n for n in fields if n not in first)]}


def _safe(name: str, value: object) -> object:
    if name in SECRET_FIELDS:
        return HIDDEN
    if isinstance(value, dict):
        return {str(key): _safe(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_safe("", inner) for inner in value]
    if isinstance(value, bool | int) or value is None or (isinstance(value, float) and math.isfinite(value)):
        return value  # JSON has no NaN: it becomes a text below
    text = hidden(str(value))
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
