"""Captures that many tests look at: tracing costs a second each, so every model is captured once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from .zoo import Case, case


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def captured() -> Callable[[str], Case]:
    """A case of the zoo with its program, by name."""
    return case
