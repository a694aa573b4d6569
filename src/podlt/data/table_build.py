"""Prepares a table: which column plays which part, then spool, split, fit, encode, write."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from podlt.data.arrays import Progress
from podlt.data.arrow_tables import open_table
from podlt.data.encode import Encoding, Int64, Parts, check_classes, class_table, encoded, fit, label_classes
from podlt.data.field import Field
from podlt.data.files import Files
from podlt.data.lists import ListColumn
from podlt.data.notes import table_notes
from podlt.data.part_writers import close_writers, open_writers, write_examples
from podlt.data.spec import Column, DataSpec
from podlt.data.split import PART_NAMES, TEST, Split
from podlt.data.spool import ColumnRoles, Spool
from podlt.data.tables import Table, nearest
from podlt.data.text_columns import IDS, MASK, TokenizedTable
from podlt.data.tokenizer import TextEncoder
from podlt.data.writer import DatasetWriter, storing
from podlt.errors import DataError, UsageError


def build_table(spec: DataSpec, source: Files, test: Files | None, folder: Path, progress: Progress) -> list[str]:
    """Writes the parts train, test and validation below a folder, those that have examples; returns what to tell.

    Raises:
        DataError: examples are malformed; names each as an editor does.
        UsageError: the columns are not well chosen.
        StorageError: the disk is full.
    """
    encoder = TextEncoder(spec.tokenizer, Path(spec.tokenizer)) if spec.tokenizer is not None else None
    table = _opened(spec, source, encoder)
    roles = choose(spec, table)
    aside = folder / "spool"
    with storing(folder):
        try:
            spool = _spooled(spec, table, roles, aside / "train", spec.limit, progress)
            kind, names = label_classes(spool, spec)
            classes = None if names is None else class_table(spool, spec, kind, names)
            if classes is not None and names is not None:
                check_classes(spool, classes, names)
            split, parts = _parts(spec, spool, classes, len(names) if names else 1)
            encoding = fit(spool, parts, spec, kind, names)
            if encoder is not None:
                encoding.described = {"max_length": spec.max_length, **encoder.info()}
            _write(spec, folder, spool, split, parts, encoding, classes, progress)
            if test is not None:
                tested, limit = _opened(spec, test, encoder), spec.test_limit
                other = _spooled(spec, tested, roles, aside / "test", limit, progress, spool.lists)
                _write_test(spec, folder, other, encoding, progress)
            notes = table_notes(spec, table, spool, encoding, kind)
            if isinstance(table, TokenizedTable) and table.cut:
                notes.append(f"{table.cut:,} texts are longer than max_length = {spec.max_length} tokens, and cut")
            return notes
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _opened(spec: DataSpec, files: Files, encoder: TextEncoder | None) -> Table:
    """The table, its texts tokenized if there is a tokenizer."""
    table = open_table(spec, files)
    return table if encoder is None else TokenizedTable(table, spec, encoder)


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
    dates = tuple(_column(table, column) for column in spec.dates)
    named = [label, *categorical, *drop]
    if spec.text is not None:
        numeric = (*(_column(table, column) for column in spec.numeric or ()), *dates, IDS, MASK)
    elif spec.numeric is not None:
        numeric = (*(_column(table, column) for column in spec.numeric), *dates)
    else:
        numeric = tuple(column for column in table.columns if column not in named and column not in table.index)
    every = [*named, *numeric, *(column for column in dates if column not in numeric)]
    twice = next((column for column in every if every.count(column) > 1), None)
    if twice is None:
        twice = next((column for column in dates if column in named), None)
    if twice is not None:
        raise UsageError(
            f"data: {spec.source}: column {twice!r}: expected as one of label, numeric, categorical and drop, got two"
        )
    lists = tuple(column for column in numeric if column in table.lists)
    numeric = tuple(column for column in numeric if column not in lists)
    flat = next((column for column in (label, *categorical, *dates) if column in table.lists), None)
    if flat is not None:
        raise UsageError(f"data: {spec.source}: column {flat!r}: expected texts or numbers, got lists")
    for column in lists:
        fault = ListColumn(column).fault_of_name()
        if fault is not None:
            raise UsageError(f"data: {spec.source}: {fault}")
    if not numeric and not categorical and not lists:
        raise UsageError(f"data: {spec.source}: no input columns: expected at least one besides the label {label!r}")
    return ColumnRoles(numeric, categorical, label, frozenset(dates), lists)


def _column(table: Table, wanted: Column) -> Column:
    if wanted in table.columns:
        return wanted
    if isinstance(wanted, int) and wanted < len(table.columns):
        return table.columns[wanted]
    found = ", ".join(map(str, table.columns[:50]))[:500]
    other = next((mark for mark in ";\t|" if len(table.columns) == 1 and mark in str(table.columns[0])), None)
    hint = f"\n  hint: delimiter = {other!r}" if other is not None else ""
    near = nearest(wanted, table.columns)
    raise DataError(table.source, None, f"expected a column {wanted!r}, got {found}{near}{hint}")


def _spooled(
    spec: DataSpec,
    table: Table,
    roles: ColumnRoles,
    folder: Path,
    limit: int | None,
    progress: Progress,
    lists: Sequence[ListColumn] = (),
) -> Spool:
    """The checked examples of a table, on disk; `lists` are those of the training examples, whose shapes hold here
    too."""
    folder.mkdir(parents=True)
    wanted = [
        table.columns.index(_column(table, column))
        for column in (*roles.numeric, *roles.categorical, *roles.lists, roles.label)
    ]
    spool = Spool(folder, roles, spec, lists=[column.for_test() for column in lists])
    for examples in spool.fill(table.chunks(wanted, limit)):
        progress(f"reading {table.source}", examples, limit)
    if not spool.examples:
        found = f"{spool.dropped:,} that all lack a value" if spool.dropped else "none"
        raise DataError(table.source, None, f"expected at least one example, got {found}")
    return spool


def _parts(spec: DataSpec, spool: Spool, classes: Int64 | None, names: int) -> tuple[Split, Parts]:
    """The part of each example of a spool, a byte an example."""

    def coded(labels: npt.NDArray[Any]) -> Int64:
        return np.zeros(len(labels), np.int64) if classes is None else classes[labels]

    counts = np.zeros(names, np.int64)
    for part in spool.parts():
        counts += np.bincount(coded(part.labels), minlength=names)
    split = Split(spec, counts)
    return split, np.concatenate([split.of(coded(part.labels)) for part in spool.parts()])


def _write(
    spec: DataSpec,
    folder: Path,
    spool: Spool,
    split: Split,
    parts: Parts,
    encoding: Encoding,
    classes: Int64 | None,
    progress: Progress,
) -> None:
    """Writes the examples of a spool, each to its part."""
    writers = open_writers(spec, split, _fields(encoding), folder)
    first = 0
    try:
        for arrays in encoded(spool, encoding, classes):
            here = parts[first : first + len(arrays["label"])]
            write_examples(writers, arrays, here)
            first += len(here)
            progress("preparing", first, spool.examples)
        for writer in writers.values():
            writer.finish(encoding.info())
    finally:
        close_writers(writers)


def _write_test(spec: DataSpec, folder: Path, spool: Spool, encoding: Encoding, progress: Progress) -> None:
    """Writes a test file's examples, encoded by the training examples."""
    classes = None
    if encoding.classes is not None:
        classes = class_table(spool, spec, encoding.label, encoding.classes)
        check_classes(spool, classes, encoding.classes)
    writer = DatasetWriter(folder / PART_NAMES[TEST], _fields(encoding))
    try:
        for arrays in encoded(spool, encoding, classes):
            writer.write(arrays)
            progress("preparing the test part", writer.examples, spool.examples)
        writer.finish(encoding.info())
    finally:
        writer.close()


def _fields(encoding: Encoding) -> list[Field]:
    roles, fields = encoding.roles, []
    if roles.numeric:
        fields.append(Field("numeric", "f32", (len(roles.numeric),), "input"))
    if roles.categorical:
        fields.append(Field("category", "i64", (len(roles.categorical),), "input"))
    for column in encoding.lists:
        fields.append(Field(str(column.column), "i64" if column.whole else "f32", column.shape, "input"))
    fields.append(Field("label", "i64" if encoding.classes is not None else "f32", (), "label"))
    return fields
