"""Audits of small runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from near_hosts import audits_that_capture_once


@pytest.fixture(scope="package", autouse=True)
def capturing_once() -> Iterator[None]:
    """Each audit captures the program again, which costs more than all else that it does with a small run."""
    with audits_that_capture_once():
        yield
