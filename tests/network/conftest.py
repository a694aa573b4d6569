"""Lets these tests train without capturing their model in each."""

from __future__ import annotations

import near_hosts
import pytest


@pytest.fixture(autouse=True)
def captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many of these tests train, none is about what is trained."""
    monkeypatch.setattr("podlt.manager.setup.capture", near_hosts.captured_once)
