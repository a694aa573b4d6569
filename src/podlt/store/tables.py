"""The tables of a log: an SQLite file holds one, a PostgreSQL database any number, with the run's name in every key."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa


class Tables(NamedTuple):
    """`meta` has a row a log: its format; `entries` a row an entry, `heads` a row a tree head."""

    meta: sa.Table
    entries: sa.Table
    heads: sa.Table

    @property
    def names(self) -> set[str]:
        """What the tables are called."""
        return {table.name for table in self}


def _own() -> Tables:
    """As docs/SPEC.md, section 5.3, has it: the file of one run, which anybody can read."""
    metadata = sa.MetaData()
    return Tables(
        sa.Table("meta", metadata, sa.Column("format", sa.Integer, nullable=False)),
        sa.Table("entries", metadata, _number("number"), *_entry()),
        sa.Table("heads", metadata, _number("size"), sa.Column("note", sa.Text, nullable=False)),
    )


def _shared() -> Tables:
    """Several runs, and perhaps what is not ours, in one database."""
    metadata = sa.MetaData()
    tables = Tables(
        sa.Table("podlt_runs", metadata, _run(), sa.Column("format", sa.Integer, nullable=False)),
        sa.Table("podlt_entries", metadata, _run(_RUN), _number("number"), *_entry()),
        sa.Table("podlt_heads", metadata, _run(_RUN), _number("size"), sa.Column("note", sa.Text, nullable=False)),
    )
    # Two logs that begin with the same entry are one run twice: a copy that would become a fork.
    entries = tables.entries.c
    sa.Index("podlt_one_log_a_run", entries.leaf, unique=True, postgresql_where=sa.text("number = 0"))
    return tables


_RUN = "podlt_runs.run"


def _run(of: str = "") -> sa.Column[Any]:
    return sa.Column("run", sa.String(32), *([sa.ForeignKey(of)] if of else []), primary_key=True)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False)


def _entry() -> tuple[sa.Column[Any], sa.Column[Any]]:
    return sa.Column("leaf", sa.LargeBinary(32), nullable=False), sa.Column("body", sa.LargeBinary, nullable=False)


OWN, SHARED = _own(), _shared()


def tables_of(dialect: str) -> Tables:
    """The tables as a database of this kind has them."""
    return OWN if dialect == "sqlite" else SHARED
