"""The version of a database's tables: written when they are made, checked whenever a log is opened.

A new database gets the newest version at once. One with an older version is left as it is until `podlt store upgrade`:
a program of that version may still be writing to it. Only that command needs alembic; what it comes to is, by a test,
what a new database gets.
"""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa

from podlt.errors import InvalidProofError, UsageError
from podlt.extras import needed_by
from podlt.store.tables import tables_of

VERSIONS = ("0001",)
"""Every version there was, oldest first. Files made before versions were written have the first."""

SCRIPTS = Path(__file__).parent / "migrations"
VERSION_TABLE = "podlt_version"
_LONGEST = 32
_VERSION = re.compile("[0-9]{4}")
_version_table = sa.Table(
    VERSION_TABLE,
    sa.MetaData(),
    sa.Column("version_num", sa.String(_LONGEST), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)
_MAKING = 0x706F646C74  # "podlt": the PostgreSQL lock under which tables are made and changed


def version_of(connection: sa.Connection, where: str) -> str:
    """The version of a database's tables, or "" if it has none.

    Args:
        where: the database's name in messages.

    Raises:
        InvalidProofError: some of the tables are missing, or the version is not written as this program writes it.
    """
    present = set(sa.inspect(connection).get_table_names())
    needed = tables_of(connection.dialect.name).names
    if not present & needed:
        return ""
    if not needed <= present:
        raise InvalidProofError(f"{where}: the database holds no whole log: {sorted(needed - present)} missing")
    if VERSION_TABLE not in present:
        return VERSIONS[0]
    stored = sa.func.substr(sa.column("version_num"), 1, _LONGEST)
    found = connection.execute(sa.select(stored).select_from(sa.table(VERSION_TABLE)).limit(2)).scalars().all()
    if len(found) != 1 or not isinstance(found[0], str) or not _VERSION.fullmatch(found[0]):
        raise InvalidProofError(f"{where}: the version of the tables is malformed")
    return found[0]


def is_whole(connection: sa.Connection) -> bool:
    """Whether every table is there, whatever its version."""
    return tables_of(connection.dialect.name).names <= set(sa.inspect(connection).get_table_names())


def require_current(version: str, where: str) -> None:
    """Only tables of the newest version are read and written.

    Raises:
        InvalidProofError: there are none.
        UsageError: they are older, or newer than this program.
    """
    if not version:
        raise InvalidProofError(f"{where}: the database holds no log")
    if version == VERSIONS[-1]:
        return
    if version in VERSIONS:
        raise UsageError(
            f"{where}: old version of the tables: expected {VERSIONS[-1]}, got {version}: "
            "stop the manager that writes to it, then run podlt store upgrade"
        )
    raise UsageError(f"{where}: newer version of the tables: expected {VERSIONS[-1]}, got {version}: upgrade podlt")


def create(connection: sa.Connection) -> None:
    """Makes the tables that are missing, in the connection's transaction: all or none."""
    _change(connection)
    tables_of(connection.dialect.name).entries.metadata.create_all(connection)
    _version_table.create(connection, checkfirst=True)
    if connection.execute(sa.select(_version_table)).first() is None:
        connection.execute(_version_table.insert(), {"version_num": VERSIONS[-1]})


def _change(connection: sa.Connection) -> None:
    """Begins what nobody else may do meanwhile, and what is undone by a kill."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING)))
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # Python's driver would begin none for changes of tables


def _migrate(connection: sa.Connection) -> None:
    try:
        from alembic import command
        from alembic.config import Config
    except ImportError as error:
        raise needed_by("podlt store upgrade", error) from None
    configuration = Config()
    configuration.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "head")


def upgrade(engine: sa.Engine, where: str) -> tuple[str, str]:
    """Brings an existing database to the newest version, in one transaction; returns the versions before and after.

    Raises:
        InvalidProofError: it holds no log.
        UsageError: only a newer program knows its version, or there is no alembic.
    """
    with engine.begin() as connection:
        before = version_of(connection, where)
        if before not in VERSIONS:
            require_current(before, where)
        _change(connection)
        _migrate(connection)
        return before, version_of(connection, where)
