"""Where a test's log can be: one class a kind of database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from postgres_server import Server

from podlt.store.log_store import LogStore

RUN = "0123456789abcdef" * 2


class Place:
    """Where a test's log is: `url`, as `LogStore` takes it, and a way to change it behind the store's back."""

    def __init__(self, url: str) -> None:
        self.url = url

    def open(self, *, create: bool = False, readonly: bool = False) -> LogStore:
        """The log."""
        return LogStore(self.url, create=create, readonly=readonly)

    def execute(self, *statements: str) -> None:
        """Runs statements about the tables meta, entries and heads, as somebody does who has the database."""
        raise NotImplementedError


class InFile(Place):
    """SQLite."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"sqlite:///{path}")
        self.path = path

    def execute(self, *statements: str) -> None:
        with sqlite3.connect(self.path) as database:
            for statement in statements:
                database.execute(statement)
        database.close()


class OnServer(Place):
    """PostgreSQL."""

    def __init__(self, server: Server, database: str, run: str = RUN) -> None:
        super().__init__(f"{server.url(database)}&podlt_run={run}")
        self.server, self.database = server, database

    def execute(self, *statements: str) -> None:
        for name, ours in (("meta", "podlt_runs"), ("entries", "podlt_entries"), ("heads", "podlt_heads")):
            statements = tuple(statement.replace(f" {name}", f" {ours}") for statement in statements)
        statements = tuple(s.replace("heads VALUES (", f"heads VALUES ('{RUN}', ") for s in statements)
        self.server.execute(self.database, *statements)
