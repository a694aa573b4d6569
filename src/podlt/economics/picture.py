"""A picture as a file: the same bytes each time it is drawn from the same figures, in the colours of the report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from podlt.errors import UsageError

FORMATS = (".svg", ".png")

PAPER, INK, LINE = "#ffffff", "#1d2530", "#c3cad3"


@contextmanager
def drawn_into(path: Path, size: tuple[float, float], salt: str, font: float = 10.0) -> Iterator[Any]:
    """A figure of matplotlib's, which is written when all is drawn.

    Args:
        path: of the file.
        size: inches, width and height.
        salt: of the identifiers inside an SVG: another for each kind of picture.
        font: its usual size, in points.

    Raises:
        UsageError: neither .svg nor .png.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: expected a name that ends in {' or '.join(FORMATS)}")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif", "font.size": font}):
        figure = Figure(figsize=size, layout="constrained", facecolor=PAPER)
        yield figure
        metadata = {"Date": None, "Creator": None} if path.suffix.lower() == ".svg" else {"Software": None}
        figure.savefig(path, metadata=metadata, facecolor=PAPER)


def plain(axes: Any) -> None:
    """Leaves of a frame its left and lower line, in the colours of the rest."""
    axes.set_facecolor(PAPER)
    axes.tick_params(colors=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)
