"""What may change a machine's bits, in words: its processor, and what each library makes of it."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from podlt.exact.portable.devices import CPU, torch_device

SETTINGS = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "NPY_DISABLE_CPU_FEATURES",
    "NUMBA_CPU_FEATURES",
    "NUMBA_CPU_NAME",
    "NUMBA_ENABLE_AVX",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "TRITON_INTERPRET",
)
"""Environment variables by which the libraries choose their kernels."""

_CPUINFO = Path("/proc/cpuinfo")


def processor(device: str = CPU) -> str:
    """The name of the processor, or of the GPU with its compute capability."""
    at = torch_device(device)
    if at.type == "cuda":
        found = torch.cuda.get_device_properties(at)
        return f"{found.name} sm_{found.major}{found.minor}"
    text = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.is_file() else ""
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return name[1].strip() if name else platform.processor() or platform.machine() or "unknown"


def instruction_sets(device: str = CPU) -> str:
    """Which instructions torch, oneDNN, MKL and Numba use, each as it says itself; on a GPU the version of CUDA."""
    if torch_device(device).type == "cuda":
        return f"CUDA {torch.version.cuda}"
    mkl = re.search(r"Math Kernel Library Version (\S+?)-", torch.__config__.show())
    found = {
        "torch": torch.backends.cpu.get_cpu_capability(),
        "oneDNN": onednn_instruction_set(),
        "MKL": mkl[1] if mkl else "none",
        "Numba": numba_processor(),
    }
    return ", ".join(f"{name} {value}" for name, value in found.items())


def onednn_instruction_set() -> str:
    """What oneDNN uses, from the first lines that it writes when it is asked to tell; "unknown" if it stays silent.

    It writes them once a process and to the process's standard output alone.
    """
    written = re.search(r"cpu,isa:(?:Intel )?(.+)", _said_by_onednn())
    return written[1].strip() if written else "unknown"


def _said_by_onednn() -> str:
    rows = torch.ones((64, 64), dtype=torch.int8)
    library = ctypes.CDLL(None)
    with tempfile.TemporaryFile() as file:
        saved = os.dup(1)
        try:
            os.dup2(file.fileno(), 1)
            with torch.backends.mkldnn.verbose(1):  # type: ignore[no-untyped-call]
                torch._int_mm(rows, rows)
            library.fflush(None)
        finally:
            os.dup2(saved, 1)
            os.close(saved)
        file.seek(0)
        return file.read().decode("utf-8", "replace")


def numba_processor() -> str:
    """For which processor Numba compiles."""
    from llvmlite import binding
    from numba.core import config

    return str(config.CPU_NAME or binding.get_host_cpu_name())  # type: ignore[attr-defined]


def system() -> str:
    """The operating system and the machine's architecture."""
    library = " ".join(platform.libc_ver())
    return " ".join(part for part in (platform.system(), platform.machine(), library) if part)


def versions() -> dict[str, str]:
    """Of Python, and of the libraries that compute."""
    import numba
    import numpy as np

    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "numba": numba.__version__,
    }


def settings(environment: Mapping[str, str]) -> str:
    """Those of `SETTINGS` that are set."""
    return " ".join(f"{name}={environment[name]}" for name in SETTINGS if environment.get(name))
