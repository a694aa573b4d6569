"""A folder of images by class as a source of examples: one sub-folder a class, whose name is the class's.

Where there is a folder `train`, the classes are below it, and `val` and `test` beside it are parts of their own; a
`val` alone is the part to test on. Images are taken one of each class in turn, so that the first examples are of all
classes. Pillow decodes them as they are needed; memory holds a few, and the names of all.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from podlt.data.array_build import build_arrays
from podlt.data.arrays import ArraySource, Progress
from podlt.data.dataset import MAX_ROW_BYTES
from podlt.data.faults import Faults
from podlt.data.fetch import file_sha256
from podlt.data.spec import DataSpec
from podlt.data.split import TEST, TRAIN, VALIDATION
from podlt.data.streams import Stream, memory_stream
from podlt.errors import DataError, UsageError
from podlt.extras import needed_by

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels -> Pillow's name for such pixels of 8 bits a channel."""

CHANNELS = 3
_PARTS = {"train": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "test": TEST}
_CLUTTER = frozenset({"thumbs.db", "desktop.ini"})
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, struct.error, zlib.error)
"""What Pillow raises on a damaged file, by its format."""


@dataclass(frozen=True)
class ImageFiles:
    """The images of one part.

    Attributes:
        source: the folder, as the user gave it.
        root: where it is.
        classes: the names of the classes, in the order of their codes.
        files: of each image its path below the root and its class's code, one of each class in turn.
    """

    source: str
    root: Path
    classes: tuple[str, ...]
    files: list[tuple[str, int]]

    def digest(self) -> str:
        """Of the classes, and of each image's content and class; where they lie is no part of it."""
        found = hashlib.sha256("\0".join(self.classes).encode())
        for name, code in self.files:
            found.update(f"{code} {file_sha256(self.root / name)}\n".encode())
        return found.hexdigest()


def is_image_folder(path: Path, other_kinds: Sequence[str]) -> bool:
    """Whether a path is a folder with sub-folders in it, and with no file of another kind of source."""
    if not path.is_dir():
        return False
    entries = list(path.iterdir())
    return any(_is_folder(e) for e in entries) and not any(e.suffix.lower() in other_kinds for e in entries)


def image_parts(spec: DataSpec, base: Path) -> dict[int, ImageFiles]:
    """The images of each part that has a folder of its own, by the part's number.

    Raises:
        DataError: no image, an empty class, or files that are no images; names all of them.
        UsageError: the options contradict the folders.
    """
    root = base / Path(spec.source).expanduser()
    folders = {entry.name: entry for entry in sorted(root.iterdir()) if _is_folder(entry)}
    parts = {TRAIN: (spec.source, root)}
    if "train" in folders and folders.keys() <= _PARTS.keys():
        parts = {_PARTS[name]: (f"{spec.source}/{name}", folder) for name, folder in folders.items()}
    if spec.test is not None:
        parts[TEST] = (spec.test, base / Path(spec.test).expanduser())
    if TEST in parts and spec.test_fraction:
        raise UsageError(f"data: {spec.source}: test_fraction: there is a folder of images to test on")
    if VALIDATION in parts and TEST not in parts and not spec.test_fraction:
        parts[TEST] = parts.pop(VALIDATION)
    if VALIDATION in parts and spec.validation_fraction:
        raise UsageError(f"data: {spec.source}: validation_fraction: there is a folder of images for it")
    given = spec.classes if isinstance(spec.classes, tuple) else None
    train = _listed(*parts[TRAIN], given, spec.limit)
    limits = {TEST: spec.test_limit}
    others = {part: _listed(*parts[part], train.classes, limits.get(part)) for part in parts if part != TRAIN}
    return {TRAIN: train, **others}


def pillow_version() -> str:
    """The version of Pillow, on which the bytes of a decoded JPEG depend."""
    try:
        import PIL
    except ImportError as error:
        raise needed_by("a folder of images", error) from None
    return f"Pillow {PIL.__version__}"


def build_images(spec: DataSpec, parts: dict[int, ImageFiles], folder: Path, progress: Progress) -> list[str]:
    """Writes the parts below a folder, those that have examples; returns what to tell.

    Raises:
        DataError: images cannot be read or are of different sizes; names all of them.
        StorageError: the disk is full.
    """
    train = parts[TRAIN]
    channels = spec.channels or CHANNELS
    size = spec.size or _first_size(train)
    if size[0] * size[1] * channels > MAX_ROW_BYTES:
        raise DataError(train.source, None, f"expected images of at most {MAX_ROW_BYTES} bytes, got {size}: set `size`")
    sources = {part: _source(spec, images, size, channels) for part, images in parts.items()}
    named = msgspec.structs.replace(spec, classes=train.classes)
    info = {"image": {"size": list(size), "channels": channels, "decoder": pillow_version()}}
    others = {part: source for part, source in sources.items() if part != TRAIN}
    notes = build_arrays(named, sources[TRAIN], others, folder, progress, info)
    counts = np.bincount([code for _, code in train.files])
    if counts.max() > 10 * counts.min():
        rare, often = train.classes[int(counts.argmin())], train.classes[int(counts.argmax())]
        notes.append(f"classes of unequal size: {counts.min():,} images of {rare!r}, {counts.max():,} of {often!r}")
    return notes


def _listed(source: str, root: Path, classes: tuple[str, ...] | None, limit: int | None) -> ImageFiles:
    """The images below a folder; a folder of a class that is not among those given is a fault."""
    if not root.is_dir():
        raise DataError(source, None, "expected a folder with one sub-folder a class")
    found = {entry.name: entry for entry in sorted(root.iterdir()) if _is_folder(entry)}
    names = classes if classes is not None else tuple(found)
    faults, of_class = Faults(source, numbered=False), []
    for name in sorted(found.keys() - set(names)):
        faults.add(0, f"{name}: no such class: expected one of {', '.join(names[:10])}")
    for name in names:
        files = [e for e in sorted(found[name].rglob("*")) if e.is_file() and _is_wanted(e)] if name in found else []
        others = [entry for entry in files if entry.suffix.lower() not in SUFFIXES]
        for entry in others:
            faults.add(0, f"{entry.relative_to(root)}: expected an image ({', '.join(sorted(SUFFIXES))})")
        if not files and (classes is None or name in found):
            faults.add(0, f"{name}: expected at least one image, got none")
        of_class.append([str(entry.relative_to(root)) for entry in files])
    if len(names) < 2:
        faults.add(0, f"expected at least two classes (sub-folders), got {len(names)}")
    faults.check()
    turns = itertools.zip_longest(*([(file, code) for file in files] for code, files in enumerate(of_class)))
    images = [image for turn in turns for image in turn if image is not None]
    if not images:
        raise DataError(source, None, "expected at least one image, got none")
    return ImageFiles(source, root, names, images[:limit])


def _is_folder(entry: Path) -> bool:
    return entry.is_dir() and entry.name[0] not in "._"


def _is_wanted(entry: Path) -> bool:
    return entry.name[0] not in "._" and entry.name.lower() not in _CLUTTER


def _first_size(images: ImageFiles) -> tuple[int, int]:
    """Height and width of the first image that can be opened."""
    faults = Faults(images.source, numbered=False)
    from PIL import Image

    for name, _ in images.files:
        try:
            with Image.open(images.root / name) as image:
                return image.height, image.width
        except (*_BROKEN, Image.DecompressionBombError) as error:
            faults.add(0, f"{name}: not a readable image: {error}")
    faults.check()
    raise AssertionError("a part without images")


def _source(spec: DataSpec, images: ImageFiles, size: tuple[int, int], channels: int) -> ArraySource:
    """The images as examples."""
    labels = np.array([code for _, code in images.files], np.int64)

    def start() -> IO[bytes]:
        return cast(IO[bytes], _Decoder(images, size, channels, resize=spec.size is not None))

    pixels = Stream(images.source, "image", np.dtype("u1"), (channels, *size), len(labels), start)
    label = memory_stream(images.source, "label", labels)
    return ArraySource([pixels], label, scale=spec.scale or 1 / 255, classes=len(images.classes))


def images_below(source: str, root: Path, size: tuple[int, int], channels: int) -> tuple[list[str], Stream]:
    """All images below a folder, whatever their folders are called: their paths, and their pixels as examples.

    Args:
        source: the folder, as the user gave it.
        root: where it is.
        size: height and width to which each is resized.
        channels: of each.

    Raises:
        DataError: there are none.
    """
    entries = [e for e in sorted(root.rglob("*")) if e.is_file() and _is_wanted(e) and e.suffix.lower() in SUFFIXES]
    names = [str(entry.relative_to(root)) for entry in entries]
    if not names:
        raise DataError(source, None, f"expected images ({', '.join(sorted(SUFFIXES))}), got none")
    images = ImageFiles(source, root, (), [(name, 0) for name in names])

    def start() -> IO[bytes]:
        return cast(IO[bytes], _Decoder(images, size, channels, resize=True))

    return names, Stream(source, "image", np.dtype("u1"), (channels, *size), len(names), start)


class _Decoder(io.RawIOBase):
    """The bytes of all images one after another; the faults of all are raised once the last was tried.

    Args:
        images: which.
        size: height and width of each.
        channels: of each, a key of `MODES`.
        resize: whether images of another size are resized to it, and not refused.
    """

    def __init__(self, images: ImageFiles, size: tuple[int, int], channels: int, resize: bool) -> None:
        self._images, self._size, self._channels, self._resize = images, size, channels, resize
        self._faults = Faults(images.source, numbered=False)
        self._next = 0

    def read(self, size: int = -1) -> bytes:
        """The next whole images, as many as fit."""
        count = size // (self._size[0] * self._size[1] * self._channels)
        parts = [self._pixels(name).tobytes() for name, _ in self._images.files[self._next : self._next + count]]
        self._next += count
        if self._next >= len(self._images.files):
            self._faults.check()
        return b"".join(parts)

    def _pixels(self, name: str) -> npt.NDArray[Any]:
        """The pixels of an image, uint8[channels, height, width]; zeros in the place of one that has a fault."""
        from PIL import Image

        height, width = self._size
        try:
            with Image.open(self._images.root / name) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"expected 8 bits a channel, got pixels of mode {image.mode}")
                if not self._resize and (image.height, image.width) != self._size:
                    self._faults.add(
                        self._next, f"{name}: expected {height} x {width}, got {image.height} x {image.width}"
                    )
                    self._faults.hint(f"size = [{height}, {width}] resizes images of other sizes")
                    return np.zeros((self._channels, height, width), np.uint8)
                pixels = image.convert(MODES[self._channels])
                if self._resize and (image.height, image.width) != self._size:
                    pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
                return np.asarray(pixels).reshape(height, width, self._channels).transpose(2, 0, 1)
        except (*_BROKEN, Image.DecompressionBombError) as error:
            self._faults.add(self._next, f"{name}: not a readable image: {_reason(error)}")
            return np.zeros((self._channels, height, width), np.uint8)


def _reason(error: BaseException) -> str:
    """What Pillow says, without the place of the file on this machine."""
    return "no image format that Pillow knows" if "cannot identify" in str(error) else str(error)
