"""Memory stays flat, however large a blob is: measured in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from podlt.bench.blobs import measure


@pytest.mark.slow
def test_no_end_takes_memory_for_the_blob_it_moves(tmp_path: Path) -> None:
    size = 400_000_000
    results = dict(measure(tmp_path, size))
    assert list(results) == ["download", "upload", "  the server of both", "encode the difference", "decode it"]
    assert max(result.anonymous for result in results.values()) < 96 * 2**20
