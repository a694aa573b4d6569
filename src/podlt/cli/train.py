"""`podlt train`: a recipe over workers of one's own, or such a run resumed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from rich.markup import escape

from podlt.cli.dashboard import DashboardOptions
from podlt.cli.groups import grouped
from podlt.cli.monitoring_options import MonitoringOptions
from podlt.cli.options import options_of
from podlt.cli.run_flow import train_and_summarise
from podlt.cli.run_options import NEW, RunOptions
from podlt.errors import UsageError

if TYPE_CHECKING:
    from podlt.manager.result import Result

PANEL = "Workers"


@dataclass(frozen=True)
class OwnMachines:
    """Workers on this machine, or in a Ray cluster of one's own."""

    command: ClassVar[str] = "podlt train"
    has_server: ClassVar[bool] = False

    cheat: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COUNT:CHEAT",
            rich_help_panel=NEW,
            help="Let workers cheat, to see them caught: zero, random, stale, sign-flip, scaled, partial, "
            "low-precision, copycat, non-finite, selective:RATE, and coalition (all the same fake). May be repeated.",
        ),
    ] = None
    engine: Annotated[
        str,
        typer.Option(
            metavar="local|ray",
            rich_help_panel=NEW,
            help="Where the workers are: on this machine, or in a Ray cluster whose people you trust "
            + escape("(needs pip install '.[ray]')."),
        ),
    ] = ""
    processes: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            show_default=False,
            rich_help_panel=PANEL,
            help="Processes to host them; 0 for one a core.",
        ),
    ] = 0
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            rich_help_panel=PANEL,
            help="The Ray cluster to join; RAY_ADDRESS by default, or else this machine alone.",
        ),
    ] = None
    ray_resource: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=AMOUNT",
            rich_help_panel=PANEL,
            help="What each Ray actor takes in addition to a core. May be repeated.",
        ),
    ] = None

    def check(self, which: RunOptions) -> None:
        """Refuses options that do not go with the run's.

        Raises:
            UsageError: says which.
        """
        if which.resume is not None and (self.cheat or self.engine):
            raise UsageError("--cheat and --engine are for new runs, not for --resume")
        if which.resume is None and self.engine != "ray" and (self.ray is not None or self.ray_resource):
            raise UsageError("--ray and --ray-resource need --engine ray")

    def begin(self, recipe: Path, **common: Any) -> Result:
        """Begins a run, and trains. Arguments and errors as `podlt.api.train`."""
        from podlt import api

        where = self._cluster() | ({"engine": self.engine} if self.engine else {})
        return api.train(recipe, cheats=self.cheat or [], processes=self.processes, **where, **common)

    def resume(self, run: Path, **common: Any) -> Result:
        """Resumes a run. Arguments and errors as `podlt.api.resume`."""
        from podlt import api

        if api.is_served(run):
            raise UsageError(f"{run}: its workers are on other machines: resume it with podlt manager --resume {run}")
        return api.resume(run, processes=self.processes or None, **self._cluster(), **common)

    def _cluster(self) -> dict[str, Any]:
        """What was said of a Ray cluster, as `podlt.api` takes it.

        Raises:
            UsageError: a resource is not NAME=AMOUNT.
        """
        found: dict[str, Any] = {} if self.ray is None else {"ray": self.ray}
        if self.ray_resource:
            from podlt.engine.ray.workplace import parse_resource

            found["ray_resources"] = dict(map(parse_resource, self.ray_resource))
        return found


@grouped
def train(
    context: typer.Context,
    which: RunOptions,
    machines: OwnMachines,
    watching: MonitoringOptions,
    page: DashboardOptions,
) -> None:
    """Train a recipe over many workers of your own, with the proof; or resume such a run.

    A run can be stopped at any moment, by Ctrl-C or kill -9: nothing that was logged is lost, and a run that is resumed
    ends with the same bits as one that was never stopped.

    Examples: podlt train digits (seconds, and no download)

              podlt train mnist-mlp --cheat 3:sign-flip

              podlt train my.toml --run runs/mine

              podlt train --resume runs/mine --workers 60

              podlt train digits --set training.epochs=3 --set optimizer.lr=0.001

              podlt train --resume runs/mine --set training.epochs=10

              podlt train --resume runs/mine --data /mnt/new/data.csv

              podlt train my.toml --engine ray --ray 10.0.0.1:6379 --ray-resource training=1
    """
    train_and_summarise(options_of(context), which, machines, watching, page)
