"""Plots as SVG inside a page: drawn by matplotlib, coloured by the page, so that light and dark both read well."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from podlt.report.figures import Figures
from podlt.report.history import History

# Matplotlib writes literal colours; each of these stands for one of the page's, and is replaced by it at the end.
INK, SOFT, FIRST, SECOND, BAD, WARN = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
PAGE_COLOURS = {
    INK: "var(--ink)",
    SOFT: "var(--line)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    BAD: "var(--bad)",
    WARN: "var(--warn)",
}

SIZE = (5.4, 3.0)
SMOOTH = 0.25


def plots(history: History, figures: Figures) -> list[tuple[str, str, str]]:
    """Title, a sentence on how to read it, and the SVG, of every plot that there is something for."""
    found = []
    if history.rounds:
        found.append(("Loss", "As logged: mean over the lines of each round, and smoothed.", loss_plot(history)))
    if _shares(history):
        found.append(("On the test set", "As logged after every epoch.", metrics_plot(history)))
    if history.rounds:
        found.append(("Workers", "Active when each round opened; a cross is a conviction.", workers_plot(history)))
        found.append(
            (
                "Checks",
                "A dot is a proof record: all results of a fragment are the same. Red: one differed.",
                checks_plot(history),
            )
        )
        found.append(("Ledger", "Each worker's credits: vested, still pending, forfeited.", ledger_plot(history)))
    if (spent := figures.spent).each:
        text = "From opening to payment: the manager's word, which no entry binds." + (
            f" One round in {spent.step:,}." if spent.step > 1 else ""
        )
        found.append(("Seconds a round", text, seconds_plot(spent.each, spent.step)))
    return found


def loss_plot(history: History) -> str:
    """Loss over rounds."""
    rows = [(row.number, row.loss) for row in history.rounds if row.loss is not None]
    figure, axes = _axes("round", "loss")
    numbers, losses = [n for n, _ in rows], [loss for _, loss in rows]
    axes.plot(numbers, losses, color=SOFT, linewidth=1)
    axes.plot(numbers, smoothed(losses), color=FIRST, linewidth=2)
    return _svg(figure, "loss")


def metrics_plot(history: History) -> str:
    """The two first shares (accuracy, the area under the curve, ...) over epochs, dashed on the validation set."""
    figure, axes = _axes("epoch", "")
    for name, colour in zip(_shares(history), (FIRST, SECOND), strict=False):
        for part, line in ((name, "-"), (f"val_{name}", "--")):
            points = [(m.epoch + 1, m.metrics[part]) for m in history.measured if part in m.metrics]
            if not points:
                continue
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, line, color=colour, marker="o", linewidth=2, label=part)
            axes.annotate(
                f"{points[-1][1]:.4f}", points[-1], xytext=(-4, -14), textcoords="offset points", ha="right", color=INK
            )
    axes.legend(frameon=False, labelcolor=INK, loc="lower right", bbox_to_anchor=(1, 0.12))
    _whole_numbers(axes)
    return _svg(figure, "metrics")


def _shares(history: History) -> list[str]:
    """The figures of the test set that lie between 0 and 1: those that one axis can show."""
    names = dict.fromkeys(name for m in history.measured for name in m.metrics if not name.startswith("val_"))
    usual = [name for name in ("accuracy", "auc") if name in names]
    others = [name for name in names if name not in (*usual, "loss")]
    values = {name: [m.metrics[name] for m in history.measured if name in m.metrics] for name in [*usual, *others]}
    return [name for name, found in values.items() if all(0 <= value <= 1 for value in found)]


def workers_plot(history: History) -> str:
    """Active workers over rounds."""
    figure, axes = _axes("round", "active workers")
    numbers, counts = [row.number for row in history.rounds], [row.workers for row in history.rounds]
    axes.step(numbers, counts, where="post", color=FIRST, linewidth=2)
    out = [(row.number, row.workers) for row in history.rounds if row.convicted]
    axes.scatter([n for n, _ in out], [w for _, w in out], color=BAD, marker="x", s=48, zorder=3)
    gone = [number for number, _, _ in history.withdrawn]
    at = {row.number: row.workers for row in history.rounds}
    axes.scatter(gone, [at.get(n, counts[-1]) for n in gone], color=WARN, marker="o", s=16, zorder=3)
    axes.set_ylim(0, max(counts) * 1.08)
    return _svg(figure, "workers")


def checks_plot(history: History) -> str:
    """Which fragments were compared or executed in each round, and what came of it."""
    figure, axes = _axes("round", "checked fragment")
    agreed = [(row.number, fragment) for row in history.rounds for fragment in row.agreed]
    differed = [(row.number, verdict.fragment) for row in history.rounds for verdict in row.disputes]
    for points, colour, size, order in ((agreed, FIRST, 8, 2), (differed, BAD, 42, 3)):
        axes.scatter([n for n, _ in points], [f for _, f in points], color=colour, s=size, zorder=order)
    return _svg(figure, "checks")


def ledger_plot(history: History) -> str:
    """Credits of every worker, stacked."""
    figure, axes = _axes("worker", "credits")
    accounts = [history.state.ledger.accounts[worker] for worker in sorted(history.state.workers)]
    base = [0] * len(accounts)
    for name, colour in (("vested", FIRST), ("pending", WARN), ("forfeited", BAD)):
        heights = [getattr(account, name) for account in accounts]
        axes.bar(range(len(accounts)), heights, bottom=base, color=colour, width=0.85, label=name)
        base = [b + h for b, h in zip(base, heights, strict=True)]
    axes.set_ylim(0, max(1, *base) * 1.22)
    axes.legend(frameon=False, labelcolor=INK, ncols=3, loc="upper center")
    _whole_numbers(axes)
    return _svg(figure, "ledger")


def seconds_plot(seconds: Sequence[float], step: int = 1) -> str:
    """How long each round took, or every `step`-th."""
    figure, axes = _axes("round", "seconds")
    numbers = range(0, step * len(seconds), step)
    axes.plot(numbers, seconds, color=SOFT, linewidth=1)
    axes.plot(numbers, smoothed(seconds), color=SECOND, linewidth=2)
    axes.set_ylim(0, sorted(seconds)[int(0.98 * (len(seconds) - 1))] * 1.6)
    return _svg(figure, "seconds")


def smoothed(values: Sequence[float]) -> list[float]:
    """An exponential mean that starts without a bias towards zero (Kingma and Ba, 2015, section 3)."""
    found, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = mean + SMOOTH * (value - mean), weight + SMOOTH * (1 - weight)
        found.append(mean / weight)
    return found


def _axes(x: str, y: str):  # type: ignore[no-untyped-def]  # matplotlib has no types of its own
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.tick_params(colors=INK)
    axes.grid(color=SOFT, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(SOFT)
    return figure, axes


def _whole_numbers(axes) -> None:  # type: ignore[no-untyped-def]
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _svg(figure, name: str) -> str:  # type: ignore[no-untyped-def]
    """The figure as an SVG element: no date, its own identifiers, text as text, the page's colours."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(
        r'<svg[^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{name}">', text, count=1
    )
    text = re.sub(r'\bid="(?:figure|axes|patch|line2d|text|matplotlib|xtick|ytick|PathCollection)[^"]*"', "", text)
    for colour, page in PAGE_COLOURS.items():
        text = text.replace(colour, page)
    return text
