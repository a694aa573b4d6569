"""Which examples of a source are for training, and which are held out: drawn, each class in its proportion.

Examples are judged as they pass, chunk by chunk, with memory for one number a class. The examples of a class are
divided into as many stretches as examples of it are to be held out, and one example of each stretch is drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from podlt.data.draw import Draw
from podlt.data.spec import DataSpec
from podlt.errors import UsageError

TRAIN, TEST, VALIDATION, UNUSED = range(4)
PART_NAMES = {TRAIN: "train", TEST: "test", VALIDATION: "validation"}

Int64 = npt.NDArray[np.int64]


def seed_of(spec: DataSpec) -> bytes:
    """What the data's draws follow from."""
    return spec.seed.to_bytes(8, "big")


class Split:
    """Gives each example of a source its part, in the order of the examples.

    Args:
        spec: which fractions are held out, and how.
        counts: how many examples each class has, int64[classes]; one entry where the label is no class.

    Attributes:
        sizes: how many examples each part has, by its number.

    Raises:
        UsageError: a part is to be held out, but the source is too short for one example of it.
    """

    def __init__(self, spec: DataSpec, counts: npt.ArrayLike) -> None:
        left = np.asarray(counts, np.int64)
        self.examples = int(left.sum())
        self._last = spec.split == "last"
        if self._last:
            left = left.sum(keepdims=True)
        self._place = self._tested = 0
        fractions = {TEST: spec.test_fraction, VALIDATION: spec.validation_fraction}
        held = {part: self._whole(spec, part, fraction) for part, fraction in fractions.items() if fraction}
        self._draws: list[tuple[int, _ClassDraw]] = []
        for part, wanted in held.items():
            draw = _ClassDraw(left, wanted, Draw(seed_of(spec), bytes([part]), domain="split/1"))
            left = left - draw.wanted
            held[part] = int(draw.wanted.sum())
            if not held[part]:
                raise UsageError(f"data: {spec.source}: {PART_NAMES[part]}_fraction: no class has an example to spare")
            self._draws.append((part, draw))
        test = held.get(TEST, 0)
        self._limit = min(test, spec.test_limit or test)
        self.sizes = {TRAIN: self.examples - sum(held.values()), TEST: self._limit, VALIDATION: held.get(VALIDATION, 0)}
        self._bounds = np.cumsum([self.sizes[TRAIN], self.sizes[VALIDATION], test])
        if self.sizes[TRAIN] < 1:
            raise UsageError(f"data: {spec.source}: all of its {self.examples} examples are held out")

    @property
    def parts(self) -> list[int]:
        """The parts that have examples."""
        return [part for part in PART_NAMES if self.sizes[part]]

    def of(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The part of each of the next examples, uint8[n].

        Args:
            labels: the class of each; any array [n, ...] where there is one entry in `counts`.
        """
        examples = len(labels)
        if self._last:
            place = np.searchsorted(self._bounds, np.arange(self._place, self._place + examples), "right")
            parts = np.array([TRAIN, VALIDATION, TEST, UNUSED], np.uint8)[place]
        else:
            parts = np.zeros(examples, np.uint8)
            for part, draw in self._draws:
                free = np.flatnonzero(parts == TRAIN)
                parts[free[draw.held(labels[free])]] = part
        self._place += examples
        tested = parts == TEST
        parts[tested & (self._tested + np.cumsum(tested) > self._limit)] = UNUSED
        self._tested += int(tested.sum())
        return parts

    def _whole(self, spec: DataSpec, part: int, fraction: float) -> int:
        held = int(self.examples * fraction)
        if not held:
            raise UsageError(
                f"data: {spec.source}: {PART_NAMES[part]}_fraction {fraction} of {self.examples} examples is no example"
            )
        return held


class _ClassDraw:
    """Holds out a fixed number of the examples of each class.

    Args:
        counts: how many examples each class has.
        total: how many examples are to be held out; a class gets its share of them, but never its last example.
        draw: the words that decide.
    """

    def __init__(self, counts: Int64, total: int, draw: Draw) -> None:
        shares = counts * (total / max(1, int(counts.sum())))
        self.wanted = np.floor(shares).astype(np.int64)
        largest = np.argsort(self.wanted - shares, kind="stable")  # the largest remainder first
        self.wanted[largest[: total - int(self.wanted.sum())]] += 1
        if len(counts) > 1:
            self.wanted = np.minimum(self.wanted, np.maximum(counts - 1, 0))
        self._counts, self._draw = counts, draw
        self._offsets = np.cumsum(self.wanted) - self.wanted
        self._seen = np.zeros(len(counts), np.int64)

    def held(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Whether each of the next examples is held out, bool[n]."""
        if not len(labels):
            return np.zeros(0, np.bool_)
        most = len(self._counts) - 1  # a label above it is refused elsewhere
        codes = np.clip(labels, 0, most) if most else np.zeros(len(labels), np.int64)
        order = np.argsort(codes, kind="stable")
        classes, starts = np.unique(codes[order], return_index=True)
        mask = np.zeros(len(codes), np.bool_)
        for code, rows in zip(classes.tolist(), np.split(order, starts[1:]), strict=True):
            mask[rows] = self._drawn(code, len(rows))
        return mask

    def _drawn(self, code: int, examples: int) -> npt.NDArray[np.bool_]:
        """Whether each of the next examples of a class is the one that is drawn from its stretch."""
        first, wanted, count = int(self._seen[code]), int(self.wanted[code]), int(self._counts[code])
        self._seen[code] += examples
        if not wanted:
            return np.zeros(examples, np.bool_)
        places = np.arange(first, first + examples)
        stretches = places * wanted // count
        low, high = int(stretches[0]), int(stretches[-1])
        words = self._draw.words(int(self._offsets[code]) + low, high - low + 1)[stretches - low]
        starts = -(-stretches * count // wanted)
        lengths = -(-(stretches + 1) * count // wanted) - starts
        result: npt.NDArray[np.bool_] = places == starts + (words % lengths.astype(np.uint64)).astype(np.int64)
        return result
