"""What the tests of the Python functions share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects are written to a folder of the tests' own."""
    monkeypatch.setenv("PODLT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
