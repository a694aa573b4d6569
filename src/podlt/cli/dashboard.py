"""`podlt dashboard`: a page that shows a run, a bundle, or a folder of runs; and the options for one."""

from __future__ import annotations

import signal
import time
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podlt.errors import UsageError

if TYPE_CHECKING:
    from podlt.dashboard.companion import DashboardCompanion
    from podlt.dashboard.server import DashboardServer

PANEL = "Dashboard"
URLS = "http://", "https://"

PlaceOption = Annotated[
    str,
    typer.Option(
        metavar="[HOST:]PORT",
        rich_help_panel=PANEL,
        help="Where the page is served: on this machine alone unless HOST says otherwise, and then only with the token "
        "in its address. It is not encrypted: over a network, ssh -L PORT:127.0.0.1:PORT is better.",
    ),
]
BrowserOption = Annotated[bool, typer.Option("--browser", rich_help_panel=PANEL, help="Open a browser at the page.")]


@dataclass(frozen=True)
class DashboardOptions:
    """Whether a command that takes long shows a page meanwhile."""

    dashboard: Annotated[
        bool,
        typer.Option("--dashboard", rich_help_panel=PANEL, help="Serve a page that shows how it goes."),
    ] = False
    dashboard_address: PlaceOption = ""
    browser: BrowserOption = False

    @property
    def wanted(self) -> bool:
        """Whether there is to be a page."""
        return self.dashboard or bool(self.dashboard_address) or self.browser


@contextmanager
def companion(
    kind: str,
    asked: DashboardOptions,
    say: Callable[[str], object],
    limits: Mapping[str, str] | None = None,
    act: Callable[[str], object] = lambda action: None,
) -> Iterator[DashboardCompanion | None]:
    """A page beside a command, in a process of its own; None if none is asked for.

    Args:
        kind: of page: "run" or "lender".
        asked: the options.
        say: gets the line that says where it is.
        limits: what a worker's owner gives.
        act: does what its buttons ask for.

    Raises:
        UsageError: it cannot listen there.
    """
    if not asked.wanted:
        yield None
        return
    from podlt.dashboard.companion import DashboardCompanion

    with DashboardCompanion(kind, asked.dashboard_address, limits, act) as page:
        say(f"dashboard: {page.url}")
        if asked.browser:
            webbrowser.open(page.url)
        yield page


def dashboard(
    what: Annotated[
        str,
        typer.Argument(metavar="RUN|FOLDER", help="A run's directory, a bundle, or a folder that has several of them."),
    ],
    address: PlaceOption = "",
    browser: BrowserOption = False,
) -> None:
    """Show a run on a page, while it is trained or afterwards; or the runs of a folder, side by side. Ctrl-C ends it.

    A run that is over is verified, as by podlt verify. The same page in one file: podlt report RUN.

    Examples: podlt dashboard runs/mnist

              podlt dashboard runs --browser

              podlt train mnist-mlp --dashboard     the page of a run from its first moment
    """
    from podlt.dashboard.background import processes
    from podlt.dashboard.claims import show_claims
    from podlt.dashboard.companion import parse_place
    from podlt.dashboard.runs import RunFolder, runs_in
    from podlt.dashboard.server import DashboardServer
    from podlt.dashboard.source import RunSource
    from podlt.dashboard.stream import MessageStream
    from podlt.store.run_files import open_run_files
    from podlt.store.run_names import RECIPE

    if what.startswith(URLS):
        raise UsageError(
            f"{what}: podlt opens no addresses. A page of somebody else's: open it in a browser. A bundle: download it "
            f"(curl -LO {what}), then podlt dashboard FILE"
        )
    path = Path(what)
    host, ports = parse_place(address)
    with ExitStack() as stack:
        work = processes()
        stack.callback(work.shutdown, wait=False, cancel_futures=True)
        if path.is_dir() and not (path / RECIPE).is_file() and runs_in(path):
            folder = RunFolder(path, work)
            folder.start()
            stack.callback(folder.stop)
            kind, streams = "runs", folder.stream
        else:
            open_run_files(path).close()
            stream = MessageStream()
            source = RunSource(path, stream)
            show_claims(source, path, stream, work)
            source.start()
            stack.callback(source.stop)
            kind, streams = "run", lambda name: stream if not name else None
        server = _first_free(ports, lambda port: DashboardServer(host, port, kind, streams), stack)
        typer.echo(f"dashboard: {server.url}")
        typer.echo("Ctrl-C ends it")
        if browser:
            webbrowser.open(server.url)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(1.0)


def _first_free(ports: list[int], make: Callable[[int], DashboardServer], stack: ExitStack) -> DashboardServer:
    """The server, on the first of these ports that is free.

    Raises:
        UsageError: none is.
    """
    for port in ports[:-1]:
        try:
            return stack.enter_context(make(port))
        except UsageError:
            continue
    return stack.enter_context(make(ports[-1]))
