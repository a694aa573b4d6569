"""`podlt worker`: works for a run of somebody else, and shows what it does and has earned."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from podlt.cli.groups import grouped
from podlt.cli.monitoring_options import LogOptions
from podlt.cli.options import Options, options_of
from podlt.cli.worker_output import Watch, worker_output
from podlt.errors import EngineError, UsageError
from podlt.network.worker import events

FOLDER = ".podlt"

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", re.IGNORECASE)
_SPAN = re.compile(r"(\d+)([smhd])")


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
            help="The most memory to give, such as 8G. On Linux the system refuses this process what goes beyond it "
            "(a task that needs more is given back); elsewhere it bounds only what a task's tensors may take.",
        ),
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
            help="Do not join a run that pays less for a line: ends before it signs anything.",
        ),
    ] = 0
    identities: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many workers this process is.")] = 1
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where keys, receipts and status are; ~/.podlt by default.")
    ] = None
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key file; worker.key in that folder by default.")
    ] = None
    websocket: Annotated[
        bool, typer.Option("--websocket", help="Connect by WebSocket alone; by default only where nothing else goes.")
    ] = False
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
        str, typer.Argument(metavar="INVITATION|status", help="The line that the manager printed, or a file with it.")
    ],
    given: WorkerOptions,
    watching: LogOptions,
) -> None:
    """Work for a run: needs outbound connections only, and runs no code of the manager's.

    Before it signs that it joins, it shows the run's terms: pay, length, deposit, and what joining reveals.

    The key file is made at first use: it is who you are and what you earn, so keep a copy (podlt key backup). A worker
    that is stopped or cut off comes back with the same identity. Ctrl-C leaves once its work was checked, so that it is
    paid for it, a minute later at the latest; twice: at once.

    Examples: podlt worker podlt1-... --cpus 4 --memory 8G --until 8h

              podlt worker status
    """
    if invitation == "status":
        return _status(given.home, as_json=watching.as_json)
    options, leaving, memory = options_of(context), _Leaving(_moment(given.until, datetime.now())), _bytes(given.memory)
    leaving.take_signals()
    with worker_output(watching) as tell:
        outcome = _work(invitation, given, memory, options, leaving, tell)
        options.hint = ""
        if outcome.how == "declined":
            raise UsageError(f"did not join: {outcome.reason}; nothing was signed")
        if outcome.how == "refused":
            raise EngineError(f"this run does not let you work: {outcome.reason}")
    return None


def _work(
    invitation: str,
    asked: WorkerOptions,
    memory: int | None,
    options: Options,
    leaving: _Leaving,
    tell: events.WorkerListener,
) -> Any:
    """Works until the end; returns the outcome."""
    from podlt.engine import limits
    from podlt.engine.isolated.executor import ChildExecutor
    from podlt.network.access.first_invitation import read_invitation
    from podlt.network.access.worker_key import load_or_create_keys
    from podlt.network.transports import worker_link
    from podlt.network.worker.folder import check_disk, lock, make_folder, open_books
    from podlt.network.worker.identity import OwnerSettings
    from podlt.network.worker.process import WorkerProcess
    from podlt.network.worker.session import WorkerSession
    from podlt.program.machine import machine_bytes

    invited = read_invitation(invitation)
    cores = limits.bind_to_cores(asked.cpus)
    make_folder(asked.home)
    held = lock(asked.home)
    is_new = not asked.key_file.exists()
    keys = load_or_create_keys(asked.key_file, asked.identities)
    if is_new:
        tell(events.KeyMade(file=str(asked.key_file), public_key=keys[0].public.hex()))
    options.hint = "try again with the same command: your keys and receipts are safe"
    check_disk(asked.home)
    books = open_books(asked.home, [key.public for key in keys], invited.manager)
    books.status.device = asked.device
    public = [key.public.hex() for key in keys]
    servers = invited.urls(websocket=True) if asked.websocket and not invited.is_direct else invited.servers
    tell(events.Connecting(servers=servers, manager=invited.manager.hex(), public_keys=public))
    link = worker_link(invited, keys, websocket=asked.websocket)
    settings = OwnerSettings(memory or 0, cores, asked.least_reward, asked.cheat, asked.device)
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
    watch = Watch(session, link, tell, leaving.moment)
    executor = ChildExecutor((memory or machine_bytes()) // 4, shutil.disk_usage(asked.home).free // 4, asked.home)
    try:
        outcome = WorkerProcess(session, link, executor, keys, watch.look).run()
    finally:
        link.close()
        os.close(held)
    tell(watch.ended(outcome.how, outcome.reason))
    return outcome


class _Leaving:
    """Says when it is time to leave, and why: the owner's `--until`, Ctrl-C, or a polite kill."""

    def __init__(self, moment: float | None) -> None:
        self.moment, self._reason = moment or 0.0, ""

    def take_signals(self) -> None:
        """Takes Ctrl-C and a polite kill as a wish to leave."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        if self._reason:  # asked twice: at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._reason = "stopped by its owner"

    def __call__(self) -> str:
        if self.moment and time.time() >= self.moment:
            return "its time is over"
        return self._reason


def _status(home: Path, *, as_json: bool) -> None:
    from podlt.network.worker import folder

    status, running = folder.read_status(home)
    if as_json:
        import json

        typer.echo(json.dumps(folder.as_json(status, running)))
        return
    run = f" for run {status.run[:16]}" if status.run else ""
    if running:
        link = "connected" if status.connected else "not connected at present"
        typer.echo(f"running{run} (process {status.pid}) on {status.device}: {status.doing}; {link}")
    else:
        when = datetime.fromtimestamp(status.at)
        typer.echo(f"not running; last{run} at {when:%Y-%m-%d %H:%M}: {status.doing}")
    for key, earned in status.workers.items():
        number = f"worker {earned.number}" if earned.number >= 0 else "not admitted yet"
        deposit = f"; deposit {earned.deposit:,} held, {earned.returned:,} returned, {earned.seized:,} seized"
        typer.echo(
            f"  {key[:16]}  {number}: {earned.tasks:,} tasks, {earned.vested:,} credits earned, "
            f"{earned.pending:,} pending, {earned.forfeited:,} forfeited"
            f"{deposit if earned.deposit or earned.returned or earned.seized else ''}"
        )


def _bytes(text: str) -> int | None:
    if not text:
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--memory {text!r}: expected a size such as 512M or 8G")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def _moment(text: str, now: datetime) -> float | None:
    """When it is time to leave, in seconds since 1970."""
    if not text:
        return None
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        return now.timestamp() + int(span[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[span[2]]
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}", text.strip()):
            clock = datetime.strptime(text.strip(), "%H:%M")
            then = now.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
            return (then if then > now else then + timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        raise UsageError(f"--until {text!r}: expected 18:30, 2026-01-31T08:00, or a span such as 90m, 8h, 2d") from None
