"""A column of texts in a table as two columns of lists: the numbers of its tokens, and which of them are padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from podlt.data.spec import Column, DataSpec
from podlt.data.tables import Table, TableChunk
from podlt.data.tokenizer import TextEncoder
from podlt.errors import DataError, UsageError

IDS, MASK = "input_ids", "attention_mask"


class TokenizedTable:
    """A table with `input_ids` and `attention_mask` in the place of its column of texts.

    Args:
        table: with the texts.
        spec: names the column, and says how long a line is.
        encoder: the tokenizer.

    Attributes:
        cut: how many texts were longer than a line, so far.

    Raises:
        UsageError: no column is named.
        DataError: the table has no such column, or has one of the names.
    """

    def __init__(self, table: Table, spec: DataSpec, encoder: TextEncoder) -> None:
        if spec.text is None or spec.max_length is None:
            raise UsageError(
                f"data: {spec.source}: a text to classify needs text, the column, and max_length, its most tokens"
            )
        if spec.text not in table.columns or {IDS, MASK} & set(table.columns):
            names = ", ".join(map(str, table.columns[:50]))
            raise DataError(table.source, None, f"expected a column {spec.text!r} and none named {IDS}, got {names}")
        self.source = table.source
        self.columns: list[Column] = [*(name for name in table.columns if name != spec.text), IDS, MASK]
        self.index = table.index
        self.lists: frozenset[Column] = table.lists | {IDS, MASK}
        self.cut = 0
        self._table, self._encoder = table, encoder
        self._text, self._length = spec.text, spec.max_length

    def chunks(self, wanted: Sequence[int], limit: int | None = None) -> Iterator[TableChunk]:
        """See `tables.Table`."""
        names = [self.columns[place] for place in wanted]
        others = [name for name in names if name not in (IDS, MASK)]
        places = [self._table.columns.index(name) for name in [*others, self._text]]
        for chunk in self._table.chunks(places, limit):
            columns = dict(zip(others, chunk.columns, strict=False))
            columns |= self._tokens(chunk.columns[-1])
            yield TableChunk(chunk.faults, chunk.numbers, [columns[name] for name in names])

    def _tokens(self, texts: Any) -> dict[Column, Any]:
        """The two columns; a missing text, or what is none, is a missing list."""
        cells = texts.to_pylist() if hasattr(texts, "to_pylist") else list(texts)
        there = np.array([isinstance(cell, str) and cell != "" for cell in cells], np.bool_)
        found = self._encoder.padded(
            [cell for cell, is_text in zip(cells, there, strict=True) if is_text], self._length
        )
        self.cut += found.cut
        if there.all():
            return {IDS: found.ids, MASK: found.mask}
        rows = np.cumsum(there) - 1
        return {
            name: [values[row] if is_text else None for row, is_text in zip(rows.tolist(), there, strict=True)]
            for name, values in ((IDS, found.ids), (MASK, found.mask))
        }
