"""Lets these tests use the small runs of the tests of training, without capturing their model in each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))


@pytest.fixture(autouse=True)
def captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many of these tests train, none is about what is trained."""
    from near_hosts import captured_once

    monkeypatch.setattr("podlt.training.session.capture", captured_once)
