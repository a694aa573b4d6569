"""Fetches a published file by HTTPS."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from podlt.errors import StorageError, UsageError

SECONDS = 60.0
STEP = 2**20


def download(url: str, target: Path, most: int) -> None:
    """Writes what is at a URL to a file.

    Args:
        url: with https://; where it leads must be so too.
        target: the file.
        most: how many bytes it may have.

    Raises:
        UsageError: it cannot be had, is longer, or leads elsewhere.
        StorageError: the file cannot be written.
    """
    try:
        with urlopen(Request(url), timeout=SECONDS) as answer, target.open("wb") as file:
            if not answer.geturl().startswith("https://"):
                raise UsageError(f"{url}: leads to {answer.geturl()[:200]}, expected https://")
            while data := answer.read(STEP):
                most -= len(data)
                if most < 0:
                    raise UsageError(f"{url}: the file is too long")
                file.write(data)
    except (URLError, ValueError, TimeoutError) as error:
        raise UsageError(f"{url}: cannot be fetched: {getattr(error, 'reason', error)}") from None
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror or error}") from None
