"""Puts a measured table where it is read: between two marks of a document, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from podlt.errors import UsageError
from podlt.store.files import write_whole


def write_between(path: Path, mark: str, lines: Sequence[str]) -> None:
    """Replaces what stands between `<!-- mark:begin -->` and `<!-- mark:end -->`, each on a line of its own.

    Raises:
        UsageError: the document does not have both marks, once each, in this order; nothing is written.
        StorageError: it could not be written.
    """
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    try:
        text = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    places = [number for number, line in enumerate(text) if line.strip() in (begin, end)]
    if [text[number].strip() for number in places] != [begin, end]:
        raise UsageError(f"{path}: expected the lines {begin} and {end}, once each")
    text[places[0] + 1 : places[1]] = lines
    write_whole(path, ("\n".join(text) + "\n").encode())
