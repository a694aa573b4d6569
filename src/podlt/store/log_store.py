"""A run's entries and tree heads in SQL: append-only, one transaction a round, durable when it returns.

SQLite by default (write-ahead log, full synchronisation), any database that SQLAlchemy knows by URL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from podlt.canonical import MAX_RECORD
from podlt.errors import InvalidProofError, StorageError
from podlt.log.checkpoint import MAX_NOTE
from podlt.log.merkle import leaf_hash

T = TypeVar("T")

FORMAT = 1
PAGE = 512
PAGE_BYTES = 32 * 2**20

metadata = sa.MetaData()
meta_table = sa.Table("meta", metadata, sa.Column("format", sa.Integer, nullable=False))
entries_table = sa.Table(
    "entries",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("leaf", sa.LargeBinary(32), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
heads_table = sa.Table(
    "heads",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("note", sa.Text, nullable=False),
)

# Taken as the database holds them: a hostile file may hold a number where bytes belong, and `bytes(number)` takes
# that much memory.
_NUMBER = entries_table.c.number
_BODY = sa.type_coerce(entries_table.c.body, sa.types.NULLTYPE)
_ROWS = sa.select(_NUMBER, sa.type_coerce(entries_table.c.leaf, sa.types.NULLTYPE), _BODY)
_HEADS = sa.select(heads_table.c.size, sa.type_coerce(heads_table.c.note, sa.types.NULLTYPE))


class LogStore:
    """The entries of one run.

    Args:
        url: a SQLAlchemy URL; create: whether to make the tables if they are missing; readonly: whether to leave the
            database as it is, to the last byte.

    Raises:
        StorageError: the database cannot be opened; InvalidProofError: it is no log of this format.
    """

    def __init__(self, url: str, *, create: bool = False, readonly: bool = False) -> None:
        self._engine = sa.create_engine(url)
        if self._engine.dialect.name == "sqlite" and not readonly:
            sa.event.listen(self._engine, "connect", _configure_sqlite)
        with _storage_errors(url):
            if create:
                metadata.create_all(self._engine)
            elif not {"meta", "entries", "heads"} <= set(sa.inspect(self._engine).get_table_names()):
                raise InvalidProofError("the database holds no log")
            self._connection = self._engine.connect()
            self._check_format(create=create)
        self._url = url

    @classmethod
    def at(cls, path: Path, *, create: bool = False, readonly: bool = False) -> LogStore:
        """The log in an SQLite file.

        Raises:
            StorageError: the file is missing, and `create` is false.
        """
        if not create and not path.is_file():
            raise StorageError(f"{path}: no log here")
        if not readonly:
            return cls(f"sqlite:///{path}", create=create)
        place = quote(str(path.absolute()))
        try:
            return cls(f"sqlite:///file:{place}?mode=ro&uri=true", readonly=True)
        except StorageError:
            if path.with_name(path.name + "-wal").exists():
                raise
            # Where nothing may be written beside it (a mounted image), SQLite reads a log that nobody writes so.
            return cls(f"sqlite:///file:{place}?mode=ro&immutable=1&uri=true", readonly=True)

    def append(self, first: int, bodies: Sequence[bytes], note: str) -> None:
        """Writes entries `first`, `first + 1`, ... (at least one) and the head over all, whole or not at all.

        Raises:
            StorageError: they could not be written (a full disk, another writer); nothing of them is there then.
        """
        assert bodies, "no entries to write"
        rows = [{"number": first + i, "leaf": leaf_hash(body), "body": body} for i, body in enumerate(bodies)]
        with _storage_errors(self._url), self._connection.begin():
            self._connection.execute(entries_table.insert(), rows)
            self._connection.execute(heads_table.insert(), {"size": first + len(rows), "note": note})

    def entries(self, first: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        """Number, leaf hash and bytes of each entry from `first` on, in order of number.

        Raises:
            InvalidProofError: a row is not what this format writes; StorageError: the database cannot be read.
        """
        while True:
            with _storage_errors(self._url), self._connection.begin():
                last = self._page_end(first)
                found = self._connection.execute(_ROWS.where(_NUMBER.between(first, last)).order_by(_NUMBER)).all()
            if not found:
                return
            for number, leaf, body in found:
                yield _expect(number, int), _expect(leaf, bytes), _expect(body, bytes)
            first = last + 1

    def heads(self) -> list[tuple[int, str]]:
        """Size and signed note of every tree head, ascending by size.

        Raises:
            InvalidProofError: a row is not what this format writes; StorageError: the database cannot be read.
        """
        with _storage_errors(self._url), self._connection.begin():
            longest = self._connection.execute(sa.select(sa.func.max(sa.func.length(heads_table.c.note)))).scalar()
            if longest is not None and longest > MAX_NOTE:
                raise InvalidProofError("a tree head is too long", expected=MAX_NOTE, actual=longest)
            rows = self._connection.execute(_HEADS.order_by(heads_table.c.size)).all()
        return [(_expect(size, int), _expect(note, str)) for size, note in rows]

    def _page_end(self, first: int) -> int:
        """The last number of the next page: at most PAGE entries, and PAGE_BYTES unless one entry is longer."""
        sizes = sa.select(_NUMBER, sa.func.length(_BODY)).where(first <= _NUMBER).order_by(_NUMBER).limit(PAGE)
        total, last = 0, first - 1
        for number, size in self._connection.execute(sizes):
            if _expect(size, int) > MAX_RECORD:
                raise InvalidProofError(f"entry {number} of {size} bytes is longer than {MAX_RECORD}")
            total += size
            if total > PAGE_BYTES and last >= first:
                break
            last = _expect(number, int)
        return last

    def close(self) -> None:
        """Closes the database."""
        self._connection.close()
        self._engine.dispose()

    def _check_format(self, *, create: bool) -> None:
        with self._connection.begin():
            formats = [row[0] for row in self._connection.execute(sa.select(meta_table)).all()]
            if create and not formats:
                self._connection.execute(meta_table.insert(), {"format": FORMAT})
                formats = [FORMAT]
        if formats != [FORMAT]:
            raise InvalidProofError("log of another format", expected=FORMAT, actual=formats)


def _expect(value: object, kind: type[T]) -> T:
    """The value, if it is of the kind that this format writes."""
    if isinstance(value, memoryview):
        value = bytes(value)
    if not isinstance(value, kind):
        raise InvalidProofError("malformed row", expected=kind.__name__, actual=type(value).__name__)
    return value


def _configure_sqlite(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


@contextmanager
def _storage_errors(url: str) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        if "malformed" in str(error.orig) or "not a database" in str(error.orig):
            raise InvalidProofError(f"{url}: the log is damaged: {error.orig}") from None
        raise StorageError(f"{url}: {error.orig}") from None
    except SQLAlchemyError as error:
        raise StorageError(f"{url}: {error}") from None
