"""Captures that many tests look at: tracing costs a second each, so every model is captured once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch

from .zoo import CASES, Case, build


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def captured() -> Callable[[str], Case]:
    """A case of the zoo with its program, by name."""
    return cache(lambda name: build(name, CASES[name]))
