"""Prepares a table: which column plays which part, then spool, fit, encode, write."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from podlt.data.arrays import Progress
from podlt.data.encode import ColumnRoles, Encoding, Int64, Spool, encoded, fit
from podlt.data.field import Field
from podlt.data.spec import Column, DataSpec, parts_of
from podlt.data.tables import Table, open_table
from podlt.data.writer import DatasetWriter, storing
from podlt.errors import DataError, UsageError


def build_table(spec: DataSpec, source: Path, test: Path | None, folder: Path, progress: Progress) -> None:
    """Writes folder/train and, where there are lines for it, folder/test.

    Raises:
        DataError: a line is malformed; names it as an editor does.
        UsageError: the columns are not well chosen.
        StorageError: the disk is full.
    """
    table = open_table(spec, spec.source, source)
    roles = choose(spec, table)
    aside = folder / "spool"
    with storing(folder):
        try:
            spool = _spooled(spec, table, roles, aside / "train", spec.limit, spec.classes, progress)
            lines, held = parts_of(spec, spool.lines)
            encoding, order = fit(spool, lines, spec)
            _write(folder / "train", spool, 0, lines, encoding, order, progress)
            if held:
                _write(folder / "test", spool, lines, lines + held, encoding, order, progress)
            if test is not None:
                other = open_table(spec, str(spec.test), test)
                classes = encoding.classes if spec.positive is None else None
                spool = _spooled(spec, other, roles, aside / "test", spec.test_limit, classes, progress)
                _write(folder / "test", spool, 0, spool.lines, encoding, None, progress)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def choose(spec: DataSpec, table: Table) -> ColumnRoles:
    """Which columns are numbers, categories and the label, each by the name that the table gives it.

    Raises:
        UsageError: no label or nothing to predict it from, or a column with two parts to play.
        DataError: a column that the table does not have.
    """
    if spec.label is None:
        raise UsageError(f"data: {spec.source}: name the column to predict, as in label = {table.columns[-1]!r}")
    label = _column(table, spec.label)
    categorical = tuple(_column(table, column) for column in spec.categorical)
    drop = tuple(_column(table, column) for column in spec.drop)
    named = [label, *categorical, *drop]
    if spec.numeric is not None:
        numeric = tuple(_column(table, column) for column in spec.numeric)
    else:
        numeric = tuple(column for column in table.columns if column not in named)
    every = [*named, *numeric]
    twice = next((column for column in every if every.count(column) > 1), None)
    if twice is not None:
        raise UsageError(
            f"data: {spec.source}: column {twice!r}: expected as one of label, numeric, categorical and drop, got two"
        )
    if not numeric and not categorical:
        raise UsageError(f"data: {spec.source}: no input columns: expected at least one besides the label {label!r}")
    return ColumnRoles(numeric, categorical, label)


def _column(table: Table, wanted: Column) -> Column:
    if wanted in table.columns:
        return wanted
    if isinstance(wanted, int) and wanted < len(table.columns):
        return table.columns[wanted]
    found = ", ".join(map(str, table.columns[:50]))
    raise DataError(table.source, None, f"expected a column {wanted!r}, got {found}")


def _spooled(
    spec: DataSpec,
    table: Table,
    roles: ColumnRoles,
    folder: Path,
    limit: int | None,
    classes: int | Sequence[str] | None,
    progress: Progress,
) -> Spool:
    """The checked lines of a table, on disk."""
    folder.mkdir(parents=True)
    wanted = [
        table.columns.index(_column(table, column)) for column in (*roles.numeric, *roles.categorical, roles.label)
    ]
    spool = Spool(table.source, folder, roles, spec.target, classes, spec.positive)
    for lines in spool.fill(table.chunks(wanted), limit):
        progress(f"reading {table.source}", lines, limit)
    if not spool.lines:
        raise DataError(table.source, None, "expected at least one line, got none")
    return spool


def _write(
    folder: Path, spool: Spool, start: int, stop: int, encoding: Encoding, order: Int64 | None, progress: Progress
) -> None:
    """Writes the lines [start, stop) of a spool as a prepared part."""
    roles = spool.roles
    fields = []
    if roles.numeric:
        fields.append(Field("numeric", "f32", (len(roles.numeric),), "input"))
    if roles.categorical:
        fields.append(Field("category", "i64", (len(roles.categorical),), "input"))
    fields.append(Field("label", "i64" if encoding.classes is not None else "f32", (), "label"))
    writer = DatasetWriter(folder, fields)
    try:
        for arrays in encoded(spool, start, stop, encoding, order):
            writer.write(arrays)
            progress(f"preparing {folder.name}", writer.lines, stop - start)
        writer.finish(encoding.info())
    finally:
        writer.close()
