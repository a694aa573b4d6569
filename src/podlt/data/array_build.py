"""Prepares arrays: split, fit, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from podlt.data.arrays import ArraySource, Progress
from podlt.data.files import Files
from podlt.data.mix import ExampleWriter
from podlt.data.notes import array_notes
from podlt.data.part_writers import close_writers, open_writers, write_examples
from podlt.data.spec import DataSpec
from podlt.data.split import PART_NAMES, TEST, TRAIN, Split
from podlt.data.streams import npz_streams
from podlt.data.writer import DatasetWriter
from podlt.errors import DataError, UsageError

NO_DESCRIPTION: Mapping[str, Any] = {}


def build_arrays(
    spec: DataSpec,
    train: ArraySource,
    others: Mapping[int, ArraySource],
    folder: Path,
    progress: Progress,
    described: Mapping[str, Any] = NO_DESCRIPTION,
) -> list[str]:
    """Writes the parts train, test and validation below a folder, those that have examples; returns what to tell.

    Args:
        spec: for limits, the parts held out and the classes' names.
        train: the examples to train on, and those held out of them.
        others: by the numbers of parts, those with a source of their own.
        folder: where the parts are made.
        progress: called with what is done, the examples written and the examples in all.
        described: what else to keep in `Dataset.info`, as JSON values.

    Raises:
        DataError: a value is refused, or another part has other fields.
        UsageError: nothing would be held out.
    """
    examples = min(train.examples, spec.limit or train.examples)
    drawn = spec.split == "random" and (spec.test_fraction or spec.validation_fraction)
    counts = train.class_counts(examples) if drawn else np.array([examples], np.int64)

    def is_training() -> Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]]:
        split = Split(spec, counts)
        return lambda labels: split.of(labels) == TRAIN

    train.fit(examples, is_training)
    writers = _write(spec, train, Split(spec, counts), folder, progress)
    names = class_names(spec.classes, train.highest)
    for part, source in others.items():
        writers.append(_write_other(spec, train, part, source, len(names), folder, progress))
    info: dict[str, Any] = {"kind": "arrays", "classes": names or None, "cardinalities": [], **described}
    if train.moments:
        info["standardised"] = {
            name: {"mean": found.means.tolist(), "std": found.deviations.tolist()}
            for name, found in train.moments.items()
        }
    for writer in writers:
        writer.finish(info)
    return array_notes(train, examples)


def _write(spec: DataSpec, source: ArraySource, split: Split, folder: Path, progress: Progress) -> list[ExampleWriter]:
    """Writes a source's examples, each to its part; returns the writers, still to be finished."""
    writers = open_writers(spec, split, source.fields, folder)
    done = 0
    try:
        for arrays in source.chunks(split.examples):
            first = next(iter(arrays.values()))
            write_examples(writers, arrays, split.of(arrays[source.label.name] if source.label else first))
            done += len(first)
            progress("preparing", done, split.examples)
    except BaseException:
        close_writers(writers)
        raise
    return list(writers.values())


def _write_other(
    spec: DataSpec, train: ArraySource, part: int, test: ArraySource, classes: int, folder: Path, progress: Progress
) -> ExampleWriter:
    """Writes the examples of a source that is a part by itself."""
    if test.fields != train.fields:
        raise DataError(str(spec.test), None, f"expected fields {train.fields}, got {test.fields}")
    test.bound = classes or None
    test.take_moments(train)
    limit = spec.test_limit if part == TEST else None
    examples = min(test.examples, limit or test.examples)
    writer = DatasetWriter(folder / PART_NAMES[part], test.fields)
    try:
        for arrays in test.chunks(examples):
            writer.write(arrays)
            progress(f"preparing the {PART_NAMES[part]} part", writer.examples, examples)
    except BaseException:
        writer.close()
        raise
    return writer


def build_npz(spec: DataSpec, source: Files, test: Files | None, folder: Path, progress: Progress) -> list[str]:
    """Prepares an .npz archive: the arrays that `spec.inputs` and `spec.label` name, [examples, ...] each."""
    if not spec.inputs:
        raise UsageError(f'data: {spec.source}: name the arrays that the model is given, as in inputs = ["x"]')
    if spec.label is not None and not isinstance(spec.label, str):
        raise UsageError(f"data: {spec.source}: expected the name of an array as label, got {spec.label}")
    if spec.standardise and spec.scale is not None:
        raise UsageError("data: expected only one of scale and standardise, got both")
    label = spec.label

    def opened(files: Files) -> ArraySource:
        name, path = files[0]
        inputs = npz_streams(name, path, spec.inputs)
        labels = npz_streams(name, path, [label]) if label is not None else [None]
        bound = spec.classes if isinstance(spec.classes, int) else len(spec.classes) if spec.classes else None
        return ArraySource(
            inputs,
            labels[0],
            scale=spec.scale,
            target=spec.target,
            classes=bound,
            standardise=bool(spec.standardise),
        )

    return build_arrays(spec, opened(source), {TEST: opened(test)} if test else {}, folder, progress)


def class_names(classes: int | tuple[str, ...] | None, highest: int) -> list[str]:
    """The classes' names in the order of their codes: given, counted, or up to the highest code that was found."""
    if isinstance(classes, tuple):
        return list(classes)
    return [str(code) for code in range(classes if classes is not None else highest + 1)]
