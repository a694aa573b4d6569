"""Which files a source's name stands for: one file, a folder of files of one form, or a pattern such as parts/*.csv."""

from __future__ import annotations

import glob
from pathlib import Path

from podlt.errors import DataError, UsageError

Files = list[tuple[str, Path]]
"""The files of a source, each with the name that errors give it."""


def is_source(path: Path) -> bool:
    """Whether there is something that a source's name may stand for."""
    return path.exists() or bool(_matching(path))


def files_of(name: str, base: Path) -> Files:
    """The files that a source's name stands for, in the order of their names.

    Args:
        name: as the user gave it.
        base: the folder that relative paths start from.

    Raises:
        DataError: there is no such file, or one is empty.
        UsageError: the files are of several forms.
    """
    path = base / Path(name).expanduser()
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if entry.is_file() and entry.name[0] not in "._")
        if not found:
            raise DataError(name, None, "expected files in this folder, got none")
    else:
        found = [path] if path.is_file() else _matching(path)
    if not found:
        raise DataError(name, None, "no such file")
    forms = sorted({entry.suffix.lower() for entry in found})
    if len(forms) > 1:
        raise UsageError(f"data: {name}: expected files of one form, got {', '.join(forms)}")
    files = [(name if entry == path else _shown(name, entry, path), entry) for entry in found]
    empty = next((shown for shown, entry in files if entry.stat().st_size == 0), None)
    if empty is not None:
        raise DataError(empty, None, "expected at least one example, got an empty file")
    return files


def _shown(name: str, entry: Path, path: Path) -> str:
    """A file's name for errors: that of the folder or pattern, and its own."""
    folder = Path(name) if path.is_dir() else Path(name).parent
    return str(folder / entry.name)


def _matching(path: Path) -> list[Path]:
    """The files that a pattern fits; a path without the marks of one fits itself only."""
    if not glob.has_magic(str(path)):
        return []
    return sorted(Path(found) for found in glob.glob(str(path), recursive=True) if Path(found).is_file())
