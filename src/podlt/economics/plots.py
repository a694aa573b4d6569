"""A plan as a picture: how soon fakes are found, what cheating gains by escrow and deposit, what the proof costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from podlt.economics.formulas import caught_within
from podlt.economics.options import Assumptions, ProofOptions
from podlt.economics.picture import INK, LINE, drawn_into, plain
from podlt.economics.plan import LONE, ProofPlan, Tempted, detection, detection_of, kinds_of, players, stakes_of
from podlt.economics.response import BestResponse

COLOURS = ("#1f6feb", "#8250df", "#bf8700", "#cf222e")

SIZE = (10.8, 6.6)
POINTS = 12
MAX_TASKS = 1000
"""The curves of gains are those of a run of at most so many tasks: each point is a programme of its own."""

SIZES = (3, 5, 7, 10, 14, 20, 30, 50, 70, 100, 140, 200, 300, 500, 700, 1000)


def draw_plan(plan: ProofPlan, path: Path) -> None:
    """Draws a plan into a file.

    Raises:
        UsageError: neither .svg nor .png.
    """
    with drawn_into(path, SIZE, "plan") as figure:
        places = figure.subplots(2, 2)
        _detection(plan, _axes(places[0, 0], "fakes", "caught by then"))
        _cost(plan, _axes(places[0, 1], "workers", "% of the work"))
        if plan.incentives:
            _gains(plan, "deposit", _axes(places[1, 0], "deposit (credits)", "cheating gains (credits)"))
            _gains(plan, "escrow", _axes(places[1, 1], "escrow (tasks)", "cheating gains (credits)"))
        else:
            places[1, 0].set_axis_off()
            places[1, 1].set_axis_off()


def gains(
    tempted: Tempted, options: ProofOptions, assumed: Assumptions, name: str, values: Sequence[int]
) -> list[float]:
    """What cheating gains for each value of an option.

    Args:
        tempted: who cheats.
        options: of the proof.
        assumed: of the run and its workers.
        name: "escrow" or "deposit".
        values: of that option.
    """
    found = []
    for value in values:
        stakes = stakes_of(msgspec.structs.replace(options, **{name: value}), assumed)
        tasks = min(tempted.tasks, MAX_TASKS)
        found.append(BestResponse(stakes, tempted.situations, tasks).work_out().gain())
    return found


def _detection(plan: ProofPlan, axes: Any) -> None:
    longest = max([each.tasks for each in plan.cheats if each.tasks is not None], default=100)
    steps = [longest * i / 100 for i in range(101)]
    for each, colour in zip(plan.cheats, COLOURS, strict=False):
        axes.plot(steps, [caught_within(each.hazard, step) for step in steps], color=colour, linewidth=2)
    axes.set_ylim(0, 1.02)
    _legend(axes, [each.who for each in plan.cheats], "lower right")


def _cost(plan: ProofPlan, axes: Any) -> None:
    for preset, colour in (("guarded", COLOURS[0]), ("classic", COLOURS[1])):
        options = msgspec.structs.replace(plan.options, preset=preset)
        axes.plot(SIZES, [100 * detection(options, n).cost.total for n in SIZES], color=colour, linewidth=2)
    axes.axvline(plan.assumed.workers, color=LINE, linewidth=1)
    axes.set_xscale("log")
    axes.set_ylim(0, 45)
    _legend(axes, ["guarded", "classic"], "upper right")


def _gains(plan: ProofPlan, name: str, axes: Any) -> None:
    options, assumed = plan.options, plan.assumed
    found = detection_of(options, assumed)
    kinds = kinds_of(options, assumed.workers, assumed.seats)
    shown = {who: each for who, each in players(options, assumed, kinds, found).items() if _is_shown(plan, who)}
    most = _longest(plan, name)
    values = sorted({round(most * i / POINTS) for i in range(POINTS + 1)})
    for each, colour in zip(shown.values(), COLOURS, strict=False):
        axes.plot(values, gains(each, options, assumed, name, values), color=colour, linewidth=2, marker="o", ms=3)
    axes.axvline(getattr(options, name), color=LINE, linewidth=1)
    axes.set_ylim(bottom=0)
    _legend(axes, list(shown), "upper right")


def _is_shown(plan: ProofPlan, who: str) -> bool:
    return who.startswith(LONE) or who in [each.who for each in plan.incentives[:2]]


def _longest(plan: ProofPlan, name: str) -> int:
    if name == "escrow":
        return min(plan.assumed.rounds, max(60, 2 * plan.options.escrow))
    known = [each.deposit_for_all for each in plan.incentives if each.deposit_for_all is not None]
    return max(12, plan.options.deposit, *known)


def _axes(axes: Any, x: str, y: str) -> Any:
    plain(axes)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.grid(color=LINE, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    return axes


def _legend(axes: Any, names: list[str], place: str) -> None:
    axes.legend(axes.get_lines()[: len(names)], names, frameon=False, labelcolor=INK, loc=place, fontsize=8)
