"""What `podlt train` and `podlt manager` do alike: begin or resume a run, show how it goes, and sum it up."""

from __future__ import annotations

import shlex
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import typer

from podlt.cli.dashboard import DashboardOptions, companion
from podlt.cli.monitoring_options import MonitoringOptions
from podlt.cli.options import Options, console
from podlt.cli.recipes import find_recipe
from podlt.cli.run_options import RunOptions
from podlt.cli.run_output import listener
from podlt.cli.summary import print_summary
from podlt.errors import TooFewWorkersError
from podlt.manager import events as ev
from podlt.monitoring.setup import monitored
from podlt.recipe_changes import read_changes

if TYPE_CHECKING:
    from podlt.dashboard.companion import DashboardCompanion
    from podlt.manager.result import Result


SHOWN = MonitoringOptions()
"""Output for people, and nothing else."""

NOTHING_YET = (
    "no round was trained, and there is no run to resume; begin again with the same command (data that were prepared, "
    "and arithmetic that was checked, are kept)"
)
"""What is left before there is anything to resume."""

NO_PAGE = DashboardOptions()


class Machines(Protocol):
    """Where the workers of a run are: what differs between the commands.

    Attributes:
        command: that resumes such a run.
        has_server: whether such a run has an HTTP server, which can show pages.
    """

    command: ClassVar[str]
    has_server: ClassVar[bool]

    def check(self, which: RunOptions) -> None:
        """Refuses options that do not go with the run's.

        Raises:
            UsageError: says which.
        """

    def begin(self, recipe: Path, **common: Any) -> Result:
        """Begins a run, and trains. Arguments and errors as `podlt.api.train`."""

    def resume(self, run: Path, **common: Any) -> Result:
        """Resumes a run. Arguments and errors as `podlt.api.resume`."""


def train_and_summarise(
    options: Options, which: RunOptions, machines: Machines, watching: MonitoringOptions, page: DashboardOptions
) -> None:
    """Begins or resumes a run, and prints what it came to. Errors as `perform`."""
    path = perform(options, which, machines, watching, page)
    if not watching.silent:
        print_summary(path, console())


def perform(
    options: Options,
    which: RunOptions,
    machines: Machines,
    watching: MonitoringOptions = SHOWN,
    page: DashboardOptions | DashboardCompanion = NO_PAGE,
) -> Path:
    """Begins or resumes a run, and shows how it goes until it ends; returns its directory.

    Args:
        options: take the hint how to resume the run, should it end with an error.
        which: the run.
        machines: where its workers are.
        watching: what to show, and to whom.
        page: whether to show it on a page, too; or the page, which stays when the run is over.

    Raises:
        PodltError: as `podlt.api` says.
    """
    which.check()
    machines.check(which)
    recipe = find_recipe(which.recipe) if which.recipe is not None else None
    hints = _hints(machines.command)
    options.remains = NOTHING_YET

    def follow(event: ev.Event) -> None:
        if type(event) in hints:
            options.hint = hints[type(event)](event)
        if page_process is not None:
            page_process(event)
        show(event)

    try:
        with (
            _sigterm_interrupts(),
            _trust_warnings(quiet=watching.quiet),
            _page(page, watching) as page_process,
            monitored(watching.monitoring(), _echo_unless(watching.silent), follow, has_server=machines.has_server) as (
                listen,
                pages,
            ),
            listener(quiet=watching.quiet, as_json=watching.as_json) as show,
        ):
            listen(ev.Preparing(what="loading PyTorch"))
            common: dict[str, Any] = {"workers": which.workers, "store": which.store, "listener": listen}
            if machines.has_server:
                common["pages"] = pages
            if which.set:
                common["set"] = read_changes(which.set)
            if recipe is not None:
                path = machines.begin(recipe, run=which.run, **common).run
            else:
                assert which.resume is not None
                path = machines.resume(which.resume, data=which.data, code=which.code, **common).run
    except TooFewWorkersError:
        options.hint = options.hint and f"{options.hint} --workers N"
        raise
    options.hint, options.remains = "", _complete(path)
    return path


def _complete(path: Path) -> str:
    """What is left when whoever trained is interrupted afterwards."""
    return f"the run is over, and kept; look at it with: podlt show {shlex.quote(str(path))}"


def _hints(command: str) -> Mapping[type[ev.Event], Callable[[Any], str]]:
    """How to resume after an event; before them no entry is written, and there is nothing to resume."""
    return {
        ev.Invited: lambda event: f"the invitation stays valid; resume with: {command} --resume {event.path}",
        ev.Started: lambda event: f"nothing that was logged is lost; resume with: {command} --resume {event.path}",
    }


def _page(
    page: DashboardOptions | DashboardCompanion, watching: MonitoringOptions
) -> AbstractContextManager[DashboardCompanion | None]:
    """The page of a run, while it goes on. Errors as `companion`."""
    if isinstance(page, DashboardOptions):
        return companion("run", page, _page_line(watching))
    return nullcontext(page)


def _page_line(watching: MonitoringOptions) -> Callable[[str], object]:
    """Says where the page is; scripts read standard output, so it is not said there."""
    return (lambda line: typer.echo(line, err=True)) if watching.silent else typer.echo


def _echo_unless(silent: bool) -> Callable[[str], object]:
    return (lambda line: None) if silent else typer.echo


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Ends as by Ctrl-C when a supervisor asks: worker processes and servers end with the command."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _trust_warnings(*, quiet: bool) -> Iterator[None]:
    """An engine's warning about whom it trusts, in a line of its own instead of a line of source."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            from podlt.engine.ray.workplace import TrustWarning

            if not issubclass(category, TrustWarning):
                usual(message, category, *where, **more)
            elif not quiet:
                typer.echo(f"warning: {message}", err=True)

        warnings.showwarning = show
        yield
