"""The pictures of the page on the proof, drawn from the code's own tables: python docs/pictures.py

`round.svg` is the order of a round's entries, from the kinds that the log has; `hazard.svg` is what
`podlt.economics` reckons of the chance to catch a fake. tests/test_site.py holds that they are up to date.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from podlt.economics.formulas import Detection
from podlt.economics.options import ProofOptions
from podlt.economics.plan import detection
from podlt.protocol import entries as e

HERE = Path(__file__).parent / "images"

STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #333; } .small { font-size: 11px; fill: #666; }
.box { fill: #eef3fb; stroke: #4a76b8; } .line { fill: none; stroke-width: 2; } .axis { stroke: #999; }
.grid { stroke: #ddd; } .arrow { stroke: #4a76b8; stroke-width: 1.5; fill: none; }
@media (prefers-color-scheme: dark) { text { fill: #ddd; } .small { fill: #aaa; } .box { fill: #1e2a3a; }
.grid { stroke: #444; } }
</style>"""

COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1")

ROUND: Sequence[tuple[type[e.Entry], str, str]] = (
    (e.Open, "manager", "deals the tasks"),
    (e.Commit, "workers", "sign a commitment"),
    (e.Reveal, "manager", "shows secret, results"),
    (e.Verdict, "rules", "compare, convict"),
    (e.Apply, "manager", "averages, applies"),
    (e.Pay, "rules", "credits, escrow"),
)
"""Entries of a round, in the order in which the rules take them; who makes each, and what it is for."""


def round_picture() -> str:
    """The entries of a round, left to right."""
    width, step = 130, 150
    parts = []
    for place, (kind, who, what) in enumerate(ROUND):
        tag = str(kind.__struct_config__.tag)
        assert kind in e.KINDS
        x = 10 + place * step
        parts.append(f'<rect class="box" x="{x}" y="30" width="{width}" height="70" rx="8"/>')
        parts.append(f'<text x="{x + width / 2:.0f}" y="52" text-anchor="middle" font-weight="bold">{tag}</text>')
        parts.append(f'<text class="small" x="{x + width / 2:.0f}" y="72" text-anchor="middle">{who}:</text>')
        parts.append(f'<text class="small" x="{x + width / 2:.0f}" y="88" text-anchor="middle">{what}</text>')
        if place + 1 < len(ROUND):
            parts.append(f'<path class="arrow" d="M{x + width} 65 h{step - width - 4} m-5 -4 l5 4 l-5 4"/>')
    hidden = 10 + 2 * step - 10
    parts.append('<text class="small" x="10" y="20">nobody but the manager knows who is checked</text>')
    parts.append(f'<text class="small" x="{hidden + 10}" y="20">now everybody can repeat the draw</text>')
    parts.append(f'<path class="axis" d="M{hidden} 8 v110" stroke-dasharray="4 4"/>')
    return svg(10 + len(ROUND) * step, 125, parts)


def hazard_picture() -> str:
    """The chance that a fake is caught, by the share that is checked: alone, and as a coalition of 20 %."""
    workers, own = 50, 0.02
    shares = [percent / 100 for percent in range(1, 21)]
    found = [detection(ProofOptions(checked=share, own=own), workers, 10) for share in shares]
    lines: list[tuple[str, list[float]]] = [
        ("a lone cheater", [each.lone for each in found]),
        ("ten friends, same fake everywhere", [each.everything for each in found]),
        ("only where friends hold both seats", [each.paired for each in found]),
        ("what the proof costs", [cost(each) for each in found]),
    ]
    return chart(
        [100 * share for share in shares],
        lines,
        f"share of the tasks that a second worker repeats, % ({workers} workers; the manager executes {own:.0%})",
    )


def cost(found: Detection) -> float:
    """Work that is not useful, for each task."""
    return found.cost.total


def chart(xs: Sequence[float], lines: Sequence[tuple[str, Sequence[float]]], below: str) -> str:
    """Lines over one axis; values are shares."""
    left, top, width, height = 50, 20, 520, 260
    most = math.ceil(max(max(values) for _, values in lines) * 10) / 10

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x - xs[0]) / (xs[-1] - xs[0]) * width, top + height * (1 - y / most)

    parts = []
    for tick in range(round(most * 10) + 1):
        _, y = at(xs[0], tick / 10)
        parts.append(f'<path class="grid" d="M{left} {y:.1f} h{width}"/>')
        parts.append(f'<text class="small" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick * 10} %</text>')
    for x in xs[::3]:
        parts.append(
            f'<text class="small" x="{at(x, 0)[0]:.1f}" y="{top + height + 16}" text-anchor="middle">{x:.0f}</text>'
        )
    for colour, (name, values) in zip(COLOURS, lines, strict=True):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(x, y) for x, y in zip(xs, values, strict=True)))
        parts.append(f'<polyline class="line" stroke="{colour}" points="{points}"/>')
        x, y = at(xs[-1], values[-1])
        parts.append(f'<text class="small" x="{x + 6:.1f}" y="{y + 4:.1f}">{name}: {values[-1]:.1%}</text>')
    parts.append(
        f'<text class="small" x="{left + width / 2:.0f}" y="{top + height + 36}" text-anchor="middle">{below}</text>'
    )
    return svg(left + width + 270, top + height + 50, parts)


def middle(x: float, y: float, text: str) -> str:
    """A small text around a place."""
    return f'<text class="small" x="{x:.1f}" y="{y}" text-anchor="middle">{text}</text>'


def svg(width: int, height: int, parts: Sequence[str]) -> str:
    """A picture."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, STYLE, *parts, "</svg>"]) + "\n"


PICTURES = {"round.svg": round_picture, "hazard.svg": hazard_picture}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (HERE / name).write_text(draw(), encoding="utf-8")
