"""`podlt worker`: works for a run of somebody else, and shows what it does and has earned."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from podlt.cli.context import JsonOption, options_of
from podlt.errors import EngineError, UsageError

FOLDER = ".podlt"
SHOW_SECONDS = 10.0

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", re.IGNORECASE)
_SPAN = re.compile(r"(\d+)([smhd])")


def worker(
    context: typer.Context,
    invitation: Annotated[
        str, typer.Argument(metavar="INVITATION|status", help="The line that the manager printed, or a file with it.")
    ],
    cpus: Annotated[int, typer.Option(min=0, help="How many cores to give; all by default.")] = 0,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="The most memory to give, such as 8G.")] = "",
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Leave then: 18:30, 2026-01-31T08:00, or after 90m, 8h, 2d.")
    ] = "",
    identities: Annotated[int, typer.Option(min=1, max=1000, help="How many workers this process is.")] = 1,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where keys, receipts and status are kept; ~/.podlt by default.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key file; FOLDER/worker.key by default.")
    ] = None,
    websocket: Annotated[
        bool, typer.Option("--websocket", help="Connect by WebSocket alone; by default only where nothing else goes.")
    ] = False,
    cheat: Annotated[str, typer.Option(hidden=True)] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Work for a run: needs outbound connections only, and runs no code of the manager's.

    The key file is made at first use: it is who you are and what you earn, so keep a copy. A worker that is stopped or
    cut off comes back with the same identity. Ctrl-C leaves after the task at hand.

    Examples: podlt worker podlt1-... --cpus 4 --until 8h

              podlt worker status
    """
    home = folder or Path.home() / FOLDER
    if invitation == "status":
        return _status(home, as_json=as_json)
    leaving = _Leaving(_moment(until, datetime.now()))
    options_of(context).hint = "try again with the same command: keys and receipts are kept"
    outcome = _work(
        invitation,
        home,
        key or home / "worker.key",
        identities,
        _cores(cpus),
        _bytes(memory),
        cheat,
        websocket,
        leaving,
        (lambda line: None) if quiet else typer.echo,
    )
    options_of(context).hint = ""
    if outcome.how == "refused":
        raise EngineError(outcome.reason)
    return None


def _work(
    invitation: str,
    home: Path,
    key_file: Path,
    identities: int,
    cores: int,
    memory: int | None,
    cheat: str,
    websocket: bool,
    leaving: _Leaving,
    tell: Callable[[str], None],
) -> Any:
    from podlt.network.entrance import join, read_invitation
    from podlt.network.identity import lock, make_folder
    from podlt.network.keys import load_or_create_keys

    invited = read_invitation(invitation)
    make_folder(home)
    held = lock(home)
    keys = load_or_create_keys(key_file, identities)
    tell("loading PyTorch ...")
    import torch

    from podlt.network.checks import check_disk
    from podlt.network.journal import Journal
    from podlt.network.worker import Crew
    from podlt.program.validate import MAX_BYTES

    torch.set_grad_enabled(False)
    check_disk(home)
    journal = Journal(home, [key.public for key in keys], invited.manager)
    link = join(invited, keys, websocket=websocket)
    crew = Crew(
        keys,
        link,
        invited.manager,
        journal,
        tell=tell,
        memory=MAX_BYTES if memory is None else memory,
        threads=cores,
        cheat=cheat,
        leaving=leaving,
    )
    shows = _Shows(crew, journal, tell)
    try:
        outcome = crew.run()
    finally:
        shows.stop()
        link.close()
        os.close(held)
    pending, vested, _ = journal.totals()
    tell(f"ended ({outcome.how}{': ' + outcome.reason if outcome.reason else ''}); earned {vested + pending:,} credits")
    return outcome


class _Leaving:
    """Says when it is time to leave, and why: the owner's `--until`, Ctrl-C, or a polite kill."""

    def __init__(self, moment: float | None) -> None:
        self._moment, self._reason = moment, ""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        if self._reason:  # asked twice: at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._reason = "stopped by its owner"

    def __call__(self) -> str:
        if self._moment is not None and time.time() >= self._moment:
            return "its time is over"
        return self._reason


class _Shows:
    """Prints now and then what a crew does and has earned."""

    def __init__(self, crew: Any, journal: Any, tell: Callable[[str], object]) -> None:
        self._crew, self._journal, self._tell = crew, journal, tell
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._show, name="podlt-shows", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Prints nothing more."""
        self._stopped.set()
        self._thread.join()

    def _show(self) -> None:
        last = ""
        while not self._stopped.wait(SHOW_SECONDS):
            pending, vested, forfeited = self._journal.totals()
            line = f"{self._crew.doing}; {vested:,} credits earned, {pending:,} pending"
            line += f", {forfeited:,} forfeited" if forfeited else ""
            if line != last:
                last = line
                self._tell(line)


def _status(home: Path, *, as_json: bool) -> None:
    from podlt.network import journal

    status, running = journal.read_status(home)
    if as_json:
        import json

        typer.echo(json.dumps(journal.as_json(status, running)))
        return
    link = "connected" if status.connected else "not connected"
    typer.echo(f"{'running' if running else 'not running'} (process {status.pid}): {status.doing}; {link}")
    for key, earned in status.workers.items():
        number = f"worker {earned.number}" if earned.number >= 0 else "not admitted yet"
        typer.echo(
            f"  {key[:16]}  {number}: {earned.tasks:,} tasks, {earned.vested:,} credits earned, "
            f"{earned.pending:,} pending, {earned.forfeited:,} forfeited"
        )


def _cores(cpus: int) -> int:
    """Keeps this process to so many cores; returns how many it has."""
    if not hasattr(os, "sched_setaffinity"):
        return cpus or os.cpu_count() or 1
    mine = sorted(os.sched_getaffinity(0))
    if cpus and cpus < len(mine):
        mine = mine[:cpus]
        os.sched_setaffinity(0, mine)
    return len(mine)


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
