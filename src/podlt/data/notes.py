"""What a person should know of a source once it is prepared: what was left out, replaced, or looks like a mistake."""

from __future__ import annotations

import numpy as np

from podlt.data.arrays import ArraySource
from podlt.data.cells import Kind, kind_of
from podlt.data.encode import Encoding
from podlt.data.spec import DataSpec
from podlt.data.spool import Spool
from podlt.data.tables import Table


def table_notes(spec: DataSpec, table: Table, spool: Spool, encoding: Encoding, label: Kind) -> list[str]:
    """What to tell of a table."""
    roles = encoding.roles
    notes = []
    left_out = [column for column in table.index if column not in (*roles.numeric, *roles.categorical, roles.label)]
    if left_out and spec.numeric is None:
        names = ", ".join(repr(column) for column in sorted(map(str, left_out)))
        notes.append(f"left out: {names}, an index of pandas; name it in `numeric` if it is an input")
    if spool.dropped:
        notes.append(f"left out: {spool.dropped:,} examples that lack a value")
    for place in np.flatnonzero(spool.missing).tolist():
        count = int(spool.missing[place])
        notes.append(f"column {roles.numeric[place]!r}: {count:,} missing numbers become the mean")
    if encoding.classes is not None:
        notes += sorted_note(spool.label_changes, spool.examples, len(encoding.classes))
    if label == "text" and spec.classes is None and spec.positive is None:
        notes += _mixed_labels(spool)
    return notes


def array_notes(source: ArraySource, examples: int) -> list[str]:
    """What to tell of arrays."""
    if source.label is None:
        return []
    return sorted_note(source.label_changes, examples, source.highest + 1)


def sorted_note(changes: int, examples: int, classes: int) -> list[str]:
    """Whether a source is sorted by its label: few examples have another label than the one before."""
    if examples < 20 or classes < 2 or changes > 2 * classes or changes > examples // 10:
        return []
    return [
        "the source is sorted by label; its examples are mixed in every epoch and drawn for what is held out, "
        "but `limit` takes the first examples"
    ]


def _mixed_labels(spool: Spool) -> list[str]:
    texts = list(spool.labels_seen)
    odd = [text for text in texts if kind_of([text]) != "number"]
    if len(odd) == len(texts):
        return []
    code = spool.labels_seen[odd[0]]
    line = spool.first_line_with(code)
    return [f"labels are texts, as not all are numbers: {odd[0]!r} in line {line} is one of {len(odd):,} that are none"]
