"""Where a run's data are: as its recipe names them, or wherever they have moved since.

A run's recipe names a file and no place of the machine; its settings say where the file was. What is found is taken
only if it has the digest of the log's first entry, so it may be looked for anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from podlt.data.arrays import Progress
from podlt.data.files import is_source
from podlt.data.named import NAMED
from podlt.data.prepare import Prepared, prepare
from podlt.data.spec import DataSpec
from podlt.errors import DataError, UsageError
from podlt.manager.directory import Settings
from podlt.recipe import Recipe

OPTION = "--data PATH"


def without_places(recipe: Recipe, settings: Settings) -> tuple[Recipe, Settings]:
    """A recipe that holds no path of this machine, and settings that hold them instead.

    Args:
        recipe: as the user wrote it: absolute paths, `~` and `..` may be in it.
        settings: of the new run.
    """
    data, changed = recipe.data, settings
    if data.source in NAMED:
        return recipe, settings
    if _is_place(data.source):
        changed = msgspec.structs.replace(changed, source=_absolute(data.source, settings.base))
        data = msgspec.structs.replace(data, source=Path(data.source).name)
    if data.test is not None and _is_place(data.test):
        changed = msgspec.structs.replace(changed, test=_absolute(data.test, settings.base))
        data = msgspec.structs.replace(data, test=Path(data.test).name)
    return msgspec.structs.replace(recipe, data=data), changed


def _is_place(name: str) -> bool:
    """Whether a name says more of the machine than where a file lies below some folder."""
    path = Path(name)
    return path.is_absolute() or name.startswith("~") or ".." in path.parts


def _absolute(name: str, base: str) -> str:
    return str((Path(base) / Path(name).expanduser()).resolve())


class DataFiles(msgspec.Struct, frozen=True):
    """The files of a recipe's data: the source, and the test file if it names one."""

    source: Path
    test: Path | None

    def prepared(self, spec: DataSpec, cache: Path | None, progress: Progress | None) -> Prepared:
        """The prepared examples. Errors as `prepare`."""
        test = str(self.test) if self.test is not None else None
        return prepare(msgspec.structs.replace(spec, source=str(self.source), test=test), cache, progress)


def at_path(spec: DataSpec, path: Path) -> DataFiles:
    """The data that the user says are at a path.

    Args:
        spec: of the run's recipe.
        path: a folder in which the recipe's names are looked up, or the source file itself.

    Raises:
        DataError: a file is not there.
    """
    if path.is_file():
        return DataFiles(path.absolute(), _test_file(spec, path.absolute()) if spec.test is not None else None)
    found = in_folder(spec, path.absolute())
    if found is None:
        names = spec.source if spec.test is None else f"{spec.source} and {spec.test}"
        raise DataError(str(path), None, f"expected {names} in it, or the source file itself")
    return found


def _test_file(spec: DataSpec, source: Path) -> Path:
    assert spec.test is not None
    found = next((p for p in (source.parent / spec.test, source.parent / Path(spec.test).name) if is_source(p)), None)
    if found is None:
        raise DataError(str(source), None, f"expected the test file {Path(spec.test).name} in the same folder")
    return found


def in_folder(spec: DataSpec, folder: Path) -> DataFiles | None:
    """The data below a folder, by the recipe's names or by the files' names alone; None if they are not there."""
    source, test = _below(folder, spec.source), _below(folder, spec.test) if spec.test is not None else None
    if source is None or (spec.test is not None and test is None):
        return None
    return DataFiles(source, test)


def _below(folder: Path, name: str) -> Path | None:
    path = Path(name).expanduser()
    return next((p for p in (folder / path, folder / path.name) if is_source(p)), None)


def folders_of(run: Path, settings: Settings) -> list[Path]:
    """Where a run's files may be, best first: where they were, here, and in the folders around the run."""
    found = [Path(settings.base)] if settings.base else []
    run = run.absolute()
    return list(dict.fromkeys([*found, Path.cwd(), *run.parents]))


def candidates(spec: DataSpec, settings: Settings, folders: Sequence[Path]) -> Iterator[DataFiles]:
    """Every place where the data are, best first."""
    seen: set[DataFiles | None] = {None}
    if settings.source:
        test = Path(settings.test) if settings.test else None
        if test is None and spec.test is not None:
            test = _below(Path(settings.base), spec.test)
        if is_source(Path(settings.source)) and (spec.test is None or (test is not None and is_source(test))):
            found = DataFiles(Path(settings.source), test)
            seen.add(found)
            yield found
    for folder in folders:
        below = in_folder(spec, folder)
        if below not in seen:
            seen.add(below)
            assert below is not None
            yield below


def find_for_resume(
    recipe: Recipe, settings: Settings, run: Path, cache: Path | None, progress: Progress | None, begun: bool
) -> tuple[Prepared, Settings]:
    """The data of a run of one's own, and settings that say where they are now.

    Args:
        recipe: the run's.
        settings: the run's.
        run: its directory.
        begun: whether the run has entries: then its folder may have moved, and its data are looked for around it.

    Raises:
        DataError: they are nowhere, or malformed.
        UsageError: as `prepare`.
        StorageError: as `prepare`.
    """
    spec = recipe.data
    if spec.source in NAMED:
        return prepare(spec, cache, progress), settings
    base = Path(settings.base)
    if not begun:  # says what is wrong in the user's own names
        test = settings.test or spec.test
        return prepare(
            msgspec.structs.replace(spec, source=settings.source or spec.source, test=test), cache, progress, base
        ), settings
    folders = folders_of(run, settings)
    files = next(candidates(spec, settings, folders), None)
    if files is None:
        raise DataError(spec.source, None, nowhere(settings, folders))
    if files.source.is_relative_to(base) and not settings.source:
        return files.prepared(spec, cache, progress), settings
    changed = msgspec.structs.replace(
        settings, source=str(files.source), test=str(files.test) if files.test is not None else ""
    )
    return files.prepared(spec, cache, progress), changed


def nowhere(settings: Settings, folders: Sequence[Path]) -> str:
    """Where data were looked for in vain, and what to do, for a person."""
    where = [settings.source] if settings.source else []
    where += [str(folder) for folder in folders if str(folder) != "/"]
    return f"no such file (looked in {', '.join(where)}); say where it is by {OPTION}"


def refuse_named(spec: DataSpec) -> None:
    """Refuses a place for data that podlt fetches itself.

    Raises:
        UsageError: the recipe's data are a named set.
    """
    if spec.source in NAMED:
        raise UsageError(f"{OPTION}: the run's data are the named set {spec.source}, which podlt has by itself")
