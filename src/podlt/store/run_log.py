"""Which log a run's directory has: `log.db` in it, or the database that its settings name."""

from __future__ import annotations

from pathlib import Path

import msgspec
import sqlalchemy as sa

from podlt.errors import StorageError
from podlt.store import schema
from podlt.store.address import database, parse, require_known
from podlt.store.connection import open_engine, storage_errors
from podlt.store.log_store import LogStore
from podlt.store.run_json import read_section
from podlt.store.run_names import LOG


class _Stored(msgspec.Struct):
    """What the settings say of a log."""

    store: str = ""


def store_of(run: Path) -> str:
    """The address of the database that a run's log is in; "" if it is in the run's directory.

    A log that lies in the directory is the run's, whatever the settings say.
    """
    if (run / LOG).exists():
        return ""
    try:
        found = read_section(run, "settings", _Stored)
    except StorageError:
        return ""  # whoever needs the settings says what is wrong with them
    return "" if found is None else found.store


def has_log(run: Path) -> bool:
    """Whether there is a log in the directory, or the settings name a database for it, which is not asked."""
    return (run / LOG).is_file() or bool(store_of(run))


def upgrade_run(run: Path) -> tuple[str, str]:
    """Brings the tables that a run's log is in to the newest version; returns the versions before and after.

    Raises:
        InvalidProofError: it holds no log.
        UsageError: its address leads to a host that nobody has named here; or as `upgrade_database`.
        StorageError: there is no log, or it cannot be read or written.
    """
    address = store_of(run)
    if not address and not (run / LOG).is_file():
        raise StorageError(f"{run / LOG}: no such log")
    if address:
        require_known(parse(address))
    return upgrade_database(parse(address or f"sqlite:///{run / LOG}"))


def upgrade_database(url: sa.URL) -> tuple[str, str]:
    """Brings the tables of a database to the newest version; returns the versions before and after.

    Raises:
        InvalidProofError: it holds no log.
        UsageError: only a newer program knows its version, or alembic is missing.
        StorageError: it cannot be read or written.
    """
    name, engine = database(url), open_engine(url, readonly=False)
    try:
        with storage_errors(name):
            return schema.upgrade(engine, name)
    finally:
        engine.dispose()


def open_run_log(run: Path, *, create: bool = False, readonly: bool = False) -> LogStore:
    """A run's log. Arguments as those of `LogStore`.

    Raises:
        StorageError: there is none, or it cannot be opened.
        InvalidProofError: it is no log of this format.
        UsageError: it is in a database that nobody has named here, or of another version.
    """
    address = store_of(run)
    if not address:
        return LogStore.at(run / LOG, create=create, readonly=readonly)
    require_known(parse(address))
    return LogStore(address, create=create, readonly=readonly)
