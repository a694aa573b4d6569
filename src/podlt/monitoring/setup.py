"""Puts together what a command line asks for: metrics, health, a log; any of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from podlt.extras import MissingPackageError
from podlt.manager import events as ev

if TYPE_CHECKING:
    from podlt.monitoring.logs import EventLog


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


@contextmanager
def monitored(
    asked: Monitoring, say: Callable[[str], object] = lambda line: None, then: ev.Listener = ev.ignore
) -> Iterator[ev.Listener]:
    """Serves and writes what is asked for, while the context lasts; gives the listener that has to hear all events.

    Args:
        asked: metrics, health, a log; any of them, or none.
        say: gets one line: where the metrics are.
        then: a listener that hears every event first.

    Raises:
        UsageError: an option is malformed, a port or file cannot be taken, or packages of '.[operations]' are
            missing.
    """
    with ExitStack() as stack:
        listeners: list[ev.Listener] = [then]
        log = event_log_of(asked, stack)
        if log is not None:
            listeners.append(log)
        if asked.metrics:
            url = _serve(asked.metrics, stack, listeners)
            say(f"metrics at {url}/metrics, health at {url}/healthz and {url}/readyz")
            if log is not None:
                log.say("serving", url=url)

        def listen(event: ev.Event) -> None:
            for listener in listeners:
                listener(event)

        try:
            yield listen
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


def _serve(address: str, stack: ExitStack, listeners: list[ev.Listener]) -> str:
    from podlt.monitoring.health import HealthCheck
    from podlt.monitoring.server import Server, health_page, parse_address

    host, port = parse_address(address)
    _require("prometheus_client", "--metrics")
    from podlt.monitoring.metrics import Metrics

    metrics, check = Metrics(), HealthCheck()
    stack.callback(metrics.close)
    pages = {
        "/metrics": lambda: (200, "text/plain; version=0.0.4; charset=utf-8", metrics.text()),
        "/healthz": health_page(check.alive),
        "/readyz": health_page(check.ready),
    }
    server = stack.enter_context(Server(host, port, pages))
    listeners += [metrics, check]
    return server.url


def _require(module: str, what: str) -> None:
    if find_spec(module) is None:
        raise MissingPackageError(what, module)
