"""Memory stays flat, however large a blob is: measured in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.slow
def test_no_end_takes_memory_for_the_blob_it_moves(tmp_path: Path) -> None:
    from podlt.bench.blobs import measure

    size = 400_000_000
    results = dict(measure(tmp_path, size))
    assert list(results) == ["download", "upload", "  the server of both", "encode the difference", "decode it"]
    assert max(result.anonymous for result in results.values()) < 96 * 2**20


@pytest.mark.slow
def test_a_larger_model_takes_no_more_memory_beyond_itself(tmp_path: Path) -> None:
    from podlt.bench import large

    found = []
    for name, size in (("small", 60_000_000), ("big", 400_000_000)):
        (tmp_path / name).mkdir()
        found.append(large.measure(tmp_path / name, size, 1))
    small, big = found
    assert [one.way for one in big.published] == ["https"] * len(big.published)
    for name, copies in large.COPIES.items():
        more = big.ends[name].beyond(copies * big.model) - small.ends[name].beyond(copies * small.model)
        assert more < 96 * 2**20 < (big.model - small.model) / 2
