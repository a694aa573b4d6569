"""Where podlt keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """The folder: $PODLT_CACHE, or ~/.cache/podlt."""
    return Path(os.environ.get("PODLT_CACHE") or Path.home() / ".cache" / "podlt")
