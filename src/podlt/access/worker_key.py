"""A worker's key: a file of one line, made at first use, that nobody else can read.

Who has the key is the worker: what it earned is its own. So there is a printable form to keep elsewhere, which a
checksum guards against slips of the pen, and the file is refused when others on the machine could have read it.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from pathlib import Path

from podlt.crypto import KEY_BYTES, SigningKey, digest
from podlt.errors import StorageError, UsageError
from podlt.store.files import read_whole

PREFIX = "podlt-key-1"
_GROUP = 4
_CHECK_BYTES = 3
_IDENTITY = "identity/1"
_LONGEST = 4096


def default_path() -> Path:
    """Where a worker's key is, unless given."""
    return Path.home() / ".podlt" / "worker.key"


def load_or_create_key(path: Path) -> SigningKey:
    """The key of a file; a new one, if there is no file.

    Two processes that begin at once get the same key: the file has its name only once it is whole, and only one wins.

    Raises:
        UsageError: others may read the file, or it holds no key.
        StorageError: it cannot be read or made.
    """
    if not path.exists():
        _create(path, SigningKey(secrets.token_bytes(KEY_BYTES)))
    return load_key(path)


def load_key(path: Path) -> SigningKey:
    """The key of a file that is there.

    Raises:
        UsageError: missing, others may read the file, or it holds no key.
        StorageError: it cannot be read.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no key there; `podlt worker` makes one, `podlt key restore` brings one back"
        ) from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(found.st_mode)
        raise UsageError(f"{path}: mode {mode:04o} lets others use this key; expected 0600 (chmod 600 {path})")
    try:
        return restore(read_whole(path, _LONGEST).decode("ascii"))
    except (UsageError, UnicodeDecodeError):
        raise UsageError(f"{path}: not a key file") from None


def load_or_create_keys(path: Path, count: int) -> list[SigningKey]:
    """The keys of several identities, the same each time: the file's own, and others that are derived from it.

    Raises:
        UsageError: as `load_or_create_key`.
        StorageError: as `load_or_create_key`.
    """
    first = load_or_create_key(path)
    return [first, *(SigningKey(first.derive(_IDENTITY, number.to_bytes(4, "big"))) for number in range(1, count))]


def save_key(path: Path, key: SigningKey) -> None:
    """Writes a key to a new file, mode 0600.

    Raises:
        UsageError: there is a file already: a key is never overwritten.
        StorageError: it cannot be written.
    """
    if not _create(path, key):
        raise UsageError(f"{path}: there is a key already; move it away first, what it earned is lost without it")


def backup(key: SigningKey) -> str:
    """A key as one line of letters and digits, with a checksum. Whoever has the line has the key."""
    seed = key.seed()
    text = base64.b32encode(seed + _check(seed)).decode("ascii").rstrip("=").lower()
    return "-".join([PREFIX, *(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))])


def restore(text: str) -> SigningKey:
    """The key that `backup` wrote; spaces, line breaks and capitals do not matter.

    Raises:
        UsageError: it is none, or was copied with a mistake. The text is not repeated in the message.
    """
    plain = "".join(text.split()).lower()
    if not plain.startswith(PREFIX):
        raise UsageError(f"malformed key: expected a line that begins with {PREFIX}")
    body = plain.removeprefix(PREFIX).replace("-", "").upper()
    try:
        raw = base64.b32decode(body + "=" * (-len(body) % 8))
    except (binascii.Error, ValueError):
        raise UsageError("malformed key: invalid character, or incomplete") from None
    seed, check = raw[:KEY_BYTES], raw[KEY_BYTES:]
    if len(raw) != KEY_BYTES + _CHECK_BYTES:
        raise UsageError(f"malformed key: expected {KEY_BYTES + _CHECK_BYTES} bytes, got {len(raw)}")
    if check != _check(seed):
        raise UsageError("malformed key: wrong checksum: copied with a mistake")
    return SigningKey(seed)


def _check(seed: bytes) -> bytes:
    return digest("key-backup/1", seed)[:_CHECK_BYTES]


def _create(path: Path, key: SigningKey) -> bool:
    """Makes the file, whole or not at all; returns whether it was not there before."""
    part = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(backup(key).encode("ascii") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)  # fails where there is a file, unlike a rename
        finally:
            part.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from None
    return True
