"""Triton's kernels by its interpreter, bit for bit against the definitions. What a GPU compiles: test_triton_code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="needs Triton (pip install '.[gpu]')")
pytestmark = pytest.mark.slow

CALLS = Path(__file__).with_name("triton_calls.py")


def printed(*arguments: str) -> Any:
    """What a process prints that interprets kernels."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    child = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout + child.stderr
    return child.stdout


def test_every_operation_returns_the_bits_of_its_definition() -> None:
    found = json.loads(printed(str(CALLS), "operations"))
    assert found["differing"] == []
    assert found["compared"] > 600


def test_convolutions_of_every_geometry_give_the_bits_of_the_cpu() -> None:
    found = json.loads(printed(str(CALLS), "convolutions"))
    assert found == {"compared": 60, "differing": []}


def test_every_way_and_number_of_digits_gives_the_products_of_the_definition() -> None:
    found = json.loads(printed(str(CALLS), "products"))
    assert found["differing"] == []
    assert found["compared"] == 60
    assert found["right"] == ["int8", "half"] and found["chosen"] == "int8"


def test_the_gradient_of_softmax_is_one_launch() -> None:
    found = json.loads(printed("-W", "ignore", "-m", "podlt.bench.launches", "--only", "_softmax_backward", "--json"))
    assert found["triton"] == {"launches": 2, "bytes": 393_224, "waits": 1}  # and one that makes the flag
    assert found["eager"]["launches"] == 1 and found["portable"]["launches"] > 30


def test_the_golden_vectors_come_out() -> None:
    code = "import sys; from podlt.exact.conformance import check; sys.exit(check('triton').differing)"
    printed("-W", "ignore", "-c", code)
