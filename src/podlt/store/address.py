"""Addresses of databases: read strictly, never shown with a password, followed only where the operator has sent us.

A run's directory says where its log is, and directories are handed around to be verified. One that names a stranger's
server must not make us call it, with the password that happens to be in the environment: an address from a directory
is followed only to this machine, or to a host that was once named on this account by `--store` or in `PODLT_STORE`.
"""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from podlt.errors import StorageError, UsageError
from podlt.store.files import append_line, read_whole

RUN = "podlt_run"
"""The part of an address that names one log of those that share the database."""

VARIABLE = "PODLT_STORE"
_MAX_HOSTS = 2**20
_RUN_DIGITS = 32
_SECRET = {"password", "sslpassword"}
_ALLOWED = {
    RUN,
    "host",
    "port",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "passfile",
    "connect_timeout",
    "target_session_attrs",
    "require_auth",
    "channel_binding",
    "gssencmode",
}
_FORM = "postgresql://USER@HOST/DATABASE"

_passwords: dict[str, str] = {}


def parse(text: str) -> sa.URL:
    """The address that a text is; a PostgreSQL one with its driver.

    Raises:
        UsageError: it is none, or of another database, or has parts that are not known; no part of it is shown.
    """
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(f"not the address of a database (expected {_FORM}; special characters as %XX)") from None
    if url.get_backend_name() == "sqlite":
        return url
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise UsageError(f"unsupported database: expected {_FORM}")
    if _SECRET & set(url.query):
        raise UsageError(
            f"a password among the options of a database's address: expected it in PGPASSWORD, a passfile, or {_FORM}"
        )
    if unknown := set(url.query) - _ALLOWED:
        raise UsageError(
            f"unknown options of a database's address: {', '.join(sorted(unknown))}; "
            f"available: {', '.join(sorted(_ALLOWED - {RUN}))}"
        )
    if not url.database:
        raise UsageError(f"the database has no name (expected {_FORM})")
    return url.set(drivername="postgresql+psycopg")


def shown(url: sa.URL) -> str:
    """An address as it may be printed and kept: without the password, and without our driver's name."""
    bare = sa.URL.create(
        url.drivername.partition("+")[0], url.username, None, url.host, url.port, url.database, url.query
    )
    return bare.render_as_string(hide_password=True)


def database(url: sa.URL) -> str:
    """What several runs share: an address as it is shown, without the name of a run."""
    return shown(url.difference_update_query([RUN]))


def run_name(url: sa.URL) -> str:
    """Which log of the database it is.

    Raises:
        UsageError: the address names none.
    """
    name = url.query.get(RUN, "")
    if not isinstance(name, str) or len(name) != _RUN_DIGITS or set(name) - set("0123456789abcdef"):
        raise UsageError(f"{database(url)}: names no run (expected {RUN}= and {_RUN_DIGITS} hexadecimal digits)")
    return name


def introduce(text: str) -> sa.URL:
    """Takes an address from the operator: keeps its password for this process, and its host for later ones.

    Raises:
        UsageError: it is none of PostgreSQL.
    """
    url = parse(text)
    if url.get_backend_name() == "sqlite":
        raise UsageError(f"an SQLite log lies in the run's own directory (expected {_FORM}, or no --store at all)")
    if isinstance(url.password, str):
        _passwords[database(url)] = url.password
    hosts = _known_hosts()
    for host in _hosts(url):
        if not _is_here(host) and host not in hosts:
            path = _hosts_file()
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"{path.parent}: cannot be made: {error.strerror}") from None
            append_line(path, host.encode())
    return url


def for_new_run(text: str) -> str:
    """What a new run's settings keep of the operator's address: a name for the run, and no password.

    Raises:
        UsageError: as in `introduce`.
    """
    return shown(introduce(text).update_query_dict({RUN: os.urandom(_RUN_DIGITS // 2).hex()}))


def with_password(url: sa.URL) -> sa.URL:
    """The address with the password that the operator gave for it; else libpq looks in PGPASSWORD and the passfile."""
    if url.password is None and database(url) not in _passwords and VARIABLE in os.environ:
        introduce(os.environ[VARIABLE])
    known = _passwords.get(database(url))
    return url.set(password=known) if url.password is None and known is not None else url


def require_known(url: sa.URL) -> None:
    """An address that came with a run's directory may only lead where the operator has been.

    Raises:
        UsageError: it leads elsewhere.
    """
    if url.get_backend_name() == "sqlite":
        raise UsageError(f"run.json: unsupported store: expected {_FORM}, got a file of SQLite")
    strange = [host for host in _hosts(url) if not _is_here(host)]
    if not strange:
        return
    if VARIABLE in os.environ:
        introduce(os.environ[VARIABLE])
    if set(strange) - _known_hosts():
        raise UsageError(
            f"untrusted host: the run's settings put its log in {database(url)}, never given on this account: "
            f"if it is yours, set {VARIABLE} to this address"
        )


def _hosts(url: sa.URL) -> list[str]:
    """Every host that libpq would try; an empty one is the local socket."""
    options = url.query.get("host", ())
    named = [options] if isinstance(options, str) else options
    found = [part for text in [url.host or "", *named] for part in text.split(",")]
    return found if any(found) else [os.environ.get("PGHOST", "")]


def _is_here(host: str) -> bool:
    """Whether a host is this machine: a socket's folder, or a loopback address with or without a port."""
    bare = host.removeprefix("[").partition("]")[0] if host.startswith("[") else host
    bare = bare.partition(":")[0] if bare.count(":") == 1 else bare
    return not bare or bare.startswith("/") or bare in ("localhost", "127.0.0.1", "::1")


def _hosts_file() -> Path:
    return Path.home() / ".podlt" / "stores"


def _known_hosts() -> set[str]:
    path = _hosts_file()
    return set(read_whole(path, _MAX_HOSTS).decode("utf-8", "replace").split("\n")) if path.is_file() else set()
