"""What this machine was found to compute, remembered: it is the same while code, libraries and processor are."""

from __future__ import annotations

import hashlib
import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from podlt.engine.isolated.records import KnownArithmetic
from podlt.errors import StorageError
from podlt.store.files import read_whole, write_whole

CPU = "cpu"
"""The device, as a worker's owner names it."""

LIBRARIES = ("torch", "numba", "llvmlite", "numpy")
SETTINGS = ("NUMBA_", "ATEN_", "MKL_", "OMP_", "DNNL_", "ONEDNN_", "TORCH")
"""What the names of variables begin with that libraries read."""

CODE = ("exact", "execution", "program")
MOST_BYTES = 2**16


class ConformanceCache:
    """Results of golden vectors, by everything that they follow from.

    Args:
        file: where they are; made when there is one.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._key = ""

    def find(self, arithmetic: bytes, device: str) -> KnownArithmetic | None:
        """What was measured here before, if it still holds; of the processor alone: drivers are not seen from here."""
        if device != CPU:
            return None
        return self._read().get(self._name(arithmetic))

    def keep(self, arithmetic: bytes, device: str, measured: KnownArithmetic) -> None:
        """Remembers a result in which nothing differs; a disk that is full forgets it."""
        if device == CPU and measured.exact and not measured.differing and self.find(arithmetic, device) != measured:
            mine = {name: one for name, one in self._read().items() if name.startswith(self.key)}
            with suppress(StorageError, OSError):
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_whole(self._file, msgspec.json.encode({**mine, self._name(arithmetic): measured}), durable=False)

    @property
    def key(self) -> str:
        """A digest of the installed code, the libraries, what they are told, and the processor."""
        self._key = self._key or _key()
        return self._key

    def _name(self, arithmetic: bytes) -> str:
        return f"{self.key} {arithmetic.hex()}"

    def _read(self) -> dict[str, KnownArithmetic]:
        with suppress(StorageError, msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(read_whole(self._file, MOST_BYTES), type=dict[str, KnownArithmetic])
        return {}


def _key() -> str:
    found = hashlib.sha256()
    package = Path(__file__).parents[2]
    files = (path for part in CODE for path in (package / part).rglob("*") if path.suffix in (".py", ".json"))
    for path in sorted(files):
        found.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found.update(f"{name} {version(name)}\0".encode())
    for name, value in sorted(os.environ.items()):
        if name.startswith(SETTINGS):
            found.update(f"{name}={value}\0".encode())
    found.update(f"{platform.python_version()} {platform.platform()} {platform.processor()}\0".encode())
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("ascii", "replace").split("\n\n")[0].splitlines()
        found.update("\n".join(line for line in lines if line.startswith(("model", "flags", "microcode"))).encode())
    return found.hexdigest()
