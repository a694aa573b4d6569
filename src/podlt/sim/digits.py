"""A small network over scikit-learn's digits, in NumPy: what simulated workers train, so that damage can be measured.

One hidden layer, plain gradient descent. An update lies in flat memory as a real one does, so that the rule of
clipping is the real one. NumPy's products may differ between machines, so figures may in their last digit.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Any

import msgspec
import numpy as np

from podlt.program.ir import TensorType
from podlt.program.places import Places

Floats = np.ndarray[Any, np.dtype[np.float32]]
Whole = np.ndarray[Any, np.dtype[np.int64]]

PIXELS, HIDDEN, CLASSES = 64, 32, 10
TRAINING = 1000
"""Examples to train on; the other 797 are the test set."""

RATE = 0.4

LATE = 10
"""Accuracy is a mean over the parameters of so many last rounds. At a constant rate it goes up and down by 0.7 points
from one round to the next, whoever cheats, so that a single round says little."""

SHAPES = {"w1": (PIXELS, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, CLASSES), "b2": (CLASSES,)}
LAYOUT = Places(
    [("loss", TensorType("f32", ())), *((f"grad:{name}", TensorType("f32", shape)) for name, shape in SHAPES.items())]
)
COUNT = LAYOUT.nbytes // 4
"""Values of an update: the loss, and the gradients, with the zeros between them."""


class DigitExamples(msgspec.Struct, frozen=True):
    """Images, float32 (n, 64), and labels, int64 (n,): to train on, and to test with."""

    images: Floats
    labels: Whole
    test_images: Floats
    test_labels: Whole


@cache
def digit_examples() -> DigitExamples:
    """The digits, in an order that is always the same."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images[order] / 16).astype(np.float32), labels[order].astype(np.int64)
    return DigitExamples(images[:TRAINING], labels[:TRAINING], images[TRAINING:], labels[TRAINING:])


class DigitsModel:
    """Parameters, and what a round does to them.

    Args:
        seed: of the first parameters.
    """

    def __init__(self, seed: int) -> None:
        chance = np.random.default_rng(seed)
        self.values: Floats = np.zeros(COUNT, np.float32)
        for name, view in _views(self.values).items():
            if name.startswith("w"):
                view[...] = chance.normal(0, 1 / np.sqrt(view.shape[0]), view.shape)
        self._late: deque[Floats] = deque([self.values.copy()], LATE)

    @property
    def finite(self) -> bool:
        """Whether training can go on."""
        return bool(np.isfinite(self.values).all())

    def updates(self, examples: Whole, bounds: list[tuple[int, int]]) -> Floats:
        """The sums of losses and gradients over shards.

        Args:
            examples: of the training set, by number.
            bounds: where each shard begins and ends among them.

        Returns:
            float32, (shards, `COUNT`).
        """
        data, at = digit_examples(), _views(self.values)
        images, labels = data.images[examples], data.labels[examples]
        with np.errstate(all="ignore"):
            hidden = np.maximum(images @ at["w1"] + at["b1"], 0)
            outputs = hidden @ at["w2"] + at["b2"]
            shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            rows = np.arange(len(examples))
            losses = -np.log(shares[rows, labels])
            shares[rows, labels] -= 1
            back = (shares @ at["w2"].T) * (hidden > 0)
            found = np.zeros((len(bounds), COUNT), np.float32)
            for update, (start, stop) in zip(found, bounds, strict=True):
                part, views = slice(start, stop), _views(update)
                update[0] = losses[part].sum()
                views["w1"][...] = images[part].T @ back[part]
                views["b1"][...] = back[part].sum(axis=0)
                views["w2"][...] = hidden[part].T @ shares[part]
                views["b2"][...] = shares[part].sum(axis=0)
        return found

    def step(self, average: Floats) -> None:
        """Applies the mean update an example."""
        with np.errstate(all="ignore"):
            self.values[1:] -= np.float32(RATE) * average[1:]
        self._late.append(self.values.copy())

    def accuracy(self) -> float:
        """The share of the test set that is told right after the last rounds, or the last one, if it ruined it all."""
        return float(np.mean([_accuracy(values) for values in (self._late if self.finite else [self.values])]))


def _accuracy(values: Floats) -> float:
    """The share of the test set that is told right; by chance, a tenth."""
    data, at = digit_examples(), _views(values)
    with np.errstate(all="ignore"):
        hidden = np.maximum(data.test_images @ at["w1"] + at["b1"], 0)
        outputs = hidden @ at["w2"] + at["b2"]
    return float((outputs.argmax(axis=1) == data.test_labels).mean())


def _views(values: Floats) -> dict[str, Floats]:
    return {
        name: values[start : start + count].reshape(shape) for name, (start, count, shape) in _view_places().items()
    }


@cache
def _view_places() -> dict[str, tuple[int, int, tuple[int, ...]]]:
    places = dict(LAYOUT.items())
    found = {name: places[f"grad:{name}"] for name in SHAPES}
    return {name: (place.offset // 4, place.count, place.shape) for name, place in found.items()}
