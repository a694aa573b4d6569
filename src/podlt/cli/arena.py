"""`podlt arena`: attacks against no defence, `classic` and `guarded`, with real training."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from podlt.cli.options import JsonOption, console
from podlt.errors import UsageError
from podlt.protocol.shares import SPREAD

if TYPE_CHECKING:
    from podlt.sim.arena_rows import ArenaTable


def arena(
    attacks: Annotated[str, typer.Option(metavar="NAMES", help="Some of them, with commas; all unless given.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each attack under each defence.")] = 5,
    workers: Annotated[int, typer.Option(min=5, help="Of each run.")] = 50,
    rounds: Annotated[int, typer.Option(min=1, help="Of each run, about.")] = 120,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the workers that attack.")] = 0.3,
    defences: Annotated[
        str, typer.Option(metavar="NAMES", help="Some of none,classic,guarded; all unless given.")
    ] = "",
    levels: Annotated[
        str, typer.Option(metavar="LEVELS", help="Unequal machines: the workers' levels in turn, such as 0,0,1,2.")
    ] = "",
    processes: Annotated[int | None, typer.Option(min=1, help="That play; all cores unless given.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it, as .svg or .png.")] = None,
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as a page, such as docs/ARENA.md.")
    ] = None,
    honest: Annotated[
        int, typer.Option(min=0, help="Instead: compare so many results of honest workers; ends with 1 if one loses.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Play attacks against no defence, `classic` and `guarded`: who is caught, what it gains, what the model suffers.

    The real manager, workers, rules and signatures; adversaries that know the options; a small network that trains.

    Examples: podlt arena --write docs/ARENA.md --plot arena.svg     minutes, on all cores

              podlt arena --attacks sleeper,rational --seeds 1 --workers 20 --rounds 60

              podlt arena --levels 0,0,1,2 --defences guarded     unequal machines

              podlt arena --honest 1000000
    """
    import msgspec

    from podlt.sim.arena_rows import compare_honest, play_arena

    if honest:
        found = compare_honest(honest, processes, _progress("comparisons"))
        if as_json:
            typer.echo(msgspec.json.encode(found).decode())
        else:
            typer.echo(
                f"{found.comparisons:,} comparisons of honest workers' results, {found.convicted:,} convicted"
                + (f": the chance of one is below {found.bound:.1g} at 95 %" if not found.convicted else "")
            )
        raise typer.Exit(1 if found.convicted else 0)
    table = play_arena(
        _parts(attacks),
        seeds,
        workers,
        rounds,
        share,
        levels=_levels(levels),
        defences=_parts(defences),
        processes=processes,
        progress=_progress("runs"),
    )
    _keep(table, plot, write)
    if as_json:
        typer.echo(msgspec.json.encode(table).decode())
        return
    _print(table)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _levels(text: str) -> list[int]:
    """Levels in turn.

    Raises:
        UsageError: they are no levels, or so many are below 0 that none would be usual.
    """
    try:
        found = [int(part) for part in _parts(text)]
    except ValueError:
        found = [SPREAD + 1]
    if any(not 0 <= level <= SPREAD for level in found):
        raise UsageError(f"--levels {text!r}: expected levels from 0 to {SPREAD}, such as 0,0,1,2")
    return found


def _progress(what: str) -> Callable[[int, int], None]:
    """Shows how far it is, where somebody looks on."""

    def show(done: int, of: int) -> None:
        if sys.stderr.isatty():
            typer.echo(f"\r{done:,} of {of:,} {what}", err=True, nl=done == of)

    return show


def _keep(table: ArenaTable, plot: Path | None, write: Path | None) -> None:
    from datetime import UTC, datetime

    from podlt.faults import version_line
    from podlt.sim.arena_report import arena_page, draw_arena
    from podlt.store.files import write_whole

    if plot is not None:
        draw_arena(table, plot)
    if write is not None:
        command = " ".join(["podlt", *sys.argv[1:]])
        write_whole(write, arena_page(table, command, f"{datetime.now(UTC):%Y-%m-%d}", version_line()).encode())


def _print(table: ArenaTable) -> None:
    from podlt.sim.arena_report import COLUMNS, TITLES

    out = console()
    for defence, title in TITLES.items():
        if not any(row.defence == defence for row in table.rows):
            continue
        shown = Table(title=title.replace("`", ""), title_justify="left", box=None, pad_edge=False)
        for number, name in enumerate(["attack", *(name for name, _ in COLUMNS)]):
            shown.add_column(name, justify="right" if number else "left")
        for row in table.rows:
            if row.defence == defence:
                shown.add_row(row.attack, *(cell(row) for _, cell in COLUMNS))
        out.print(shown)
        out.print()
