"""A run's entries and tree heads in SQL: append-only, one transaction a round, durable when it returns.

SQLite by default (write-ahead log, full synchronisation), a file a run; PostgreSQL by URL, any number of runs in a
database. The code is the same: where runs share tables, each statement is about the rows of one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa

from podlt.canonical import MAX_RECORD
from podlt.crypto import digest
from podlt.errors import InvalidProofError, StorageError
from podlt.log.merkle import leaf_hash
from podlt.log.tree_head import MAX_NOTE
from podlt.store import schema
from podlt.store.address import parse, run_name, shown
from podlt.store.connection import open_engine, storage_errors
from podlt.store.tables import tables_of

T = TypeVar("T")
Row = tuple[int, bytes, bytes]

FORMAT = 1
PAGE = 512
PAGE_BYTES = 32 * 2**20
LOCK_SECONDS = 5
"""How long a writer waits for the one before it, whose connection the server may not have found dead yet."""


class LogStore:
    """The entries of one run.

    Args:
        url: of an SQLite file, or `postgresql://USER@HOST/DATABASE?podlt_run=NAME`.
        create: whether to make what is missing.
        readonly: whether to leave the database as it is (an SQLite file: to the last byte).

    Raises:
        StorageError: the database cannot be opened.
        InvalidProofError: it is no log of this format.
        UsageError: the URL is none, or the database's tables are of another version.
    """

    def __init__(self, url: str, *, create: bool = False, readonly: bool = False) -> None:
        address = parse(url)
        self.name = shown(address)
        self._engine = open_engine(address, readonly=readonly)
        self._tables = tables_of(self._engine.dialect.name)
        self._shared = self._engine.dialect.name == "postgresql"
        self._row = {"run": run_name(address)} if self._shared else {}
        self._holder: object = None
        try:
            with storage_errors(self.name):
                self._check_schema(create=create)
                self._connection = self._engine.connect()
                self._check_format(create=create)
        except BaseException:
            self._engine.dispose()
            raise

    @classmethod
    def at(cls, path: Path, *, create: bool = False, readonly: bool = False) -> LogStore:
        """The log in an SQLite file.

        Raises:
            StorageError: the file is missing, and `create` is false.
        """
        if not create and not path.is_file():
            raise StorageError(f"{path}: no such log")
        if not readonly:
            return cls(f"sqlite:///{path}", create=create)
        place = quote(str(path.absolute()))
        try:
            return cls(f"sqlite:///file:{place}?mode=ro&uri=true", readonly=True)
        except StorageError:
            if path.with_name(path.name + "-wal").exists():
                raise
            # Where nothing may be written to its folder (a mounted image), SQLite reads a log that nobody writes so.
            return cls(f"sqlite:///file:{place}?mode=ro&immutable=1&uri=true", readonly=True)

    # -- writing -----------------------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Keeps every other writer out until `close`: those of a run in PostgreSQL, wherever they are.

        An SQLite file has no such lock of its own (the run's directory has): who comes second there is refused by the
        number of its first entry. Done by the first `append`, if not before.

        Raises:
            StorageError: somebody else writes to the run.
        """
        with storage_errors(self.name), self._connection.begin():
            self._hold()

    def append(self, first: int, bodies: Sequence[bytes], note: str) -> None:
        """Writes entries `first`, `first + 1`, ... (at least one) and the head over all, whole or not at all.

        Raises:
            StorageError: they could not be written (a full disk, another writer, a lost connection); nothing of them is
                there then, unless the connection was lost while the database was about to confirm.
        """
        assert bodies, "no entries to write"
        rows = [{"number": first + i, "leaf": leaf_hash(body), "body": body} for i, body in enumerate(bodies)]
        with storage_errors(self.name), self._connection.begin():
            self._hold()
            self._require_next(first)
            self._insert(self._tables.entries, rows)
            self._insert(self._tables.heads, [{"size": first + len(rows), "note": note}])

    def fill(self, rows: Iterable[Row], heads: Iterable[tuple[int, str]]) -> None:
        """Writes a whole log into this empty one as it is, in one transaction: a copy.

        Raises:
            StorageError: this one is not empty, or the same run is in the database already.
        """
        with storage_errors(self.name), self._connection.begin():
            self._hold()
            self._require_next(0)
            page: list[dict[str, Any]] = []
            size = 0
            for number, leaf, body in rows:
                page.append({"number": number, "leaf": leaf, "body": body})
                size += len(body)
                if len(page) == PAGE or size > PAGE_BYTES:
                    self._insert(self._tables.entries, page)
                    page, size = [], 0
            self._insert(self._tables.entries, page)
            self._insert(self._tables.heads, [{"size": size, "note": note} for size, note in heads])

    def _insert(self, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        if rows:
            self._connection.execute(table.insert(), [{**self._row, **row} for row in rows])

    def _require_next(self, first: int) -> None:
        number = self._tables.entries.c.number
        last = self._connection.execute(self._mine(sa.select(sa.func.max(number)))).scalar()
        following = 0 if last is None else last + 1 if isinstance(last, int) else last
        if following != first:
            raise StorageError(
                f"{self.name}: another manager wrote here: expected entry {first} to be the next, got {following!r}"
            )

    def _hold(self) -> None:
        """Keeps a second writer out for as long as this connection lives; anew if it is another one."""
        driver = self._connection.connection.dbapi_connection
        if not self._shared or driver is self._holder:
            return
        key = int.from_bytes(digest("store/1", self._row["run"].encode())[:8], "big", signed=True)
        self._connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        self._connection.execute(sa.select(sa.func.pg_advisory_lock(key)))
        self._holder = driver

    # -- reading -----------------------------------------------------------------------------------------------------

    def entries(self, first: int = 0) -> Iterator[Row]:
        """Number, leaf hash and bytes of each entry from `first` on, in order of number.

        Raises:
            InvalidProofError: a row is not what this format writes.
            StorageError: the database cannot be read.
        """
        # Taken as the database holds them: a hostile file may hold a number where bytes belong, and `bytes(number)`
        # takes that much memory.
        c = self._tables.entries.c
        rows = sa.select(c.number, _untyped(c.leaf), _untyped(c.body)).order_by(c.number)
        while True:
            with self._reading():
                last = self._page_end(first)
                found = self._connection.execute(self._mine(rows.where(c.number.between(first, last)))).all()
            if not found:
                return
            for number, leaf, body in found:
                yield _expect(number, int), _expect(leaf, bytes), _expect(body, bytes)
            first = last + 1

    def heads(self, above: int = 0, most: int | None = None) -> list[tuple[int, str]]:
        """Size and signed note of every tree head over more than so many entries, ascending by size.

        Args:
            most: how many of them; all by default.

        Raises:
            InvalidProofError: a row is not what this format writes.
            StorageError: the database cannot be read.
        """
        c = self._tables.heads.c
        with self._reading():
            longest = self._connection.execute(self._mine(sa.select(sa.func.max(sa.func.length(c.note))))).scalar()
            if longest is not None and longest > MAX_NOTE:
                raise InvalidProofError("a tree head is too long", expected=MAX_NOTE, actual=longest)
            wanted = sa.select(c.size, _untyped(c.note)).order_by(c.size).limit(most)
            wanted = wanted.where(c.size > above) if above else wanted
            rows = self._connection.execute(self._mine(wanted)).all()
        return [(_expect(size, int), _expect(note, str)) for size, note in rows]

    def size(self) -> int:
        """How many entries the last tree head is over; 0 if there is none.

        Raises:
            InvalidProofError: a row is not what this format writes.
            StorageError: the database cannot be read.
        """
        with self._reading():
            last = self._connection.execute(self._mine(sa.select(sa.func.max(self._tables.heads.c.size)))).scalar()
        return 0 if last is None else _expect(last, int)

    def snapshot(self, path: Path) -> None:
        """Copies the log as it is at some moment, whole rounds only, to a new SQLite file; writers go on meanwhile.

        Raises:
            StorageError: it cannot be read or written.
            InvalidProofError: a row is not what this format writes.
        """
        if self._shared:
            # Rows are only ever added: what is there up to a head that was read first is one moment's log.
            heads = self.heads()
            size = heads[-1][0] if heads else 0
            with closing(LogStore.at(path, create=True)) as copy:
                copy.fill((row for row in self.entries() if row[0] < size), heads)
        else:
            with storage_errors(self.name):
                driver: Any = self._connection.connection.driver_connection
            with _sqlite_errors(self.name), closing(sqlite3.connect(path)) as file:
                driver.backup(file)
        # One file, without the two files of a write-ahead log.
        with _sqlite_errors(str(path)), closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA journal_mode=DELETE")

    def _page_end(self, first: int) -> int:
        """The last number of the next page: at most PAGE entries, and PAGE_BYTES unless one entry is longer."""
        c = self._tables.entries.c
        sizes = sa.select(c.number, sa.func.length(_untyped(c.body))).where(first <= c.number)
        total, last = 0, first - 1
        for number, size in self._connection.execute(self._mine(sizes.order_by(c.number).limit(PAGE))):
            if _expect(size, int) > MAX_RECORD:
                raise InvalidProofError(f"entry {number} of {size} bytes is longer than {MAX_RECORD}")
            total += size
            if total > PAGE_BYTES and last >= first:
                break
            last = _expect(number, int)
        return last

    def _mine(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        """The statement, about this run's rows only."""
        if not self._shared:
            return statement
        return statement.where(statement.get_final_froms()[0].c.run == self._row["run"])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with storage_errors(self.name), self._connection.begin():
            yield

    # -- opening and closing -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Closes the database."""
        self._connection.close()
        self._engine.dispose()

    def _check_schema(self, *, create: bool) -> None:
        with self._engine.begin() as connection:
            if create and not schema.is_whole(connection):
                schema.create(connection)
            schema.require_current(schema.version_of(connection, self.name), self.name)

    def _check_format(self, *, create: bool) -> None:
        meta = self._tables.meta
        with self._connection.begin():
            formats = self._connection.execute(self._mine(sa.select(meta.c.format))).scalars().all()
            if create and not formats:
                self._insert(meta, [{"format": FORMAT}])
                formats = [FORMAT]
        if self._shared and not formats:
            raise StorageError(f"{self.name}: no log of this run")
        if formats != [FORMAT]:
            raise InvalidProofError("log of another format", expected=FORMAT, actual=formats)


def _untyped(column: sa.Column[Any]) -> sa.TypeCoerce[Any]:
    return sa.type_coerce(column, sa.types.NULLTYPE)


def _expect(value: object, kind: type[T]) -> T:
    """The value, if it is of the kind that this format writes."""
    if isinstance(value, memoryview):
        value = bytes(value)
    if not isinstance(value, kind):
        raise InvalidProofError("malformed row", expected=kind.__name__, actual=type(value).__name__)
    return value


@contextmanager
def _sqlite_errors(name: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"{name}: {error}") from None
