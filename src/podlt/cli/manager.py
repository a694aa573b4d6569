"""`podlt manager`: a recipe over workers on other machines."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from podlt.cli.monitoring_options import LogFileOption, LogFormatOption, MetricsOption, operating
from podlt.cli.options import (
    CodeOption,
    DataOption,
    JsonOption,
    NewRecipeArgument,
    NewRunOption,
    Options,
    QuietOption,
    ResumeOption,
    console,
    options_of,
)
from podlt.cli.progress import listener
from podlt.cli.recipes import find_recipe
from podlt.cli.store import StoreOption
from podlt.cli.summary import print_summary
from podlt.errors import UsageError
from podlt.manager import events as ev
from podlt.monitoring.setup import Operations
from podlt.recipe import load_recipe

if TYPE_CHECKING:
    from podlt.engine.interface import Job, Workplace
    from podlt.network.link import ManagerLink
    from podlt.network.nats.cluster import NatsCluster


def manager(
    context: typer.Context,
    recipe: NewRecipeArgument = None,
    run: NewRunOption = None,
    resume: ResumeOption = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Begin when so many workers are there; by default what the recipe says.")
    ] = 0,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on; all of this machine's by default.")
    ] = "",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; any free one by default, and then always the same.")
    ] = 0,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST", help="How workers reach this machine. May be repeated; its own address by default."
        ),
    ] = None,
    websocket: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Listen for WebSocket with TLS as well; 0 for any port."),
    ] = None,
    nats: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Use a NATS cluster of your own instead of a server that this manager starts: tls://HOST:4222 or "
            "wss://HOST:443. May be repeated, or several with commas. See podlt key nats --help.",
        ),
    ] = None,
    nats_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key that podlt key nats made for the cluster.")
    ] = None,
    nats_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Who signed the cluster's certificates, in PEM; a usual authority if not told."
        ),
    ] = None,
    blobs: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Send large parameters through an object store: file:///DIR, s3://BUCKET/PREFIX, gs://..., az://...; "
            "'none': no HTTPS server either, all in NATS messages; 'https': by that server alone, as at first.",
        ),
    ] = "",
    blobs_port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Where workers fetch and bring what is large, by HTTPS; any free port by default."
        ),
    ] = 0,
    open_for: Annotated[
        int | None,
        typer.Option(
            "--open",
            min=0,
            metavar="CREDITS",
            help="Open the run to any key for which this deposit was paid (0: to all), instead of inviting: see podlt "
            "workers deposit --help.",
        ),
    ] = None,
    pay_to: Annotated[
        str | None, typer.Option(metavar="TEXT", help="To whom a deposit is paid, and how: told to who has not.")
    ] = None,
    silence_timeout: Annotated[
        float | None,
        typer.Option(min=1.0, metavar="SECONDS", help="Silence after which a worker counts as gone; 15 s at first."),
    ] = None,
    data: DataOption = None,
    code: CodeOption = None,
    store: StoreOption = "",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    metrics: MetricsOption = "",
    log_format: LogFormatOption = "",
    log_file: LogFileOption = None,
) -> None:
    """Train a recipe over workers on other machines, with the proof; or go on with such a run.

    Prints one line to send to whoever shall work: podlt worker INVITATION. Workers may come and go at any time. A
    manager that was killed goes on with --resume: nothing that was logged is lost, and workers come back by themselves,
    as it is at the same address and port unless given another; --blobs and --silence-timeout stay as they were.

    Examples: podlt manager mnist-mlp --name train.example.org --port 4222 --websocket 443

              podlt manager mnist-mlp --nats tls://nats.example.org:4222 --nats-key nats.key

              podlt manager --resume runs/mine
    """
    if (recipe is None) == (resume is None):
        raise UsageError("expected a recipe, or --resume RUN: see podlt manager --help")
    if resume is not None and run is not None:
        raise UsageError("--run is for new runs, not for --resume")
    if resume is None and (data is not None or code is not None):
        raise UsageError("--data and --code are for --resume; a new run takes what its recipe says")
    if pay_to is not None and open_for is None:
        raise UsageError("--pay-to is for --open CREDITS")
    path = _perform(
        options_of(context),
        recipe=find_recipe(recipe) if recipe is not None else None,
        run=run,
        resume=resume,
        workers=workers,
        data=data,
        code=code,
        place=_Place(
            listen,
            tuple(name or ()),
            port,
            silence_timeout,
            websocket,
            _cluster(nats, nats_key, nats_ca, name or ()),
            blobs,
            blobs_port,
            quiet,
            open_for,
            pay_to,
        ),
        store=store,
        quiet=quiet,
        as_json=as_json,
        asked=Operations(metrics, log_format, log_file),
    )
    if not quiet and not as_json:
        print_summary(path, console())


@dataclass(frozen=True)
class _Place:
    """Where workers can reach the manager, and how long it waits for them."""

    listen: str
    names: tuple[str, ...]
    port: int
    silence_timeout: float | None
    websocket: int | None
    cluster: NatsCluster | None
    blobs: str
    blobs_port: int
    quiet: bool
    open_for: int | None
    pay_to: str | None

    def workplace(self, tell: ev.Listener) -> Workplace:
        """The workplace; `tell` is told of the invitation once there is one."""
        from podlt.network.access.registry import Registry
        from podlt.network.nats.open_run import OpenRun
        from podlt.network.session.publishing import Publication
        from podlt.network.workplace import Blobs, RemoteMachines

        def count(workers: int, received: int, sent: int) -> None:
            tell(ev.Connected(workers=workers, received=received, sent=sent))

        def published(done: Publication) -> None:
            tell(ev.Published(size=done.size, sent=done.sent, form=done.form, way=done.way, seconds=done.seconds))

        said = logging.getLogger("podlt.network")
        if self.quiet:
            said.addHandler(logging.NullHandler())  # into the log, if there is one, and nowhere else
        entrance = OpenRun(
            self.listen,
            self.port,
            self.names,
            websocket=self.websocket,
            cluster=self.cluster,
            tell=said.warning,
            count=count,
        )
        blobs = Blobs(self.listen, self.blobs_port, self.names, self.blobs)

        def connect(job: Job) -> ManagerLink:
            if self.open_for is not None:
                payee = None if self.pay_to is None else self.pay_to[:400]
                Registry(job.directory).change(lambda state: state.open(self.open_for, payee))
            link = entrance.connect(job)
            tell(ev.Invited(invitation=entrance.line, server=entrance.urls[0]))
            return link

        return RemoteMachines(connect, self.silence_timeout, blobs=blobs, published=published)


def _cluster(
    urls: list[str] | None, key_file: Path | None, authority: Path | None, names: Sequence[str]
) -> NatsCluster | None:
    if not urls:
        if key_file is not None or authority is not None:
            raise UsageError("--nats-key and --nats-ca are for --nats URL")
        return None
    from podlt.network.nats.cluster import cluster_of

    return cluster_of(urls, key_file, authority, names)


def _perform(
    options: Options,
    *,
    recipe: Path | None,
    run: Path | None,
    resume: Path | None,
    workers: int,
    data: Path | None,
    code: Path | None,
    place: _Place,
    store: str,
    quiet: bool,
    as_json: bool,
    asked: Operations,
) -> Path:
    """Trains, showing how far it is; returns the run's directory."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C: the server ends with us
    name = recipe.stem if recipe is not None else ""
    target = (resume or run or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}").absolute()

    def follow(event: ev.Event) -> None:
        if isinstance(event, ev.Invited):
            options.hint = f"the invitation stays good; go on with: podlt manager --resume {target}"
        elif isinstance(event, ev.Started):
            options.hint = f"nothing that was logged is lost; go on with: podlt manager --resume {event.path}"
        show(event)

    with (
        operating(asked, follow, silent=quiet or as_json) as tell,
        listener(quiet=quiet, as_json=as_json) as show,
    ):
        tell(ev.Preparing(what="loading PyTorch"))
        from podlt import api

        workplace = place.workplace(tell)
        if resume is not None:
            if store:
                from podlt.store.address import introduce

                introduce(store)
            path = api.resume(resume, workers=workers, listener=tell, place=workplace, data=data, code=code).run
        else:
            assert recipe is not None
            loaded = load_recipe(recipe)
            if workers:
                loaded = msgspec.structs.replace(
                    loaded, training=msgspec.structs.replace(loaded.training, workers=workers)
                )
            with chdir(recipe.resolve().parent):  # where relative paths of a recipe object start from
                path = api.train(loaded, run=target, listener=tell, place=workplace, store=store).run
    options.hint = ""
    return path
