"""Has free memory go back to the system while a large model is captured.

glibc keeps freed blocks of up to 32 MiB in its heap, where smaller ones settle between them: a model's weights, each
made wide for one operation, leave holes that add up to more than the model.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LARGE_BLOCK = 2**23
"""From so many bytes on a block has pages of its own, which go with it; of smaller ones they would cost time."""

TRIMMED = 2**20

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_DEFAULT = ((_MMAP_THRESHOLD, 2**25), (_TRIM_THRESHOLD, 2**26))
"""Where glibc's own thresholds come to rest once large blocks were freed."""


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Blocks of at least `LARGE_BLOCK` bytes are given back as they are freed, while this lasts; holes at its end."""
    library = _library()
    if library is None:
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, LARGE_BLOCK)
    try:
        yield
    finally:
        for option, value in _DEFAULT:
            library.mallopt(option, value)
        library.malloc_trim(0)


def trim(gone: int) -> None:
    """Gives the heap's holes back, if so many bytes as were freed are worth the time."""
    library = _library() if gone >= TRIMMED else None
    if library is not None:
        library.malloc_trim(0)


def _library() -> ctypes.CDLL | None:
    """The C library, if it is glibc."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
