"""`podlt manager`: a recipe over workers on other machines, or such a run resumed."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from podlt.cli.dashboard import DashboardOptions
from podlt.cli.groups import grouped
from podlt.cli.monitoring_options import MonitoringOptions
from podlt.cli.options import options_of
from podlt.cli.run_flow import train_and_summarise
from podlt.cli.run_options import RunOptions

if TYPE_CHECKING:
    from podlt.manager.result import Result

ADDRESS, ADMISSION = "The address", "Who may join"


@dataclass(frozen=True)
class OtherMachines:
    """Workers that join over the network; the fields are arguments of `podlt.serve`."""

    command: ClassVar[str] = "podlt manager"
    has_server: ClassVar[bool] = True

    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            rich_help_panel=ADDRESS,
            help="The name or address by which workers reach this machine. May be repeated; its own by default.",
        ),
    ] = None
    port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            show_default=False,
            rich_help_panel=ADDRESS,
            help="The port; any free one by default, which stays the run's.",
        ),
    ] = 0
    listen: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            rich_help_panel=ADDRESS,
            help="Where to listen; on all of this machine's addresses by default.",
        ),
    ] = ""
    blobs: Annotated[
        str,
        typer.Option(
            metavar="https|URL",
            rich_help_panel=ADDRESS,
            help="How large parameters go: https, from this machine (as at first), or through an object store: "
            "file:///DIR, s3://BUCKET/PREFIX, gs://..., az://...",
        ),
    ] = ""
    silence_timeout: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            metavar="SECONDS",
            rich_help_panel=ADDRESS,
            help="Silence after which a worker counts as gone; 15 s at first.",
        ),
    ] = None
    late_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="SECONDS",
            rich_help_panel=ADDRESS,
            help="How long every task has, however fast the others are, before a second worker is dealt it as well; "
            "1 s at first.",
        ),
    ] = None
    aggregates: Annotated[
        bool | None,
        typer.Option(
            "--aggregates/--no-aggregates",
            show_default=False,
            rich_help_panel=ADDRESS,
            help="Keep each round's sum with its workers' fingerprints: podlt audit --aggregates then checks every "
            "average without executing a task. Takes 1.5 times an update's bytes a round; off at first.",
        ),
    ] = None
    deposit: Annotated[
        int | None,
        typer.Option(
            "--open",
            min=0,
            metavar="CREDITS",
            rich_help_panel=ADMISSION,
            help="Open the run to any key for which this deposit was paid (0: to all), instead of inviting: see podlt "
            "workers deposit --help.",
        ),
    ] = None
    pay_to: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            rich_help_panel=ADMISSION,
            help="Payment instructions, shown to workers whose deposit is missing.",
        ),
    ] = None

    def check(self, which: RunOptions) -> None:
        """All of these go with new runs and with those that are resumed."""

    def begin(self, recipe: Path, **common: Any) -> Result:
        """Begins a run, and trains. Arguments and errors as `podlt.api.serve`."""
        from podlt import api

        return api.serve(recipe, **self._network(), **common)

    def resume(self, run: Path, **common: Any) -> Result:
        """Resumes a run. Arguments and errors as `podlt.api.resume`."""
        from podlt import api
        from podlt.manager.serving import NetworkOptions

        network = NetworkOptions(**self._network(), pages=common.pop("pages", {}))
        return api.resume(run, network=network, **common)

    def _network(self) -> dict[str, Any]:
        return {**asdict(self), "name": tuple(self.name or ())}


@grouped
def manager(
    context: typer.Context,
    which: RunOptions,
    machines: OtherMachines,
    watching: MonitoringOptions,
    page: DashboardOptions,
) -> None:
    """Train a recipe over workers on other machines, with the proof; or resume such a run.

    Prints one line to send to whoever shall work: podlt worker HOST:PORT/CODE. Workers may come and go at any time. A
    manager that was killed is resumed with --resume: nothing that was logged is lost, and workers come back by
    themselves. Address, port, --blobs, --silence-timeout and --late-seconds then stay as they were, unless given.

    Examples: podlt manager digits --name 127.0.0.1 --workers 3

              podlt worker 127.0.0.1:PORT/CODE --identities 3     then, in another terminal

              podlt manager mnist-mlp --name train.example.org --port 443

              podlt manager --resume runs/mine
    """
    if watching.quiet:  # the server's warnings go into the log, if there is one, and nowhere else
        logging.getLogger("podlt.network").addHandler(logging.NullHandler())
    train_and_summarise(options_of(context), which, machines, watching, page)
