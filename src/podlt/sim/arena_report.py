"""The arena's table as a page of the documentation, and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from podlt.economics.picture import drawn_into, plain
from podlt.sim.arena_gates import Estimate, GateRow, gate_table
from podlt.sim.arena_rows import ArenaRow, ArenaTable
from podlt.sim.attacks import NOBODY

TITLES = {
    "none": "No defence: nothing compared, executed again or clipped",
    "classic": "`classic`",
    "guarded": "`guarded`",
}
COLOURS = {"none": "#6e7781", "classic": "#bf8700", "guarded": "#1f6feb"}


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _points(value: Estimate) -> str:
    return f"{value.mean:.2f} ± {value.within:.2f}"


Column = tuple[str, Callable[[ArenaRow], str]]

FINDING: tuple[Column, ...] = (
    ("caught, %", lambda row: _percent(row.caught, 0)),
    ("fakes until caught", lambda row: _number(row.fakes, 0)),
    ("formula", lambda row: _number(row.formula, 0)),
    ("convictions a fake, %", lambda row: _percent(row.rate, 2)),
    ("least, %", lambda row: _percent(row.low, 2)),
    ("most, %", lambda row: _percent(row.high, 2)),
    ("inside", lambda row: "-" if row.inside is None else "yes" if row.inside else "no"),
    ("honest convicted", lambda row: f"{row.honest_convicted:,}"),
    ("rescued", lambda row: _number(row.rescued, 0)),
)
"""Heads and cells of who is found."""

DAMAGE: tuple[Column, ...] = (
    ("fakes applied", lambda row: _number(row.applied)),
    ("fakes paid", lambda row: _number(row.vested)),
    ("gain", lambda row: _number(row.gain)),
    ("accuracy, %", lambda row: _number(row.accuracy, 2)),
    ("lost, points", lambda row: _points(row.lost)),
    ("by the fakes, points", lambda row: _points(row.harm)),
    ("withheld", lambda row: f"{row.withheld:,}"),
    ("cost, %", lambda row: _number(row.cost, 2)),
)
"""Heads and cells of what comes of it."""

COLUMNS = FINDING + DAMAGE

LEGEND = """- **caught**: share of the cheaters that were convicted at least once.
- **fakes until caught**: each cheater's until its first conviction, the median; **formula**: the same by the hazard of
  a fake (`podlt plan`).
- **convictions a fake** beside the **least** and **most** of the formula's 95 % interval (binomial), and whether the
  rate is **inside**. One row of twenty may be outside by chance. For `pairs`, a fake is a shard.
- **honest convicted**: in all runs of the row together.
- **rescued**: withdrawals after a commitment that `podlt verify` counts.
- **fakes applied**, **fakes paid**: a run; paid means vested.
- **gain**: a cheater's over the median honest worker of its run, in tasks' rewards; true work costs 0.9 of its reward,
  a fake nothing (`half`, `rounded`: half of that).
- **accuracy**: on 797 examples of the digits, the mean over the models of the last ten rounds: at a constant rate one
  round's goes up and down by 0.7 points, whoever cheats.
- **lost**: points of it against the run of the same seed that nobody attacks, with the 95 % interval over the seeds.
  Below 0: where cheaters are evicted, the same examples make more rounds of fewer examples, and more steps.
- **by the fakes**: points against the same rounds of the same run with true updates instead, which nobody clips: the
  harm that fakes did. No example is lost by a conviction: the manager's own result stands for the fake.
- **withheld**: credits of honest workers, pay or deposit, that are not their own at the end, in all runs together.
- **cost**: executions that were not useful, the manager's included, for each of a worker."""


def arena_page(table: ArenaTable, command: str, date: str, version: str) -> str:
    """The page docs/ARENA.md.

    Args:
        table: what was measured.
        command: that made it.
        date: of the measurement.
        version: podlt's, in words.
    """
    levels = f", levels {', '.join(map(str, table.levels))} in turn" if table.levels else ""
    head = f"""# The arena: attacks against no defence, `classic` and `guarded`

<!-- made by `{command}`; do not edit -->
`{command}`, {date}, {version}. {table.workers} workers, about {table.rounds} rounds, {table.seeds} seeds, a share
of {table.share:g} attacks{levels}. The real manager, workers, rules and signatures; the workers train a small network
in NumPy.

{LEGEND}
"""
    parts = [head]
    for defence, title in TITLES.items():
        if rows := [row for row in table.rows if row.defence == defence]:
            gates = f"{_gates(rows)}\n\n" if defence == "guarded" else ""
            parts.append(f"## {title}\n\n{gates}{_markdown(rows, FINDING)}\n\n{_markdown(rows, DAMAGE)}\n")
    return "\n".join(parts)


def _gates(rows: Sequence[ArenaRow]) -> str:
    asked = [
        GateRow(row.attack, row.honest_convicted, row.inside, row.gain, row.withheld, row.lost)
        for row in rows
        if row.attack != NOBODY
    ]
    lines = ["| must hold | in rows | cannot be told by so few seeds | fails |", "| --- | ---: | --- | --- |"]
    for what, found in gate_table(asked):
        names = [", ".join(f"`{name}`" for name in found[key]) or "-" for key in ("open", "fails")]
        lines.append(f"| {what} | {len(found['holds'])} | {' | '.join(names)} |")
    return "\n".join(lines)


def _markdown(rows: Sequence[ArenaRow], columns: Sequence[Column]) -> str:
    heads = ["attack", "what it does", *(name for name, _ in columns)]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * 2}{' ---: |' * len(columns)}"]
    for row in rows:
        lines.append(f"| `{row.attack}` | {row.what} | {' | '.join(cell(row) for _, cell in columns)} |")
    return "\n".join(lines)


def draw_arena(table: ArenaTable, path: Path) -> None:
    """Draws who was caught, what it gained, and what it did to the model.

    Raises:
        UsageError: neither .svg nor .png.
    """
    names = list(dict.fromkeys(row.attack for row in table.rows if row.attack != NOBODY))
    panels: tuple[tuple[str, Callable[[ArenaRow], float]], ...] = (
        ("cheaters caught, %", lambda row: 100 * (row.caught or 0.0)),
        ("gain over honesty, tasks' rewards", lambda row: row.gain),
        ("accuracy lost, points", lambda row: row.lost.mean),
    )
    with drawn_into(path, (11, 0.8 + 0.24 * len(names)), "arena", 8) as figure:
        places = figure.subplots(1, len(panels), sharey=True)
        for place, (title, value) in zip(places, panels, strict=True):
            played = {row.defence for row in table.rows}
            for number, (defence, colour) in enumerate((d, c) for d, c in COLOURS.items() if d in played):
                found = {row.attack: value(row) for row in table.rows if row.defence == defence}
                heights = [i + 0.27 * (number - 1) for i in range(len(names))]
                place.barh(heights, [found[name] for name in names], 0.25, color=colour, label=defence)
            place.set_title(title, fontsize=9)
            plain(place)
        places[0].set_yticks(range(len(names)), names)
        places[0].invert_yaxis()
        places[0].legend(frameon=False, fontsize=8)
