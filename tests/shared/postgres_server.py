"""A PostgreSQL server of the tests' own: in a folder of its own, on a Unix socket only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

ACCOUNT = "postgres"
"""Whom the server runs as where the tests run as root, which it refuses to be."""

PASSWORD = "not/for:printing"

_RULES = "local all guarded scram-sha-256\nlocal all all trust\n"


def why_not() -> str:
    """Why no server can be started here; "" if one can."""
    if not all(shutil.which(name) for name in ("initdb", "pg_ctl", "postgres")):
        return "PostgreSQL is not installed here (initdb, pg_ctl and postgres on the PATH)"
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            return "PostgreSQL does not run as root, and there is no setpriv to become somebody else"
        try:
            pwd.getpwnam(ACCOUNT)
        except KeyError:
            return f"PostgreSQL does not run as root, and there is no account {ACCOUNT!r}"
    return ""


class Server:
    """A server that is made, started and deleted."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="podlt-pg-", dir="/tmp"))
        self.folder.chmod(0o755)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(ACCOUNT)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self.data = self.folder / "data"
        self._count = 0
        self._run("initdb", "-D", str(self.data), "-U", ACCOUNT, "--auth=trust", "-E", "UTF8", "--no-sync")
        (self.data / "pg_hba.conf").write_text(_RULES)
        self.start()

    def _run(self, *command: str) -> None:
        become = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"] * (os.geteuid() == 0)
        # A server that starts keeps these open: a pipe would never end.
        with (self.folder / "said").open("w+b") as said:
            done = subprocess.run([*become, *command], stdout=said, stderr=said, cwd=self.folder)
            said.seek(0)
            assert done.returncode == 0, said.read().decode()

    def start(self) -> None:
        """Starts it; returns when it takes connections. Only a power cut could tell that it does not wait for disks."""
        options = f"-k {self.folder} -c listen_addresses='' -c shared_buffers=16MB -c max_connections=40 -c fsync=off"
        self._run("pg_ctl", "-D", str(self.data), "-w", "-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self, how: str = "fast") -> None:
        """Stops it; "immediate" is as good as a power cut of the server's processes."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", how, "stop")

    def delete(self) -> None:
        """Stops it, and leaves nothing."""
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def url(self, database: str, user: str = ACCOUNT) -> str:
        """The address of one of its databases."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def execute(self, database: str, *statements: str) -> list[tuple[object, ...]]:
        """Runs statements, each in a transaction of its own; returns the rows of the last."""
        import psycopg

        found: list[tuple[object, ...]] = []
        with psycopg.connect(host=str(self.folder), user=ACCOUNT, dbname=database, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                found = cursor.fetchall() if cursor.description else []
        return found

    def new_database(self) -> str:
        """Makes an empty database; returns its name."""
        self._count += 1
        name = f"runs{self._count}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return name
