"""Plain text as a source of examples: each example is a window of characters, coded by the training part's
vocabulary."""

from __future__ import annotations

import codecs
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from podlt.data.arrays import Progress
from podlt.data.field import Field
from podlt.data.files import Files
from podlt.data.mix import ExampleWriter, training_writer
from podlt.data.spec import DataSpec
from podlt.data.split import PART_NAMES, TEST, TRAIN, VALIDATION, Split, seed_of
from podlt.data.writer import DatasetWriter, storing
from podlt.errors import DataError

CONTEXT = 64
"""The characters that the model sees, unless the recipe says otherwise."""

_BLOCK_BYTES = 2**20

Codes = npt.NDArray[np.uint32]


def build_text(spec: DataSpec, source: Files, test: Files | None, folder: Path, progress: Progress) -> list[str]:
    """Writes the parts train, test and validation below a folder, those that have examples; there is nothing to tell.

    Windows do not overlap, and what is held out is taken at the end: a window says much of those beside it. What is
    left at the end, shorter than a window, is no example and is not used. Codes are places in the sorted vocabulary
    from 1; code 0 stands for every character that the training windows do not hold.

    Raises:
        DataError: not UTF-8, with the example's number, or too short.
        StorageError: the disk is full.
    """
    window = (spec.context or CONTEXT) + 1
    aside = folder / "spool"
    with storing(folder):
        aside.mkdir()
        try:
            characters = _spooled(*source[0], aside / "train", window, progress)
            used = min(len(characters), spec.limit or len(characters))
            split = Split(msgspec.structs.replace(spec, split="last"), [used])
            vocabulary = _vocabulary(characters[: split.sizes[TRAIN]])
            start = 0
            for part in (TRAIN, VALIDATION, TEST):
                examples = split.sizes[part]
                fields = _fields(window - 1)
                if examples:
                    path = folder / PART_NAMES[part]
                    writer = (
                        training_writer(path, fields, examples, seed_of(spec))
                        if part == TRAIN
                        else DatasetWriter(path, fields)
                    )
                    _write(writer, characters[start : start + examples], vocabulary, progress)
                start += examples
            if test is not None:
                characters = _spooled(*test[0], aside / "test", window, progress)
                test_writer = DatasetWriter(folder / PART_NAMES[TEST], _fields(window - 1))
                _write(test_writer, characters[: spec.test_limit], vocabulary, progress)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return []


def _spooled(source: str, path: Path, target: Path, window: int, progress: Progress) -> Codes:
    """The file's characters as whole windows of code points on disk, uint32[n, window]."""
    count = 0
    with target.open("wb") as file:
        for text in _decoded(source, path):
            file.write(text.encode("utf-32-le"))
            count += len(text)
            progress(f"reading {source}", count, None)
    if count < window:
        raise DataError(source, None, f"expected at least {window} characters (context + 1), got {count}")
    return np.asarray(np.memmap(target, "<u4", "r", shape=(count // window, window)))


def _decoded(source: str, path: Path) -> Iterator[str]:
    """The file's text, block by block; a byte order mark is no part of it."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line = 1
    with path.open("rb") as file:
        while True:
            data = file.read(_BLOCK_BYTES)
            pending = decoder.getstate()[0]
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                place = line + (pending + data).count(b"\n", 0, error.start)
                raise DataError(source, place, f"expected UTF-8, got byte 0x{error.object[error.start]:02x}") from None
            line += text.count("\n")
            yield text
            if not data:
                return


def _step(windows: Codes) -> int:
    return max(1, int(_BLOCK_BYTES // (4 * windows.shape[1])))


def _vocabulary(windows: Codes) -> Codes:
    """The different characters, sorted by code point."""
    step, found = _step(windows), np.empty(0, np.uint32)
    for start in range(0, len(windows), step):
        found = np.union1d(found, windows[start : start + step])
    return found.astype(np.uint32)


def _fields(context: int) -> list[Field]:
    return [Field("tokens", "i64", (context,), "input"), Field("label", "i64", (context,), "label")]


def _write(writer: ExampleWriter, windows: Codes, vocabulary: Codes, progress: Progress) -> None:
    """Writes windows as a prepared part: tokens are all characters but the last, labels all but the first."""
    info: dict[str, Any] = {
        "kind": "text",
        "classes": None,
        "vocabulary": vocabulary.astype("<u4").tobytes().decode("utf-32-le"),
        "vocabulary_size": len(vocabulary) + 1,
        "cardinalities": [len(vocabulary) + 1],
    }
    try:
        for start in range(0, len(windows), _step(windows)):
            codes = _coded(windows[start : start + _step(windows)], vocabulary)
            writer.write({"tokens": codes[:, :-1], "label": codes[:, 1:]})
            progress("preparing", writer.examples, len(windows))
        writer.finish(info)
    finally:
        writer.close()


def _coded(windows: Codes, vocabulary: Codes) -> npt.NDArray[np.int64]:
    places = np.minimum(np.searchsorted(vocabulary, windows), len(vocabulary) - 1)
    return np.where(vocabulary[places] == windows, places + 1, 0).astype(np.int64)
