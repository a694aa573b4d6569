"""`podlt worker`: works for a run of somebody else, and shows what it does and has earned."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from podlt.cli.dashboard import DashboardOptions, companion
from podlt.cli.groups import grouped
from podlt.cli.monitoring_options import LogOptions
from podlt.cli.options import Options, options_of
from podlt.cli.worker_limits import Hours, WorkerLimits, WorkingTime, moment_of, size_text
from podlt.cli.worker_output import Watch, worker_output
from podlt.errors import EngineError, UsageError
from podlt.worker import events

if TYPE_CHECKING:
    from podlt.access.invitation import Invitation
    from podlt.dashboard.companion import DashboardCompanion

FOLDER = ".podlt"


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker gives, and who it is."""

    cpus: Annotated[
        int, typer.Option(min=0, metavar="N", show_default=False, help="How many cores to give; all by default.")
    ] = 0
    memory: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="The most memory to give, such as 8G; half of this machine's by default. On Linux the system refuses "
            "what goes beyond it (a task that needs more is given back); elsewhere it bounds a task's tensors.",
        ),
    ] = ""
    disk: Annotated[
        str,
        typer.Option(metavar="SIZE", help="The most to keep on the disk; a quarter of what is free by default."),
    ] = ""
    bandwidth: Annotated[str, typer.Option(metavar="SIZE", help="The most bytes a second, each way, such as 500K.")] = (
        ""
    )
    hours: Annotated[
        str,
        typer.Option(metavar="FROM-TO", help="Work only then, by this machine's clock: 22-06, or 18:30-07:00."),
    ] = ""
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Leave then: 18:30, 2026-01-31T08:00, or after 90m, 8h, 2d.")
    ] = ""
    least_reward: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="CREDITS",
            show_default=False,
            help="Do not join a run that pays less for an example: ends before it signs anything.",
        ),
    ] = 0
    identities: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many workers this process is.")] = 1
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where keys, receipts and status are; ~/.podlt by default.")
    ] = None
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key file; worker.key in that folder by default.")
    ] = None
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE",
            help="Where tasks are computed, for runs in exact arithmetic: cpu; cuda or cuda:N, a GPU; portable, what a "
            "GPU would run, on the CPU. One process a GPU: give each its own --folder.",
        ),
    ] = "cpu"
    cheat: Annotated[str, typer.Option(hidden=True)] = ""

    @property
    def home(self) -> Path:
        """The folder of keys, receipts and status."""
        return self.folder or Path.home() / FOLDER

    @property
    def key_file(self) -> Path:
        """Where the identities are."""
        return self.key or self.home / "worker.key"


@grouped
def worker(
    context: typer.Context,
    invitation: Annotated[
        str,
        typer.Argument(
            metavar="INVITATION|status", help="What the manager printed, HOST:PORT/CODE; or a file with it."
        ),
    ],
    given: WorkerOptions,
    watching: LogOptions,
    page: DashboardOptions,
) -> None:
    """Work for a run: needs outbound connections only, and runs no code of the manager's.

    Before it signs that it joins, it shows the run's terms: pay, length, deposit, and what joining reveals.

    The key file is made at first use: it is who you are and what you earn, so keep a copy (podlt key backup). A worker
    that is stopped or cut off comes back with the same identity. Ctrl-C leaves once the round that it works in is in
    the log, a minute later at the latest; twice: at once. What is pending then vests later, as the terms say.

    Examples: podlt worker train.example.org:4222/CODE --cpus 4 --memory 8G --until 8h

              podlt worker invitation.txt --dashboard     a page of what it does and earns, with a button to pause it

              podlt worker status
    """
    if invitation == "status":
        return _status(given.home, as_json=watching.as_json)
    from podlt.worker.folder import make_folder, note_waiting

    hours = Hours.parse(given.hours)
    options, leaving = options_of(context), WorkingTime(moment_of(given.until, datetime.now()), hours)
    make_folder(given.home)
    limits = WorkerLimits.given(given.memory, given.disk, given.bandwidth, given.home, given.device)
    leaving.take_signals()
    with _page(page, watching, given, limits, leaving) as shown, worker_output(watching, shown) as tell:
        outcome = None
        while True:
            leaving.wait(tell, lambda doing: note_waiting(given.home, doing, given.device))
            if leaving.stopping:
                outcome = outcome or _left(leaving, tell)
                break
            outcome = _work(invitation, given, limits, options, leaving, tell, shown)
            if outcome.how != "left" or not leaving.comes_back:
                break
        options.hint = ""
        if outcome.how == "declined":
            raise UsageError(f"did not join: {outcome.reason}; nothing was signed")
        if outcome.how == "refused":
            raise EngineError(f"this run does not let you work: {outcome.reason}")
    return None


@contextmanager
def _page(
    asked: DashboardOptions, watching: LogOptions, given: WorkerOptions, limits: WorkerLimits, leaving: WorkingTime
) -> Iterator[DashboardCompanion | None]:
    """The page of this worker, if it is asked for, with what its owner gives. Errors as `companion`."""
    shown = {
        "Cores": str(given.cpus or "all"),
        "Memory": size_text(limits.memory),
        "Disk": size_text(limits.disk),
        "Bandwidth": f"{size_text(limits.bandwidth)} a second" if limits.bandwidth else "no limit",
        "Hours": given.hours or "always",
        "Until": f"{datetime.fromtimestamp(leaving.moment):%Y-%m-%d %H:%M}" if leaving.moment else "the run's end",
        "Device": given.device,
        "Identities": str(given.identities),
        "Folder": str(given.home),
    }

    def press(action: str) -> None:
        leaving.press(action)
        if page is not None:
            page.say({"event": "paused", "paused": leaving.paused, "stopping": leaving.stopping})

    def say(line: str) -> None:
        typer.echo(line, err=watching.silent)

    with companion("lender", asked, say, shown, press) as page:
        yield page


def _work(
    invitation: str,
    asked: WorkerOptions,
    given: WorkerLimits,
    options: Options,
    leaving: WorkingTime,
    tell: events.WorkerListener,
    page: DashboardCompanion | None,
) -> Any:
    """Works until the end; returns the outcome."""
    from concurrent.futures import ThreadPoolExecutor

    from podlt.access.worker_key import load_or_create_keys
    from podlt.data.cache import default_cache
    from podlt.engine import limits
    from podlt.engine.isolated.executor import ChildExecutor
    from podlt.engine.isolated.remembered import ConformanceCache
    from podlt.network.client.link import ClientLink
    from podlt.worker.folder import check_disk, lock, open_books
    from podlt.worker.identity import OwnerSettings
    from podlt.worker.process import WorkerProcess
    from podlt.worker.session import WorkerSession

    invited = _invited(invitation, leaving, tell)
    if invited is None:
        return _left(leaving, tell)
    cores = limits.bind_to_cores(asked.cpus)
    held = lock(asked.home)
    is_new = not asked.key_file.exists()
    keys = load_or_create_keys(asked.key_file, asked.identities)
    if is_new:
        tell(events.KeyMade(file=str(asked.key_file), public_key=keys[0].public.hex()))
    options.hint = "try again with the same command: your keys and receipts are safe"
    check_disk(asked.home)
    writer = ThreadPoolExecutor(1, thread_name_prefix="podlt-books")  # a disk that is slow holds up no message
    books = open_books(asked.home, [key.public for key in keys], invited.manager, given.disk // 2, writer.submit)
    books.status.device = asked.device
    public = [key.public.hex() for key in keys]
    tell(events.Connecting(servers=invited.servers, manager=invited.manager.hex(), public_keys=public))
    link = ClientLink(invited, keys)
    link.start()
    settings = OwnerSettings(given.memory, cores, asked.least_reward, asked.cheat, asked.device)
    session = WorkerSession(
        keys,
        invited.manager,
        books,
        settings,
        process=secrets.token_bytes(8),
        wall=lambda: time.time_ns() // 10**6,
        listener=tell,
        leaving=leaving,
    )
    named = {urlsplit(url).hostname or "" for url in invited.servers}
    watch = Watch(session, link, tell, leaving.moment, page)
    remembered = ConformanceCache(default_cache() / "conformance.json")
    executor = ChildExecutor(given.tasks, given.disk // 2, asked.home, remembered)
    try:
        outcome = WorkerProcess(session, link, executor, keys, named, given.bandwidth, watch.look).run()
    finally:
        link.close()
        writer.shutdown()
        os.close(held)
    tell(watch.ended(outcome.how, outcome.reason))
    return outcome


def _invited(text: str, leaving: WorkingTime, tell: events.WorkerListener) -> Invitation | None:
    """The invitation that the owner gave, asked for where it is a code; None if it is time to leave meanwhile.

    Raises:
        UsageError: it is none, or not that server's.
        EngineError: the server that a code names does not answer.
    """
    from podlt.access.first_invitation import read_given
    from podlt.access.invitation_code import InvitationCode
    from podlt.network.client.address import invitation_of

    given = read_given(text)
    if not isinstance(given, InvitationCode):
        return given
    tell(events.StepStarted(what=f"asking {given.server} for the run"))
    return invitation_of(given, lambda: leaving.stopping, lambda why: tell(events.LinkDown(reason=why)))


def _left(leaving: WorkingTime, tell: events.WorkerListener) -> Any:
    """The outcome of a worker that leaves before it has connected."""
    from podlt.worker.identity import WorkerExit

    totals = dict.fromkeys(("tasks", "vested", "pending", "forfeited"), 0)
    tell(events.Ended(how="left", reason=leaving(), seconds=0.0, **totals))
    return WorkerExit("left", leaving())


def _status(home: Path, *, as_json: bool) -> None:
    from podlt.worker import folder

    status, running = folder.read_status(home)
    if as_json:
        import json

        typer.echo(json.dumps(folder.as_json(status, running)))
        return
    run = f" for run {status.run[:16]}" if status.run else ""
    if running:
        link = "connected" if status.connected else "not connected at present"
        where = f"(process {status.pid}) on {status.device}"
        typer.echo(f"running{run} {where}: {status.doing}; {link}")
    else:
        when = datetime.fromtimestamp(status.at)
        typer.echo(f"not running; last{run} at {when:%Y-%m-%d %H:%M}: {status.doing}")
    for key, earned in status.workers.items():
        number = f"worker {earned.number}" if earned.number >= 0 else "not admitted yet"
        deposit = f"; deposit {earned.deposit:,} held, {earned.returned:,} returned, {earned.seized:,} seized"
        typer.echo(
            f"  {key[:16]}  {number}: {earned.tasks:,} tasks, {earned.vested:,} credits vested, "
            f"{earned.pending:,} pending, {earned.forfeited:,} forfeited"
            f"{deposit if earned.deposit or earned.returned or earned.seized else ''}"
        )
