"""Puts together what a command line asks for: metrics, health, a log; any of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from podlt.extras import MissingPackageError
from podlt.manager import events as ev

if TYPE_CHECKING:
    from podlt.monitoring.logs import EventLog
    from podlt.network.http import Page


class Monitoring(msgspec.Struct, frozen=True):
    """What is to be started.

    Attributes:
        metrics: `[HOST:]PORT` to serve metrics and health on, or empty.
        log_format: "json", "text" or empty.
        log_file: where the log goes, standard error unless given; a file alone is written as JSON.
    """

    metrics: str = ""
    log_format: str = ""
    log_file: Path | None = None


class Watched(NamedTuple):
    """What watches a run.

    Attributes:
        listen: has to hear all events.
        pages: what an HTTP server can show of it: path -> page.
    """

    listen: ev.Listener
    pages: Mapping[str, Page]


@contextmanager
def monitored(
    asked: Monitoring,
    say: Callable[[str], object] = lambda line: None,
    then: ev.Listener = ev.ignore,
    *,
    has_server: bool = False,
) -> Iterator[Watched]:
    """Serves and writes what is asked for, while the context lasts.

    Args:
        asked: metrics, health, a log; any of them, or none.
        say: gets one line: where the metrics are.
        then: a listener that hears every event first.
        has_server: whether the run has an HTTP server of its own: then there are pages without an option for them.

    Raises:
        UsageError: an option is malformed, a port or file cannot be taken, or packages of '.[operations]' are
            missing.
    """
    with ExitStack() as stack:
        listeners: list[ev.Listener] = [then]
        log = event_log_of(asked, stack)
        if log is not None:
            listeners.append(log)
        pages: Mapping[str, Page] = {}
        if asked.metrics or (has_server and find_spec("prometheus_client") is not None):
            pages = _pages(stack, listeners)
        if asked.metrics:
            url = _serve(asked.metrics, stack, pages)
            say(f"metrics at {url}/metrics, health at {url}/healthz and {url}/readyz")
            if log is not None:
                log.say("serving", url=url)

        def listen(event: ev.Event) -> None:
            for listener in listeners:
                listener(event)

        try:
            yield Watched(listen, pages)
        except BaseException as error:
            if log is not None:
                log.failed(error)
            raise


def event_log_of(asked: Monitoring, stack: ExitStack) -> EventLog | None:
    """The log that is asked for, until the stack is closed; None if there is none.

    Raises:
        UsageError: as `monitored`.
    """
    if not asked.log_format and asked.log_file is None:
        return None
    _require("structlog", "a log (--log-format, --log-file)")
    from podlt.monitoring.logs import event_log

    return stack.enter_context(event_log(asked.log_format or "json", asked.log_file))


def _pages(stack: ExitStack, listeners: list[ev.Listener]) -> Mapping[str, Page]:
    from podlt.monitoring.health import HealthCheck
    from podlt.monitoring.server import health_page

    _require("prometheus_client", "--metrics")
    from podlt.monitoring.metrics import Metrics

    metrics, check = Metrics(), HealthCheck()
    stack.callback(metrics.close)
    listeners += [metrics, check]
    return {
        "/metrics": lambda: (200, "text/plain; version=0.0.4; charset=utf-8", metrics.text()),
        "/healthz": health_page(check.alive),
        "/readyz": health_page(check.ready),
    }


def _serve(address: str, stack: ExitStack, pages: Mapping[str, Page]) -> str:
    from podlt.monitoring.server import Server, parse_address

    host, port = parse_address(address)
    return stack.enter_context(Server(host, port, pages)).url


def _require(module: str, what: str) -> None:
    if find_spec(module) is None:
        raise MissingPackageError(what, module)
