"""What a witness remembers of each log: the last head that it cosigned, on the disk before it answers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from podlt.errors import StorageError

FILE = "witness.db"
_WAIT_SECONDS = 10.0
_MOST_CONFLICTS = 100
_TABLES = """
CREATE TABLE IF NOT EXISTS logs (
    origin TEXT PRIMARY KEY, key BLOB NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS conflicts (origin TEXT NOT NULL, note TEXT NOT NULL, at INTEGER NOT NULL);
"""


class SeenLog(msgspec.Struct, frozen=True):
    """A log that a witness knows.

    Attributes:
        origin: its name.
        key: that signs its heads, Ed25519.
        size: of the last head that was cosigned; 0 before the first.
        root: of that head.
        at: when, in seconds since 1970.
    """

    origin: str
    key: bytes
    size: int
    root: bytes
    at: int


class Conflict(msgspec.Struct, frozen=True):
    """A head that a log's key signed and that contradicts what was seen before: proof of two histories.

    Attributes:
        origin: the log's name.
        note: the head as it came.
        at: when, in seconds since 1970.
    """

    origin: str
    note: str
    at: int


class WitnessState:
    """The memory of one witness, an SQLite file: several threads and processes may use it.

    Args:
        folder: where the file is; made if it is missing.

    Raises:
        StorageError: it cannot be made or read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be made: {error.strerror or error}") from None
        with self._connection() as connection:
            connection.executescript(_TABLES)

    @contextmanager
    def change(self) -> Iterator[Change]:
        """A transaction that nobody else writes in meanwhile; it is on the disk when the context ends well.

        Raises:
            StorageError: it could not be written.
        """
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Change(connection)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def logs(self) -> list[SeenLog]:
        """All logs, by origin."""
        with self._connection() as connection:
            rows = connection.execute("SELECT origin, key, size, root, at FROM logs ORDER BY origin").fetchall()
        return [SeenLog(*row) for row in rows]

    def conflicts(self) -> list[Conflict]:
        """All conflicts, the oldest first."""
        with self._connection() as connection:
            rows = connection.execute("SELECT origin, note, at FROM conflicts ORDER BY at, rowid").fetchall()
        return [Conflict(*row) for row in rows]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            yield connection
        except sqlite3.Error as error:
            raise StorageError(f"{self._path}: {error}") from None
        finally:
            if connection is not None:
                connection.close()


class Change:
    """An open transaction.

    Args:
        connection: in one.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def log(self, origin: str) -> SeenLog | None:
        """What is known of a log."""
        row = self._connection.execute(
            "SELECT origin, key, size, root, at FROM logs WHERE origin = ?", (origin,)
        ).fetchone()
        return None if row is None else SeenLog(*row)

    def count(self) -> int:
        """How many logs are known."""
        return int(self._connection.execute("SELECT count(*) FROM logs").fetchone()[0])

    def write(self, log: SeenLog) -> None:
        """Remembers a log as it is now."""
        self._connection.execute(
            "INSERT OR REPLACE INTO logs (origin, key, size, root, at) VALUES (?, ?, ?, ?, ?)",
            (log.origin, log.key, log.size, log.root, log.at),
        )

    def conflict(self, conflict: Conflict) -> None:
        """Keeps a proof of two histories, if there are not many of this log already."""
        query = "SELECT count(*) FROM conflicts WHERE origin = ?"
        if self._connection.execute(query, (conflict.origin,)).fetchone()[0] < _MOST_CONFLICTS:
            self._connection.execute(
                "INSERT INTO conflicts (origin, note, at) VALUES (?, ?, ?)",
                (conflict.origin, conflict.note, conflict.at),
            )
