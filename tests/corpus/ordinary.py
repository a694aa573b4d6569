"""Models and losses as papers' code and forums have them, written by hand."""

from .rows import Row

ROWS: list[Row] = []
