"""The log: entries and tree heads.

SQLite files that were made before versions were written have these tables: making them again changes nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables: an SQLite file is one run's, a PostgreSQL database may hold many."""
    if op.get_context().dialect.name == "sqlite":
        op.create_table("meta", sa.Column("format", sa.Integer, nullable=False), if_not_exists=True)
        op.create_table("entries", *_entry(), sa.PrimaryKeyConstraint("number"), if_not_exists=True)
        op.create_table("heads", *_head(), sa.PrimaryKeyConstraint("size"), if_not_exists=True)
        return
    run = sa.Column("run", sa.String(32), primary_key=True)
    op.create_table("podlt_runs", run, sa.Column("format", sa.Integer, nullable=False), if_not_exists=True)
    entries, heads = sa.PrimaryKeyConstraint("run", "number"), sa.PrimaryKeyConstraint("run", "size")
    op.create_table("podlt_entries", _of_run(), *_entry(), entries, if_not_exists=True)
    op.create_table("podlt_heads", _of_run(), *_head(), heads, if_not_exists=True)
    # Two logs that begin with the same entry are one run twice: a copy that would become a fork.
    op.create_index(
        "podlt_one_log_a_run", "podlt_entries", ["leaf"], unique=True, postgresql_where=sa.text("number = 0")
    )


def _of_run() -> sa.Column[Any]:
    return sa.Column("run", sa.String(32), sa.ForeignKey("podlt_runs.run"), nullable=False)


def _entry() -> list[sa.Column[Any]]:
    return [
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("leaf", sa.LargeBinary(32), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    ]


def _head() -> list[sa.Column[Any]]:
    return [
        sa.Column("size", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    ]
