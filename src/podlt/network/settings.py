"""How a run's workers are served: used again on resume, unless given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from podlt.errors import StorageError
from podlt.store.run_json import read_section, write_section
from podlt.store.run_names import RUN

HTTPS = "https"
"""The way of large blobs, besides the URL of an object store: the manager's own server alone."""


class NetworkSettings(msgspec.Struct, frozen=True):
    """What run.json holds of it; what was never given is empty.

    Attributes:
        blobs: the way of these (see above).
        silence_timeout: seconds of silence after which a worker is gone.
        late_seconds: that every task has before somebody else is dealt it as well.
        server_port: at which workers find the run's server.
        host: the address that this listens on.
        names: by which workers reach it.
        aggregates: whether the sum of each round is kept, with its workers' fingerprints.
    """

    blobs: str = ""
    silence_timeout: float = 0.0
    late_seconds: float = 0.0
    server_port: int = 0
    host: str = ""
    names: tuple[str, ...] = ()
    aggregates: bool = False


def load_settings(run: Path) -> NetworkSettings:
    """What is kept for a run; nothing for one that is new.

    Raises:
        StorageError: malformed, or it cannot be read.
    """
    found = read_section(run, "network", NetworkSettings)
    if found is None:
        return NetworkSettings()
    if not 0 <= found.server_port < 65536 or min(found.silence_timeout, found.late_seconds) < 0:
        raise StorageError(f"{run / RUN}: network: malformed; the run's directory was changed")
    return found


def save_settings(run: Path, **changes: Any) -> None:
    """Changes what is kept for a run; nothing is written if it is so already.

    Raises:
        StorageError: what is there is malformed, or cannot be read or written.
    """
    write_section(run, "network", msgspec.structs.replace(load_settings(run), **changes))
