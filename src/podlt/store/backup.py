"""Copies of a run that others can go on with: of one moment, while the run goes on.

The log is copied first, then the files that it speaks of. Each of these was on the disk before the log said so, and is
never changed, only deleted when newer checkpoints have taken its place; then the copy begins anew.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from podlt.canonical import from_json, to_json
from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.log.merkle import Tree, leaf_hash
from podlt.log.tree_head import open_head, origin_of
from podlt.protocol import entries as e
from podlt.store.address import for_new_run
from podlt.store.archive import ArchiveWriter, Manifest, is_plain, unpack
from podlt.store.files import read_whole, sync_folder, write_whole
from podlt.store.log_store import LogStore
from podlt.store.room import is_full, no_room, require_room
from podlt.store.run_json import MAX_BYTES
from podlt.store.run_log import has_log, open_run_log
from podlt.store.run_names import (
    AGGREGATES,
    BLOBS,
    CHECKPOINTS,
    LOCK,
    LOG,
    MANAGER_KEY,
    PROGRAM,
    RECIPE,
    RUN,
    UPDATES,
    checkpoint,
    update,
)

ATTEMPTS = 5
NEEDED = (LOG, RUN, RECIPE, PROGRAM, MANAGER_KEY)
"""Without these nobody can go on with a run."""

_HISTORY = {CHECKPOINTS: ".safetensors", UPDATES: ".bin", AGGREGATES: ".bin"}
_ON_THE_WAY = BLOBS
"""A folder of what workers fetch and bring in the round in progress, which begins anew."""

_LOG_OVERHEAD = 2**17
"""Bytes that SQLite may need beside a log, to read it as well: an index of what is written, and that itself."""

_PASSING = (".part", ".lock", ".pid", ".log")
"""Files by which processes of now know each other, and what they say."""


class Backup(msgspec.Struct, frozen=True):
    """What went into an archive.

    Attributes:
        path: where it is.
        size: in bytes.
        left_out: what is no plain file with a plain name.
    """

    path: Path
    size: int
    manifest: Manifest
    left_out: list[str]


class _Content(msgspec.Struct, frozen=True):
    """What a log says: whose it is, and which rounds trained, in order."""

    run: bytes
    entries: int
    rounds: list[int]


class _Gone(Exception):
    """A file that the copy of the log needs was deleted meanwhile."""


def backup(run: Path, target: Path, *, history: bool = False) -> Backup:
    """Copies a run that may go on meanwhile into one file, which only its owner can read: it holds the run's keys.

    Args:
        run: its directory.
        target: a new file.
        history: whether to take all checkpoints, updates and aggregates that are kept (which `podlt audit` needs) and
            not only those from which the run can go on.

    Raises:
        UsageError: there is no run, or there is a file already.
        InvalidProofError: the log is damaged.
        StorageError: a file is missing, cannot be read, or the disk is full.
    """
    if not (run / RECIPE).is_file() or not has_log(run):
        raise UsageError(f"{run}: no run here (expected a directory that `podlt train` made)")
    _require_new(target)
    for left in reversed(range(ATTEMPTS)):
        try:
            return _attempt(run, target, history)
        except _Gone as error:
            if not left:
                raise StorageError(
                    f"{error}: missing, or deleted by the run while it was copied: run the backup again"
                ) from None
        except OSError as error:
            if is_full(error):
                raise no_room(target, _least(run)) from None
            source = error.filename and Path(error.filename).is_relative_to(run)
            raise StorageError(f"{error.filename if source else target}: {error.strerror or error}") from None
    raise AssertionError


def _least(run: Path) -> int:
    """How many bytes a backup takes at least while it is made: the log twice, where that is a file."""
    return 2 * _size(run / LOG)


def _size(path: Path) -> int:
    """In bytes; 0 if it is not there, or not any more."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _attempt(run: Path, target: Path, history: bool) -> Backup:
    require_room(target, _least(run))
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
        log, whole = Path(folder) / LOG, Path(folder) / "whole"
        _copy_log(run, log, target)
        content = _read(log)
        chosen = list(_chosen(run, content.rounds, history))
        require_room(target, sum(_size(path) for path in (log, *chosen)))
        left_out: list[str] = []
        with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            archive = ArchiveWriter(file)
            archive.add(LOG, log)
            for path in chosen:
                name = path.relative_to(run).as_posix()
                if not is_plain(name) or path.is_symlink() or (path.exists() and not path.is_file()):
                    left_out.append(name)
                    continue
                try:
                    archive.add(name, path)
                except FileNotFoundError:
                    raise _Gone(str(path)) from None
            _require(run, archive)
            manifest = archive.finish(content.run, content.entries, len(content.rounds))
            file.flush()
            os.fsync(file.fileno())
        _require_new(target)
        os.replace(whole, target)
        sync_folder(target.parent)
        return Backup(target, target.stat().st_size, manifest, left_out)


def _copy_log(run: Path, log: Path, target: Path) -> None:
    """Copies the log of now.

    Raises:
        StorageError: it cannot be read or written. SQLite says of a full disk also that it could not read, or open.
    """
    try:
        with closing(open_run_log(run, readonly=True)) as store:
            store.snapshot(log)
    except StorageError:
        for place, size in ((target, _least(run) + _LOG_OVERHEAD), (run / LOG, _LOG_OVERHEAD)):
            require_room(place, size)
        raise
    log.chmod(0o644)


def _require_new(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target}: the file exists: choose another name (a backup overwrites nothing)")


def _require(run: Path, archive: ArchiveWriter) -> None:
    if missing := set(NEEDED) - {member.path for member in archive.members}:
        raise StorageError(f"{run}: missing {', '.join(sorted(missing))}: the run could not be resumed from this copy")


def _read(log: Path) -> _Content:
    """Reads a copy of a log.

    Raises:
        InvalidProofError: it is not one that a manager wrote: there is no sense in keeping it.
    """
    tree, rounds, begin = Tree(), [], None
    with closing(LogStore.at(log, readonly=True)) as store:
        for number, leaf, body in store.entries():
            if number != tree.size or leaf_hash(body) != leaf:
                raise InvalidProofError(
                    "the entry was changed after it was written, or one is missing", entry=tree.size
                )
            tree.append(leaf)
            entry = e.decode(body)
            if isinstance(entry, e.Begin):
                begin = entry
            elif isinstance(entry, e.Apply):
                rounds.append(entry.round)
        heads = store.heads()
    if begin is None or not heads:
        raise UsageError("the run has not begun: nothing to back up yet")
    run = e.identity(begin)
    head = open_head(heads[-1][1], begin.manager, origin_of(run))
    if (head.size, head.root) != (tree.size, tree.root()):
        raise InvalidProofError("the last tree head is not over the entries", expected=head.size, actual=tree.size)
    return _Content(run, tree.size, rounds)


def _chosen(run: Path, rounds: list[int], history: bool) -> Iterator[Path]:
    """The files that belong to a run of so many rounds.

    Raises:
        _Gone: one that is needed is not there.
    """
    for folder, _, names in sorted(os.walk(run)):
        place = Path(folder).relative_to(run)
        if place.parts[:1] and place.parts[0] in (*_HISTORY, _ON_THE_WAY):
            continue
        for name in sorted(names):
            path = Path(folder) / name
            if not place.parts and name.startswith(LOG):
                continue  # a copy of the log is taken instead
            if name != LOCK and not name.endswith(_PASSING):
                yield path
    checkpoints, updates = run / CHECKPOINTS, run / UPDATES
    checkpoint_rounds = sorted(number for path in _numbered(checkpoints) if (number := int(path.stem)) <= len(rounds))
    if not checkpoint_rounds:
        raise _Gone(f"{checkpoints}: a checkpoint at or before round {len(rounds)}")
    if history:
        yield from (path for path in _numbered(checkpoints) if int(path.stem) <= len(rounds))
        past = set(rounds)
        present = {int(path.stem) for path in _numbered(updates)} & past
        yield from (path for path in _numbered(run / AGGREGATES) if int(path.stem) in past)
    else:
        yield from (run / checkpoint(number) for number in sorted({checkpoint_rounds[0], checkpoint_rounds[-1]}))
        present = set()
    yield from (run / update(number) for number in sorted(present | set(rounds[checkpoint_rounds[-1] :])))


def _numbered(folder: Path) -> list[Path]:
    """The whole files of a folder that are named by a number."""
    kind = _HISTORY[folder.name]
    return sorted(path for path in folder.glob(f"*{kind}") if path.stem.isascii() and path.stem.isdigit())


def restore(archive: Path, run: Path, *, store: str = "", base: Path | None = None) -> Manifest:
    """Makes a run's directory from a backup; whole, or not at all.

    The copy and the run that it was taken of must never both go on: that would be two logs of one run, and workers
    of a round that was done before know what will be compared.

    Args:
        archive: what `backup` wrote.
        run: a directory that is not there, or is empty.
        store: the address of a database for the log, which else lies in the directory.
        base: the folder from which the recipe's paths start.

    Raises:
        UsageError: there is something already, or this is no backup.
        StorageError: it was changed or cut off, files cannot be read or written, or the same run is in the database.
    """
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UsageError(f"{run}: not empty: choose a new directory (restoring overwrites nothing)")
    size = archive.stat().st_size if archive.is_file() else 0
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        require_room(run, size)
        with tempfile.TemporaryDirectory(prefix=f".{run.name}-", dir=run.parent) as folder:
            new = Path(folder) / "run"
            new.mkdir()
            manifest = unpack(archive, new)
            _check(archive, new, manifest)
            for name in _HISTORY:
                (new / name).mkdir(exist_ok=True)
            _settle(new, store, base)
            for place, _, _ in os.walk(new):
                sync_folder(Path(place))
            os.rename(new, run)
            sync_folder(run.parent)
    except OSError as error:
        if is_full(error):
            raise no_room(run, size) from None
        raise StorageError(f"{run}: cannot be made: {error.strerror or error}") from None
    return manifest


def _check(archive: Path, run: Path, manifest: Manifest) -> None:
    """Raises: StorageError: the log in it is not the one that the manifest speaks of."""
    missing = [name for name in NEEDED if not (run / name).is_file()]
    if missing:
        raise StorageError(f"{archive}: missing {', '.join(missing)}: the run could not be resumed")
    content = _read(run / LOG)
    found = content.run.hex(), content.entries, len(content.rounds)
    if found != (manifest.run, manifest.entries, manifest.rounds):
        raise StorageError(f"{archive}: the log is not that of its manifest")


def _settle(run: Path, store: str, base: Path | None) -> None:
    """Writes the settings anew, and moves the log into a database if there is one for it."""
    try:
        document = from_json(read_whole(run / RUN, MAX_BYTES))
    except InvalidProofError as error:
        raise StorageError(f"{RUN}: {error.reason}") from None
    settings = document.get("settings") if isinstance(document, dict) else None
    if not isinstance(settings, dict):
        raise StorageError(f"{RUN}: malformed")
    settings.pop("store", None)
    if base is not None:
        settings["base"] = str(base.absolute())
    if store:
        settings["store"] = for_new_run(store)
        with (
            closing(LogStore.at(run / LOG, readonly=True)) as source,
            closing(LogStore(settings["store"], create=True)) as target,
        ):
            target.fill(source.entries(), source.heads())
        for path in run.glob(f"{LOG}*"):
            path.unlink()
    write_whole(run / RUN, to_json(document))
