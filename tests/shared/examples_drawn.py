"""How many examples a property is tried on: as many as it says in `make test-all`, and at most 40 in `make test`."""

from __future__ import annotations

import os

from hypothesis import settings

ALL = "PODLT_ALL_TESTS" in os.environ
FAST = 40


def examples(count: int) -> settings:
    """Settings of a property that is to be tried on so many examples."""
    return settings(max_examples=count if ALL else min(count, FAST))
