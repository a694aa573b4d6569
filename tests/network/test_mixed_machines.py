"""Machines with other processors and threads in one run: exact arithmetic gives all the same bits; who differs is told.

Processors are made older by what PyTorch, NumPy and Numba let an environment take away from them, and by an emulator.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stage import Circumstances, Stage, write_recipe

import podlt.api
from podlt.recipe import load_recipe

pytestmark = [pytest.mark.chaos]

WORKERS = 6

OLD = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
    "NUMBA_CPU_NAME": "nehalem",
    "NUMBA_CPU_FEATURES": "+cx16,+popcnt,+sse4.1,+sse4.2,+ssse3",
}
"""A machine of 2008: no AVX, no fused multiply-add."""

MACHINES = {
    "old": (Circumstances(environment={**OLD, "OMP_NUM_THREADS": "3"}), ("--cpus", 1)),
    "middle": (
        Circumstances(
            environment={
                "ATEN_CPU_CAPABILITY": "avx2",
                "ONEDNN_MAX_CPU_ISA": "AVX2",
                "MKL_CBWR": "AVX2",
                "NUMBA_CPU_NAME": "haswell",
                "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+cx16,+f16c,+fma,+lzcnt,+movbe,+popcnt,+sse4.2",
                "OMP_NUM_THREADS": "1",
            }
        ),
        (),
    ),
    "any": (Circumstances(environment={"NUMBA_CPU_NAME": "generic", "OMP_NUM_THREADS": "2"}), ("--cpus", 2)),
    "this": (Circumstances(), ()),
}

LONGEST = 900.0
"""Seconds until everybody has compiled the kernels, where nobody had, or has done so under emulation."""


def has(feature: str) -> bool:
    return f" {feature} " in Path("/proc/cpuinfo").read_text().replace("\n", " ")


needs_avx2 = pytest.mark.skipif(not has("avx2"), reason="this processor has no AVX2 that could be taken away")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    return write_recipe(path, epochs=1, workers=WORKERS, batch_size=300, hidden=16, arithmetic="exact")


@pytest.fixture(scope="module")
def local(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The parameters of the same run on this machine alone."""
    return podlt.api.train(load_recipe(recipe), run=tmp_path_factory.mktemp("local") / "run").parameters


@needs_avx2
def test_machines_of_all_ages_agree_bit_for_bit(tmp_path: Path, recipe: Path, local: bytes) -> None:
    with Stage(tmp_path, recipe, silence_timeout=120) as stage:
        stage.start_manager()
        for name, count in (("old", 2), ("middle", 2), ("any", 1), ("this", 1)):
            circumstances, options = MACHINES[name]
            stage.start_worker(name, "--identities", count, *options, circumstances=circumstances)
        stage.until(lambda: stage.rounds() > 0, LONGEST)
        state = stage.end(LONGEST)
        stage.nobody_left(state)
    assert len(state.workers) == WORKERS
    assert state.parameters == local


@needs_avx2
def test_an_emulated_machine_of_another_age_agrees_bit_for_bit(tmp_path: Path, recipe: Path, local: bytes) -> None:
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("qemu-x86_64 is not installed (apt-get install qemu-user)")
    # Numba's kernels are compiled here for that processor, and executed there: compiling is slow under emulation.
    compiled = Circumstances(environment={**OLD, "OMP_NUM_THREADS": "1"})
    environment = {**os.environ, **compiled.environment}
    command = [sys.executable, "-m", "podlt.exact.conformance"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    emulated = Circumstances((emulator, "-cpu", "Nehalem"), compiled.environment)
    with Stage(tmp_path, recipe, silence_timeout=300) as stage:
        stage.start_manager()
        stage.start_worker("emulated", "--cpus", 1, circumstances=emulated)
        stage.start_worker("this", "--identities", WORKERS - 1)
        stage.until(lambda: stage.rounds() > 0, LONGEST)
        state = stage.end(LONGEST)
        stage.nobody_left(state)
    assert len(state.workers) == WORKERS
    assert state.parameters == local


def test_workers_on_another_device_agree_bit_for_bit(tmp_path: Path, recipe: Path, local: bytes) -> None:
    with Stage(tmp_path, recipe, silence_timeout=120) as stage:
        stage.start_manager()
        stage.start_worker("device", "--device", "portable", "--identities", 2)
        stage.start_worker("this", "--identities", WORKERS - 2)
        stage.until(lambda: stage.rounds() > 0, LONGEST)
        state = stage.end(LONGEST)
        stage.nobody_left(state)
    assert len(state.workers) == WORKERS
    assert state.parameters == local


def test_a_device_that_is_not_there_ends_the_worker_before_it_connects(tmp_path: Path, recipe: Path) -> None:
    with Stage(tmp_path, recipe) as stage:
        stage.start_manager()
        stage.start_worker("absent", "--device", "cuda:7")
        assert stage.workers["absent"].end(LONGEST) == 2
        said = " ".join(stage.workers["absent"].text.split())
        assert "device cuda:7: expected" in said, said
        assert not stage.events("joined")


def test_a_machine_that_computes_other_bits_is_told_which_operation_differs(tmp_path: Path, recipe: Path) -> None:
    fresh = {"PODLT_CACHE": str(tmp_path / "cache")}  # what this machine was found to compute is remembered elsewhere
    otherwise = Circumstances(code=(str(Path(__file__).with_name("otherwise.py")),), environment=fresh)
    with Stage(tmp_path, recipe) as stage:
        stage.start_manager()
        stage.start_worker("wrong", circumstances=otherwise)
        assert stage.workers["wrong"].end(LONGEST) == 3
        said = " ".join(stage.workers["wrong"].text.split())
        assert "computes other bits: expected" in said and "first differing operation: silu" in said, said
        assert not stage.events("joined")


@needs_avx2
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="PyTorch uses no vectors here")
def test_stock_arithmetic_refuses_a_machine_of_another_age(tmp_path: Path) -> None:
    with Stage(tmp_path, write_recipe(tmp_path / "recipe.toml")) as stage:
        stage.start_manager()
        stage.start_worker("old", circumstances=Circumstances(environment=OLD))
        assert stage.workers["old"].end() == 3
        assert "computes other bits: expected" in " ".join(stage.workers["old"].text.split())
