"""Captures that many tests look at: tracing costs a second each, so every model is captured once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from podlt.program import trace

from .zoo import Case, case


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="package", autouse=True)
def rules_made_once() -> Iterator[None]:
    """PyTorch makes its table of decompositions anew whenever it is asked: as much work as tracing a small model."""
    rules = dict(trace.core_aten_decompositions())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "core_aten_decompositions", lambda: rules)
        yield


@pytest.fixture(scope="session")
def captured() -> Callable[[str], Case]:
    """A case of the zoo with its program, by name."""
    return case
