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
    workers: Annotated[int | None, typer.Option(min=5, help="Of each run (50).")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Of each run, about (120).")] = None,
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
    network: Annotated[
        bool,
        typer.Option(
            "--network",
            help="Instead: play dishonest processes through the real sessions over a simulated network; ends with 1 if "
            "one does not come out as it is to. Unless given: 12 workers, 30 rounds.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Play attacks against no defence, `classic` and `guarded`: who is caught, what it gains, what the model suffers.

    The real manager, workers, rules and signatures; adversaries that know the options; a small network that trains.

    Examples: podlt arena --write docs/ARENA.md --plot arena.svg     minutes, on all cores

              podlt arena --attacks sleeper,rational --seeds 1 --workers 20 --rounds 60

              podlt arena --levels 0,0,1,2 --defences guarded     unequal machines

              podlt arena --network --write docs/ARENA.md     its section of the page

              podlt arena --honest 1000000
    """
    import msgspec

    from podlt.sim.arena_rows import compare_honest, play_arena

    if network:
        return _over_network(_parts(attacks), seeds, workers, rounds, write, as_json)

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
        workers or 50,
        rounds or 120,
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


def _over_network(
    names: list[str], seeds: int, workers: int | None, rounds: int | None, write: Path | None, as_json: bool
) -> None:
    """Plays the attacks of the network; ends with 1 if one came out otherwise than it is to."""
    import msgspec

    from podlt.sim.network_report import COLUMNS, network_section, with_network
    from podlt.sim.networked_arena import play_network_arena

    rows = []
    shown = Table(box=None, pad_edge=False)
    for name in ["attack", *(name for name, _ in COLUMNS)]:
        shown.add_column(name)
    for row in play_network_arena(names, seeds, workers or 12, rounds or 30):
        rows.append(row)
        shown.add_row(row.attack, *(cell(row) for _, cell in COLUMNS))
        if as_json:
            typer.echo(msgspec.json.encode(row).decode())
    if not as_json:
        console().print(shown)
    if write is not None:
        from podlt.store.files import write_whole

        old = write.read_text(encoding="utf-8") if write.exists() else ""
        write_whole(write, with_network(old, network_section(rows, *_made())).encode())
    if not all(row.is_as_expected for row in rows):
        raise typer.Exit(1)


def _made() -> tuple[str, str, str]:
    """The command, the day, and the version."""
    from datetime import UTC, datetime

    from podlt.faults import version_line

    return " ".join(["podlt", *sys.argv[1:]]), f"{datetime.now(UTC):%Y-%m-%d}", version_line()


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
    from podlt.sim.arena_report import arena_page, draw_arena
    from podlt.sim.network_report import network_of, with_network
    from podlt.store.files import write_whole

    if plot is not None:
        draw_arena(table, plot)
    if write is not None:
        section = network_of(write.read_text(encoding="utf-8")) if write.exists() else ""
        page = arena_page(table, *_made())
        write_whole(write, (with_network(page, section) if section else page).encode())


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
