"""The golden vectors and a few steps of training on other processors, emulated, and on other versions of torch.

Two of them are looked for where the environment says, and skipped where it does not:

    PODLT_TEST_AARCH64    a command that runs a Python for aarch64 with torch, NumPy, Numba, msgspec and blake3
    PODLT_TEST_PYTHONS    Pythons with other versions of torch and the same packages, separated by colons

How an aarch64 was made on Debian (no root of another machine is needed, and nothing of it is executed meanwhile):

    apt-get install qemu-user-static mmdebstrap
    mmdebstrap --variant=extract --mode=root --architectures=arm64 --include=python3,libgomp1,libstdc++6 bookworm ROOT
    pip download --no-deps --only-binary=:all: --python-version 3.11 --platform manylinux_2_28_aarch64 torch==2.8.0 ...
    # unpack the wheels into SITE, and let the command be a script with
    exec qemu-aarch64-static -L ROOT -E LD_LIBRARY_PATH=/lib/aarch64-linux-gnu:/usr/lib/aarch64-linux-gnu \
        -E PYTHONPATH="$PYTHONPATH:SITE" ROOT/usr/bin/python3.11 "$@"

Wheels of torch for aarch64 need NVIDIA's libraries from 2.11 on. Numba compiles under the emulator: six minutes at
first, kept in NUMBA_CACHE_DIR.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import run_program
from conformance_settings import OLD

from podlt import models
from podlt.exact import conformance
from podlt.program.capture import capture
from podlt.program.ir import FieldSpec
from podlt.program.losses import CLASSES_LAST

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parents[2] / "src"
PIXELS = [FieldSpec("x", "f32", (256,), None, "input"), FieldSpec("y", "i64", (), None, "label")]
WORDS = [FieldSpec("x", "i64", (8,), None, "input"), FieldSpec("y", "i64", (8,), None, "label")]
STEPS, CLASSES = 3, 10
AARCH64, PYTHONS = "PODLT_TEST_AARCH64", "PODLT_TEST_PYTHONS"
LONGEST = 3600
"""Seconds; a bound against hanging: emulated compilation takes some minutes."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of a small residual network's and a small transformer's programs."""
    folder = tmp_path_factory.mktemp("programs")
    made = [
        ("resnet", capture(models.resnet(16, width=4, blocks=1), "cross_entropy", PIXELS, arithmetic="exact/2")),
        ("gpt", capture(models.gpt(11, 8, 2, 1, 8, 0.1), CLASSES_LAST, WORDS, arithmetic="exact/2")),
    ]
    for name, captured in made:
        held = run_program.document(captured.program, STEPS, CLASSES)
        (folder / f"{name}.json").write_text(held, encoding="utf-8")
    return [str(folder / f"{name}.json") for name, _ in made]


def said(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a process prints that must end well."""
    path = os.pathsep.join(p for p in (str(SOURCE), os.environ.get("PYTHONPATH", "")) if p)
    everything = {**os.environ, "PYTHONPATH": path, **(environment or {})}
    child = subprocess.run(command, env=everything, capture_output=True, text=True, check=False, timeout=LONGEST)
    assert child.returncode == 0, child.stdout + child.stderr
    return child.stdout


def expect_the_same_bits(
    python: Sequence[str], note: str, programs: list[str], environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What the machine reports, after it computed the golden vectors and trained as this one does."""
    report = json.loads(said([*python, "-m", "podlt.execution.conformance_report", note], environment))
    assert report["result"] == "PASS"
    assert report["digest"] == conformance.total(conformance.vectors())
    here = [run_program.trained(json.loads(Path(path).read_text(encoding="utf-8"))) for path in programs]
    assert said([*python, run_program.__file__, *programs], environment).split() == here
    return report


def test_an_emulated_aarch64_computes_the_same_bits(programs):
    command = shlex.split(os.environ.get(AARCH64, ""))
    if not command:
        pytest.skip(f"{AARCH64} names no command that runs a Python for aarch64")
    report = expect_the_same_bits(command, "aarch64 emulated", programs)
    assert "aarch64" in report["system"]


def test_an_emulated_processor_without_avx_computes_the_same_bits(programs):
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if emulator is None:
        pytest.skip("qemu-x86_64 is not installed (apt-get install qemu-user-static)")
    here = [sys.executable]
    # Numba's kernels are compiled here for that processor and kept, for compiling is slow under emulation.
    said([*here, "-m", "podlt.execution.conformance_report"], OLD)
    said([*here, run_program.__file__, *programs], OLD)
    report = expect_the_same_bits([emulator, "-cpu", "Nehalem", *here], "Nehalem emulated", programs, OLD)
    assert "Numba nehalem" in report["instructions"]


def test_other_versions_of_torch_compute_the_same_bits(programs):
    pythons = [path for path in os.environ.get(PYTHONS, "").split(os.pathsep) if path]
    if not pythons:
        pytest.skip(f"{PYTHONS} names no Python with another version of torch")
    for python in pythons:
        expect_the_same_bits([python], "", programs)
