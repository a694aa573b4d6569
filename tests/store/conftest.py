"""Places for a log, one a database that it can be in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from places import InFile, OnServer, Place
from postgres_server import Server, why_not


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server."""
    if reason := why_not():
        pytest.skip(reason)
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install '.[postgres]'")
    server = Server()
    try:
        yield server
    finally:
        server.delete()


@pytest.fixture
def on_server(server: Server) -> OnServer:
    """A place in a new database of the server."""
    return OnServer(server, server.new_database())


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place in each kind of database, in turn."""
    if request.param == "sqlite":
        return InFile(tmp_path / "log.db")
    place: OnServer = request.getfixturevalue("on_server")
    return place


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees, or changes, which hosts the operator knows."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for variable in ("PGPASSWORD", "PGHOST", "PODLT_STORE"):
        monkeypatch.delenv(variable, raising=False)
    return home
