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
from podlt.exact.cpu.products import WAYS

GOLDEN = Path(__file__).parents[1] / "vectors" / "exact_models.json"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
TWO_THREADS = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
OLDEST = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "NUMBA_CPU_NAME": "generic",
}
MIDDLE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
}
# Products by VNNI are ours, by int8 oneDNN's, by float32 and float64 MKL's: each under what could change it.
SETTINGS = [
    (setting, way)
    for way, settings in {
        **({"vnni": [ONE_THREAD]} if "vnni" in WAYS else {}),
        "int8": [
            ONE_THREAD,
            TWO_THREADS,
            *({"ATEN_CPU_CAPABILITY": cap} for cap in ("default", "avx2", "avx512")),
            *({"ONEDNN_MAX_CPU_ISA": cap} for cap in ("SSE41", "AVX2", "AVX512_CORE")),
            *({"MKL_ENABLE_INSTRUCTIONS": cap} for cap in ("SSE4_2", "AVX2")),
            *({"NUMBA_CPU_NAME": name} for name in ("generic", "haswell")),
            OLDEST,
            MIDDLE,
        ],
        "float32": [ONE_THREAD, TWO_THREADS, *({"MKL_ENABLE_INSTRUCTIONS": cap} for cap in ("SSE4_2", "AVX2")), OLDEST],
        "float64": [ONE_THREAD, TWO_THREADS, *({"MKL_ENABLE_INSTRUCTIONS": cap} for cap in ("SSE4_2", "AVX2")), MIDDLE],
    }.items()
    for setting in settings
]


def digests(environment, *arguments):
    """What a process of its own prints under these variables; on one thread if they do not say."""
    child = subprocess.run(
        [sys.executable, "-m", "podlt.bench.models", *arguments],
        env={**os.environ, **ONE_THREAD, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def named(value):
    """A setting in a test's name."""
    return value if isinstance(value, str) else " ".join(f"{k}={v}" for k, v in value.items())


@pytest.mark.slow
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
@pytest.mark.parametrize(("environment", "way"), SETTINGS, ids=named)
def test_every_model_trains_to_its_golden_digest_under_every_setting(environment, way):
    found = digests(environment, way)
    assert set(found) == set(MODELS)
    assert found == json.loads(GOLDEN.read_text())


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="this processor has nothing to switch")
def test_the_settings_reach_torch_and_change_what_stock_float32_learns():
    """Else equality under them would show nothing."""
    names = ("mnist mlp", "mnist cnn")
    found = [digests(setting, "stock", *names) for setting in ({}, OLDEST)]
    assert all(found[0][name] != found[1][name] for name in names)
