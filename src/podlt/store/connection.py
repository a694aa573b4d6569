"""Connections to databases: what makes them durable, and what their errors become."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from podlt.errors import InvalidProofError, StorageError
from podlt.extras import needed_by
from podlt.store.address import RUN, with_password

_ALIVE = {
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""libpq notices within half a minute that the network is gone."""

_SERVER_ALIVE = {"tcp_keepalives_idle": "15", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""And so does the server, which else would keep the run's lock for hours for a manager that has lost its power."""

_LOCKED = "55P03"


def open_engine(url: sa.URL, *, readonly: bool) -> sa.Engine:
    """An engine whose connections wait for the disk at each commit.

    Raises:
        MissingPackageError: the driver of PostgreSQL is not installed.
    """
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, hide_parameters=True)
        if not readonly:
            sa.event.listen(engine, "connect", _configure_sqlite)
        return engine
    given = {name: value for name, value in _ALIVE.items() if name not in url.query}
    try:
        engine = sa.create_engine(
            with_password(url).difference_update_query([RUN]), hide_parameters=True, connect_args=given
        )
    except ImportError as error:
        raise needed_by("a log in PostgreSQL", error) from None
    sa.event.listen(engine, "connect", _configure_postgres_reader if readonly else _configure_postgres)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _configure_postgres(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("SHOW synchronous_commit")
    if cursor.fetchone()[0] != "remote_apply":  # which waits for even more
        cursor.execute("SET synchronous_commit TO on")
    for name, value in _SERVER_ALIVE.items():
        cursor.execute(f"SET {name} TO {value}")
    cursor.close()
    connection.commit()


def _configure_postgres_reader(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("SET default_transaction_read_only TO on")
    cursor.close()
    connection.commit()


@contextmanager
def storage_errors(name: str) -> Iterator[None]:
    """Turns the database's errors into ours.

    Args:
        name: the database in messages, without a password.
    """
    try:
        yield
    except DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        if isinstance(error.orig, sqlite3.DatabaseError) and ("malformed" in reason or "not a database" in reason):
            raise InvalidProofError(f"{name}: the log is damaged: {reason}") from None
        if getattr(error.orig, "sqlstate", None) == _LOCKED:
            raise StorageError(f"{name}: locked: another manager writes to this run") from None
        if error.connection_invalidated:
            raise StorageError(
                f"{name}: connection to the database lost; no entry that was logged is: {reason}"
            ) from None
        raise StorageError(f"{name}: {reason}") from None
    except SQLAlchemyError as error:
        raise StorageError(f"{name}: {error}") from None
