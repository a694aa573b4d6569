"""Texts with a tokenizer as a source of examples: windows of tokens, packed one after another over all documents.

A document is a file of plain text, or one cell of a column. Tokens go to disk as they come, so that memory holds a few
documents; a long file is cut at the starts of examples.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from podlt.data.arrays import Progress
from podlt.data.arrow_tables import open_table
from podlt.data.faults import Faults
from podlt.data.field import Field
from podlt.data.files import Files
from podlt.data.mix import ExampleWriter, training_writer
from podlt.data.spec import DataSpec
from podlt.data.split import PART_NAMES, TEST, TRAIN, VALIDATION, Split, seed_of
from podlt.data.tables import text_lines
from podlt.data.tokenizer import TextEncoder
from podlt.data.writer import DatasetWriter, storing
from podlt.errors import DataError, UsageError

WINDOW = 128
"""Tokens that the model sees, unless the recipe says otherwise."""

PIECE_CHARACTERS = 2**18
"""A file of plain text is tokenized in pieces of about so many characters, cut at the starts of examples."""

_BATCH_CHARACTERS = 2**20
_STEP_BYTES = 2**20

Tokens = npt.NDArray[np.uint32]


def build_tokens(spec: DataSpec, source: Files, test: Files | None, folder: Path, progress: Progress) -> list[str]:
    """Writes the parts train, test and validation below a folder, those that have examples; returns what to tell.

    Windows do not overlap, and what is held out is taken at the end. What is left at the end, shorter than a window,
    is no example.

    Args:
        spec: `tokenizer` is the path of its file.
        source: the files, read one after another.
        test: the files to test on, or None.
        folder: where the parts are made.
        progress: called with what is done.

    Raises:
        DataError: not UTF-8 or a cell that is no text, with every example's number; or too short.
        UsageError: no column or no separator is known.
        StorageError: the disk is full.
    """
    encoder = TextEncoder(str(spec.tokenizer), Path(str(spec.tokenizer)))
    separator = encoder.separator(spec.separator)
    shift = 0 if spec.shift is False else 1
    width = (spec.window or WINDOW) + shift
    info = {"kind": "tokens", "classes": None, "window": width - shift, "shift": bool(shift), **encoder.info()}
    info["cardinalities"] = [info["vocabulary_size"]]
    aside = folder / "spool"
    with storing(folder):
        aside.mkdir()
        try:
            windows, notes = _spooled(spec, source, encoder, separator, aside / "train", width, progress)
            used = min(len(windows), spec.limit or len(windows))
            split = Split(msgspec.structs.replace(spec, split="last"), [used])
            fields = _fields(width - shift)
            start = 0
            for part in (TRAIN, VALIDATION, TEST):
                examples = split.sizes[part]
                if examples:
                    path = folder / PART_NAMES[part]
                    drawn = part == TRAIN
                    writer = (
                        training_writer(path, fields, examples, seed_of(spec)) if drawn else DatasetWriter(path, fields)
                    )
                    _write(writer, windows[start : start + examples], shift, info, progress)
                start += examples
            if test is not None:
                tested, _ = _spooled(spec, test, encoder, separator, aside / "test", width, progress)
                writer = DatasetWriter(folder / PART_NAMES[TEST], fields)
                _write(writer, tested[: spec.test_limit], shift, info, progress)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return notes


def _fields(window: int) -> list[Field]:
    return [Field("input_ids", "i64", (window,), "input"), Field("labels", "i64", (window,), "label")]


def _spooled(
    spec: DataSpec,
    files: Files,
    encoder: TextEncoder,
    separator: int | None,
    target: Path,
    width: int,
    progress: Progress,
) -> tuple[Tokens, list[str]]:
    """The tokens of all documents as whole windows on disk, uint32[n, width], and what to tell of them."""
    tokens = documents = 0
    with target.open("wb") as file:
        for texts, ends in _batches(_pieces(spec, files)):
            for run, ended in _runs(texts, ends):
                found = encoder.stream(run, separator if ended else None)
                file.write(found.astype("<u4").data)
                tokens += len(found)
            documents += sum(ends)
            progress(f"tokenizing {files[0][0]}", tokens, None)
    if tokens < width:
        raise DataError(files[0][0], None, f"expected at least {width} tokens (a window), got {tokens}")
    left = tokens % width
    notes = [f"{documents:,} documents, {tokens:,} tokens" + (f"; the last {left:,} fill no window" if left else "")]
    return np.asarray(np.memmap(target, "<u4", "r", shape=(tokens // width, width))), notes


def _runs(texts: list[str], ends: list[bool]) -> Iterator[tuple[list[str], bool]]:
    """Consecutive pieces that all end a document, or all do not."""
    for ended, group in itertools.groupby(zip(texts, ends, strict=True), key=lambda pair: pair[1]):
        yield [text for text, _ in group], ended


def _batches(pieces: Iterator[tuple[str, bool]]) -> Iterator[tuple[list[str], list[bool]]]:
    """Pieces, some at a time: their texts, and whether each ends its document."""
    texts: list[str] = []
    ends: list[bool] = []
    size = 0
    for text, ended in pieces:
        texts.append(text)
        ends.append(ended)
        size += len(text) + 1
        if size >= _BATCH_CHARACTERS:
            yield texts, ends
            texts, ends, size = [], [], 0
    if texts:
        yield texts, ends


def _pieces(spec: DataSpec, files: Files) -> Iterator[tuple[str, bool]]:
    """Pieces of documents, and whether each is its document's last."""
    if files[0][1].suffix.lower() == ".txt":
        for name, path in files:
            yield from _file_pieces(name, path)
        return
    for text in _cells(spec, files):
        yield text, True


def _file_pieces(name: str, path: Path) -> Iterator[tuple[str, bool]]:
    """A file in pieces that begin where an example begins that is not blank: there every tokenizer begins a word."""
    faults = Faults(name)
    lines: list[str] = []
    size = 0
    for line in text_lines(path, faults):
        if size >= PIECE_CHARACTERS and not line[0].isspace():
            yield "".join(lines), False
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    faults.check()
    yield "".join(lines), True


def _cells(spec: DataSpec, files: Files) -> Iterator[str]:
    """The texts of a column, those of missing cells left out."""
    table = open_table(spec, files)
    if spec.text is None:
        names = ", ".join(map(str, table.columns[:20]))
        raise UsageError(f"data: {spec.source}: name the column of texts, as in text = {table.columns[0]!r} ({names})")
    if spec.text not in table.columns:
        raise DataError(
            table.source, None, f"expected a column {spec.text!r}, got {', '.join(map(str, table.columns))}"
        )
    faults = None
    for chunk in table.chunks([table.columns.index(spec.text)]):
        faults = _next_file(faults, chunk.faults)
        yield from texts_of(spec.text, chunk.columns[0], chunk.numbers, chunk.faults)
    if faults is not None:
        faults.check()


def _next_file(last: Faults | None, now: Faults) -> Faults:
    """The faults of the file that is being read; those of the one before are raised when it ends."""
    if last is not None and last is not now:
        last.check()
    return now


def texts_of(column: Any, values: Any, numbers: Any, faults: Faults) -> list[str]:
    """The texts of a chunk's column; a cell that is no text is a fault, a missing one is left out."""
    cells = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
    wrong = np.array([cell is not None and not isinstance(cell, str) for cell in cells], np.bool_)
    faults.add_rows(numbers, wrong, lambda row: f"column {column!r}: expected a text, got {cells[row]!r}"[:200])
    return [cell for cell in cells if isinstance(cell, str) and cell]


def _write(writer: ExampleWriter, windows: Tokens, shift: int, info: dict[str, Any], progress: Progress) -> None:
    """Writes windows as a prepared part: labels are the next tokens, or the same ones."""
    step = max(1, _STEP_BYTES // (4 * windows.shape[1]))
    try:
        for start in range(0, len(windows), step):
            codes = windows[start : start + step].astype(np.int64)
            writer.write({"input_ids": codes[:, : codes.shape[1] - shift], "labels": codes[:, shift:]})
            progress("preparing", writer.examples, len(windows))
        writer.finish(info)
    finally:
        writer.close()
