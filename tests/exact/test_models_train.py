"""Whole models trained on the exact table: one digest a model, whatever the machine's threads and instructions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from podlt.bench.arithmetic import JOBS, contenders
from podlt.bench.models import MODELS, train

GOLDEN = Path(__file__).parents[1] / "vectors" / "exact_models.json"
SETTINGS = [
    ({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}, "int8"),
    ({"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}, "int8"),
    ({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "NUMBA_CPU_NAME": "generic"}, "int8"),
    ({"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}, "int8"),
    ({"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "int8"),
    ({"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, "float32"),
    ({"NUMBA_CPU_NAME": "haswell"}, "float64"),
]


def test_an_exact_step_never_asks_torch_for_a_product(monkeypatch):
    """The executor writes some stock products straight into the update: none of those may run here."""
    run = contenders(JOBS["MLP 784-128-10, 20 lines, weights kept"], [2])["exact 2"]

    def refuse(*arguments, **options):
        raise AssertionError("a stock product ran")

    for name in ("mm", "addmm", "bmm", "matmul"):
        monkeypatch.setattr(torch, name, refuse)
    run()


def test_a_model_trains_to_its_golden_digest():
    assert train("mlp") == json.loads(GOLDEN.read_text())["mlp"]


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "way"), SETTINGS, ids=lambda v: v if isinstance(v, str) else " ".join(v))
def test_every_model_trains_to_its_golden_digest_under_every_setting(environment, way):
    child = subprocess.run(
        [sys.executable, "-m", "podlt.bench.models", way],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    assert set(found) == set(MODELS)
    assert found == json.loads(GOLDEN.read_text())
