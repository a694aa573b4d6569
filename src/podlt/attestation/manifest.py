"""OpenSSF Model Signing: a model's files by their digests, and one root digest over all of them.

Source: github.com/sigstore/model-transparency (predicate https://model_signing/signature/v1.0), serialization "files".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from podlt.attestation.envelope import Document, statement
from podlt.errors import StorageError, UsageError

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
SINGLE = "."
"""The name of a model's only file, where the model is a file and not a folder."""

_IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
_STEP = 2**20


class ModelManifest(msgspec.Struct, frozen=True):
    """What a model consists of.

    Attributes:
        name: of the folder, or of the only file.
        files: path within the folder (`SINGLE` for the only file) -> SHA-256, in the order in which they are signed.
        ignored: names in the folder that no signature covers.
    """

    name: str
    files: dict[str, bytes]
    ignored: tuple[str, ...] = ()

    @property
    def root(self) -> bytes:
        """SHA-256 over the files' digests, in their order."""
        return hashlib.sha256(b"".join(self.files.values())).digest()

    def statement(self) -> bytes:
        """What is signed: the in-toto statement that `model_signing verify` reads."""
        serialization: Document = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
        if self.ignored:
            serialization["ignore_paths"] = list(self.ignored)
        resources = [
            {"name": name, "algorithm": "sha256", "digest": digest.hex()} for name, digest in self.files.items()
        ]
        subject = {"name": self.name, "digest": {"sha256": self.root.hex()}}
        return statement([subject], PREDICATE_TYPE, {"serialization": serialization, "resources": resources})


def manifest_of_file(name: str, file: BinaryIO) -> ModelManifest:
    """The manifest of a model that is one file.

    Args:
        name: of the file.
        file: the whole of it, seekable.
    """
    return ModelManifest(name, {SINGLE: sha256_of(file)})


def manifest_of_folder(folder: Path, ours: Sequence[str]) -> ModelManifest:
    """The manifest of an exported folder.

    Args:
        folder: with the model's files.
        ours: names of files that attesting writes there, which no signature covers.

    Raises:
        UsageError: there is a link in it, or nothing.
        StorageError: a file cannot be read.
    """
    ignored = (*ours, *_IGNORED)
    found: dict[PurePosixPath, bytes] = {}
    for path in folder.rglob("*"):
        name = PurePosixPath(path.relative_to(folder).as_posix())
        if name.parts[0] in ignored:
            continue
        if path.is_symlink():
            raise UsageError(f"{path}: a symbolic link; expected files only")
        if path.is_file():
            found[name] = _file_sha256(path)
    if not found:
        raise UsageError(f"{folder}: expected the files of a model, got none")
    return ModelManifest(folder.resolve().name, {str(name): found[name] for name in sorted(found)}, ignored)


def sha256_of(file: BinaryIO) -> bytes:
    """SHA-256 of a whole file, which is read in steps."""
    file.seek(0)
    state = hashlib.sha256()
    while data := file.read(_STEP):
        state.update(data)
    return state.digest()


def _file_sha256(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return sha256_of(file)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from None
