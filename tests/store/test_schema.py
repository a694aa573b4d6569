"""Versions of the tables: made at once, written down, migrated only when asked, refused when unknown."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from places import InFile, OnServer, Place

from podlt.errors import InvalidProofError, UsageError
from podlt.sim import simulate
from podlt.store import schema
from podlt.store.address import RUN, parse
from podlt.store.connection import open_engine
from podlt.store.log_store import LogStore
from podlt.verify import verify

NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade():
    runs = "podlt_runs" if op.get_context().dialect.name == "postgresql" else "meta"
    op.add_column(runs, sa.Column("remark", sa.Text, nullable=False, server_default="from before"))
    BREAK
"""


def engine(place: Place) -> sa.Engine:
    return open_engine(parse(place.url), readonly=False)


@contextmanager
def connected(place: Place) -> Iterator[sa.Connection]:
    found = engine(place)
    try:
        with found.connect() as connection:
            yield connection
    finally:
        found.dispose()


def described(place: Place) -> dict[str, object]:
    """Tables, columns, keys and indices, as the database itself names them."""
    with connected(place) as connection:
        look = sa.inspect(connection)
        return {table: _described(look, table) for table in look.get_table_names()}


def _described(look: sa.Inspector, table: str) -> object:
    return (
        [(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(table)],
        look.get_pk_constraint(table)["constrained_columns"],
        [(f["constrained_columns"], f["referred_table"]) for f in look.get_foreign_keys(table)],
        [(i["name"], i["column_names"], i["unique"], str(i.get("dialect_options"))) for i in look.get_indexes(table)],
    )


def version(place: Place) -> str:
    with connected(place) as connection:
        return schema.version_of(connection, "here")


def upgraded(place: Place) -> tuple[str, str]:
    found = engine(place)
    try:
        return schema.upgrade(found, "here")
    finally:
        found.dispose()


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A podlt that knows one version more."""
    scripts = tmp_path / "scripts"
    shutil.copytree(schema.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "r0002_remark.py").write_text(NEXT.replace("BREAK", ""))
    monkeypatch.setattr(schema, "SCRIPTS", scripts)
    monkeypatch.setattr(schema, "VERSIONS", ("0001", "0002"))
    return scripts


def test_a_new_database_has_what_all_migrations_come_to(place: Place, tmp_path: Path) -> None:
    place.open(create=True).close()
    made = described(place)
    assert version(place) == schema.VERSIONS[-1]
    if isinstance(place, OnServer):
        migrated: Place = OnServer(place.server, place.server.new_database())
    else:
        migrated = InFile(tmp_path / "migrated.db")
    with engine(migrated).begin() as connection:
        schema._change(connection)
        schema._migrate(connection)
    assert described(migrated) == made
    store = migrated.open(create=True)
    store.append(0, [b"a"], "one")
    store.close()


def test_the_list_of_versions_is_that_of_the_scripts() -> None:
    from alembic.script import ScriptDirectory

    found = [script.revision for script in ScriptDirectory(str(schema.SCRIPTS)).walk_revisions()]
    assert tuple(reversed(found)) == schema.VERSIONS


def test_older_tables_are_left_alone_until_they_are_migrated(
    place: Place, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "VERSIONS", ("0001",))
        store = place.open(create=True)
        store.append(0, [b"a", b"b"], "one")
        store.close()
    before = described(place)
    for options in ({}, {"create": True}, {"readonly": True}):
        with pytest.raises(
            UsageError, match=r"old version of the tables: expected 0002, got 0001: .* podlt store upgrade"
        ):
            place.open(**options)
    assert described(place) == before
    assert upgraded(place) == ("0001", "0002")
    store = place.open()
    store.append(2, [b"c"], "two")
    assert [body for _, _, body in store.entries()] == [b"a", b"b", b"c"] and len(store.heads()) == 2
    store.close()
    assert upgraded(place) == ("0002", "0002")


def test_a_migration_that_fails_changes_nothing(place: Place, newer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "VERSIONS", ("0001",))
        place.open(create=True).close()
    before = described(place)
    (newer / "versions" / "r0002_remark.py").write_text(NEXT.replace("BREAK", "raise RuntimeError('in the middle')"))
    with pytest.raises(RuntimeError, match="in the middle"):
        upgraded(place)
    assert described(place) == before and version(place) == "0001"


def test_newer_tables_are_refused(place: Place) -> None:
    place.open(create=True).close()
    place.execute("UPDATE podlt_version SET version_num = '0999'")
    for options in ({}, {"create": True}, {"readonly": True}):
        with pytest.raises(UsageError, match=r"newer version of the tables: expected .*, got 0999: upgrade podlt"):
            place.open(**options)
    with pytest.raises(UsageError, match="newer version of the tables"):
        upgraded(place)


def test_nothing_is_migrated_where_there_is_no_log(place: Place) -> None:
    if isinstance(place, InFile):
        sqlite3.connect(place.path).close()
    with pytest.raises(InvalidProofError, match="holds no log"):
        upgraded(place)


def test_without_alembic_logs_are_written_and_only_migrations_are_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "alembic"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "alembic", None)
    store = place.open(create=True)
    store.append(0, [b"a"], "one")
    store.close()
    with pytest.raises(UsageError, match=r"Alembic.*pip install '\.\[postgres\]'"):
        upgraded(place)
    assert version(place) == schema.VERSIONS[-1]


def unversioned(run: Path) -> Path:
    """A run as it was made before versions were written."""
    simulate(5, {"always": 1}, rounds=4, seed=1, whole=True, directory=run)
    with closing(sqlite3.connect(run / "log.db")) as database, database:
        database.execute(f"DROP TABLE {schema.VERSION_TABLE}")
    return run


def test_a_run_from_before_versions_verifies_goes_on_and_can_be_migrated(tmp_path: Path) -> None:
    run = unversioned(tmp_path)
    before = (run / "log.db").read_bytes()
    assert verify(run, jobs=1).ok
    assert (run / "log.db").read_bytes() == before
    place = InFile(run / "log.db")
    for create in (False, True):
        store = LogStore.at(place.path, create=create)
        count = len(list(store.entries()))
        store.append(count, [b"more"], "head")
        store.close()
    assert version(place) == "0001"
    assert schema.VERSION_TABLE not in described(place)
    assert upgraded(place) == ("0001", schema.VERSIONS[-1])
    assert schema.VERSION_TABLE in described(place)


def test_the_rows_of_another_table_do_not_matter(on_server: OnServer) -> None:
    on_server.server.execute(
        on_server.database, "CREATE TABLE entries (what text)", "CREATE TABLE alembic_version (x int)"
    )
    store = on_server.open(create=True)
    assert parse(on_server.url).query[RUN] in store.name
    store.append(0, [b"a"], "one")
    store.close()
