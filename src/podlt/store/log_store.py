"""A run's entries and tree heads in SQL: append-only, one transaction a round, durable when it returns.

SQLite by default (write-ahead log, full synchronisation), any database that SQLAlchemy knows by URL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from podlt.errors import InvalidProofError, StorageError
from podlt.log.merkle import leaf_hash

FORMAT = 1
PAGE = 512

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


class LogStore:
    """The entries of one run.

    Args:
        url: a SQLAlchemy URL; create: whether to make the tables if they are missing.

    Raises:
        StorageError: the database cannot be opened; InvalidProofError: it is no log of this format.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        self._engine = sa.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _configure_sqlite)
        with _storage_errors(url):
            if create:
                metadata.create_all(self._engine)
            elif not sa.inspect(self._engine).has_table("entries"):
                raise InvalidProofError("the database holds no log")
            self._connection = self._engine.connect()
            self._check_format(create=create)
        self._url = url

    @classmethod
    def at(cls, path: Path, *, create: bool = False) -> LogStore:
        """The log in an SQLite file.

        Raises:
            StorageError: the file is missing, and `create` is false.
        """
        if not create and not path.is_file():
            raise StorageError(f"{path}: no log here")
        return cls(f"sqlite:///{path}", create=create)

    def append(self, first: int, bodies: Sequence[bytes], note: str) -> None:
        """Writes entries `first`, `first + 1`, ... and the head over all of them, whole or not at all.

        Raises:
            StorageError: they could not be written (a full disk); nothing of them is there then.
        """
        rows = [{"number": first + i, "leaf": leaf_hash(body), "body": body} for i, body in enumerate(bodies)]
        with _storage_errors(self._url), self._connection.begin():
            self._connection.execute(entries_table.insert(), rows)
            self._connection.execute(heads_table.insert(), {"size": first + len(rows), "note": note})

    def entries(self, first: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        """Number, leaf hash and bytes of each entry from `first` on, in order of number."""
        while True:
            query = sa.select(entries_table).where(entries_table.c.number >= first)
            with _storage_errors(self._url), self._connection.begin():
                rows = self._connection.execute(query.order_by(entries_table.c.number).limit(PAGE)).all()
            for row in rows:
                yield int(row.number), bytes(row.leaf), bytes(row.body)
            if len(rows) < PAGE:
                return
            first = int(rows[-1].number) + 1

    def heads(self) -> list[tuple[int, str]]:
        """Size and signed note of every tree head, ascending by size."""
        with _storage_errors(self._url), self._connection.begin():
            rows = self._connection.execute(sa.select(heads_table).order_by(heads_table.c.size)).all()
        return [(int(row.size), str(row.note)) for row in rows]

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
