"""Where the same bits were seen: a table in Markdown that grows by one row for each machine that says what it computes.

A row holds what a `Sighting` says, in the order of its fields. Whoever sends one may be a stranger: a row is text that
is checked field by field, and a row that claims to pass must name a digest that is known.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import msgspec

from podlt.errors import UsageError

PASS, FAIL = "PASS", "FAIL: "
NONE = "-"
MAX_CELL = 400
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BARRED = r"|<>\[\]`"  # ends a cell, or makes Markdown of what a stranger wrote
_TEXT = re.compile(rf"(?:(?![{_BARRED}])[\x20-\x7e])+")


class Sighting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one machine computed; every field is a cell of plain printable ASCII.

    Attributes:
        date: of the run, UTC, such as 2026-01-31.
        processor: of the machine, or its GPU.
        instructions: which instruction sets the libraries use.
        threads: of torch.
        system: operating system, architecture and C library.
        python: its version, and so the next three.
        numpy: ditto.
        torch: ditto.
        numba: ditto.
        podlt: ditto.
        device: cpu, portable, cuda or cuda:N.
        settings: environment variables that choose kernels, or "-".
        note: what the machine cannot know, such as "emulated by qemu 7.2", or "-".
        digest: of all golden vectors as it computes them, hex.
        result: "PASS", or "FAIL: " and the names of the cases that differ.
    """

    date: str
    processor: str
    instructions: str
    threads: str
    system: str
    python: str
    numpy: str
    torch: str
    numba: str
    podlt: str
    device: str
    settings: str
    note: str
    digest: str
    result: str

    def row(self) -> str:
        """A row of the table."""
        return f"| {' | '.join(self.cells())} |"

    def cells(self) -> tuple[str, ...]:
        """The fields in their order."""
        return msgspec.structs.astuple(self)


FIELDS = Sighting.__struct_fields__
HEAD = f"| {' | '.join(FIELDS)} |"
RULE = "|" + "---|" * len(FIELDS)


def cell(text: str) -> str:
    """Any text as one that may stand in a cell."""
    saved = re.sub(rf"[^\x20-\x7e]+|[{_BARRED}]", " ", text).strip()
    return saved[:MAX_CELL] or NONE


def read_sighting(line: str) -> Sighting:
    """A row of the table, or a JSON document with the same fields.

    Raises:
        UsageError: it is neither, or a field is malformed.
    """
    text = line.strip()
    if text.startswith("{"):
        try:
            found = msgspec.json.decode(text, type=Sighting)
        except msgspec.MsgspecError as error:
            raise UsageError(f"conformance line: malformed JSON: {error}") from None
    else:
        cells = [part.strip() for part in text.strip("|").split("|")]
        if not text.startswith("|") or len(cells) != len(FIELDS):
            expected = f"JSON, or a table row of {len(FIELDS)} cells"
            raise UsageError(f"conformance line: expected {expected}, got {len(cells)} in {line!r:.80}")
        found = Sighting(*cells)
    _check(found)
    return found


def _check(found: Sighting) -> None:
    for name, value in zip(FIELDS, found.cells(), strict=True):
        if not _TEXT.fullmatch(value) or value != value.strip() or len(value) > MAX_CELL:
            expected = f"1 to {MAX_CELL} plain printable characters"
            raise UsageError(f"conformance line: {name}: expected {expected}, got {value!r:.80}")
    try:
        date.fromisoformat(found.date)
    except ValueError:
        raise UsageError(f"conformance line: date: expected YYYY-MM-DD, got {found.date!r}") from None
    if not found.threads.isdecimal():
        raise UsageError(f"conformance line: threads: expected a number, got {found.threads!r}")
    if not _DIGEST.fullmatch(found.digest):
        raise UsageError(f"conformance line: digest: expected 64 hexadecimal digits, got {found.digest!r}")
    if found.result != PASS and not found.result.startswith(FAIL):
        raise UsageError(f"conformance line: result: expected {PASS!r} or '{FAIL}...', got {found.result!r:.80}")


def read_table(text: str) -> list[Sighting]:
    """The rows of the table in a document.

    Raises:
        UsageError: there is no such table, or one of its rows is malformed.
    """
    lines = text.splitlines()
    return [read_sighting(line) for line in lines[_first_row(lines) : _end(lines)]]


def append(path: Path, new: Sighting, golden: str) -> None:
    """Adds a row at the end of the table in a document.

    Args:
        path: of the document.
        new: the row.
        golden: the digest of this copy's golden vectors, hex.

    Raises:
        UsageError: the document has no table, or has the row already but for its date, or the row claims to pass with
            a digest that is neither `golden` nor one that a row of the table passed with.
    """
    text = path.read_text(encoding="utf-8")
    seen = read_table(text)
    for old in seen:
        if old.cells()[1:] == new.cells()[1:]:
            raise UsageError(f"{path}: has this line already, of {old.date}")
    if new.result == PASS and new.digest not in {golden, *(old.digest for old in seen if old.result == PASS)}:
        raise UsageError(
            f"{path}: the line claims to pass with digest {new.digest[:16]}...; expected that of this copy's golden "
            f"vectors, {golden[:16]}..., or one that the table has"
        )
    lines = text.splitlines()
    lines.insert(_end(lines), new.row())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _first_row(lines: list[str]) -> int:
    if HEAD not in lines[:-1] or lines[lines.index(HEAD) + 1] != RULE:
        raise UsageError(f"expected a document with the table that begins {HEAD[:60]!r}...")
    return lines.index(HEAD) + 2


def _end(lines: list[str]) -> int:
    end = _first_row(lines)
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    return end
